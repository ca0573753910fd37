"""Lets the tests import what they test, and gives them an engine."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from docker_calls import Caller
from fake_engine import FakeEngine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    """An engine."""
    with FakeEngine(tmp_path / "docker.sock") as found:
        yield found


@pytest.fixture
def caller(engine: FakeEngine, tmp_path: Path) -> Caller:
    """Who calls."""
    data = tmp_path / "data"
    data.mkdir()
    return Caller(engine.path, data)
