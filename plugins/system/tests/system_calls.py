"""Calls of the plugin with grants, for its tests."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from consort._gen.plugin.v1.plugin_service_pb2 import Permissions
from consort.plugin import PluginError
from consort.plugin.testing import Outcome, invoke
from machine.operations import plugin


@dataclass
class Caller:
    """Calls operations with what is granted here; `data` is the plugin's folder."""

    data: Path
    capabilities: Sequence[str] = ()
    exec: Sequence[str] = ()
    fs_read: Sequence[str] = ()
    env: Sequence[str] = ()
    config: dict[str, Any] = field(default_factory=dict)

    def outcome(self, operation: str, *, dry_run: bool = False, timeout: float = 20.0, **values: Any) -> Outcome:
        granted = Permissions(
            capabilities=self.capabilities, exec=self.exec, fs_read=self.fs_read, env=self.env, fs_write=[]
        )
        return invoke(
            plugin,
            operation,
            values,
            permissions=granted,
            config=self.config,
            data=self.data,
            dry_run=dry_run,
            timeout=timeout,
        )

    def __call__(self, operation: str, **values: Any) -> Any:
        return self.outcome(operation, **values).output

    def refused(self, operation: str, **values: Any) -> PluginError:
        with pytest.raises(PluginError) as caught:
            self(operation, **values)
        return caught.value

    def code(self, operation: str, **values: Any) -> tuple[str, str]:
        error = self.refused(operation, **values)
        return error.code.name, error.reason


@contextlib.contextmanager
def started(caller: Caller, *argv: str, **values: Any) -> Any:
    """A program that is started, and stopped in the end."""
    found = caller("start", program=argv[0], arguments=list(argv[1:]), **values)
    try:
        yield found
    finally:
        caller("stop", job=found["job"], grace=0)
