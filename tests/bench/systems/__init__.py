"""What is measured: Consort, what could be used instead, and the ceiling of the design on this machine."""

from pathlib import Path

from bench.systems.base import Deployment, System, Work
from bench.systems.consort import Consort
from bench.systems.restate import Restate
from bench.systems.shape import Shape
from bench.systems.temporal import Temporal

__all__ = ["Consort", "Deployment", "System", "Work", "every"]


def every(consort: Path, cache: Path) -> list[System]:
    """All systems, ours first."""
    return [Consort(consort), Restate(cache), Temporal(cache), Shape(cache)]
