"""Calls of the plugin, with what an operator would grant."""

from pathlib import Path
from typing import Any

import pytest

from consort._gen.plugin.v1.plugin_service_pb2 import Permissions
from consort.plugin import PluginError
from consort.plugin.testing import Outcome, invoke
from engine import transport
from engine.operations import plugin

OWN = {"dev.consort.owner": "consort"}
ALL = ["inspect", "images", "build", "containers", "exec", "volumes", "networks"]


class Caller:
    """Calls operations at the engine of a socket. `config` and `granted` may be changed."""

    def __init__(self, socket: Path, data: Path) -> None:
        transport._versions.clear()
        self.data = data
        self.config: dict[str, Any] = {"host": f"unix://{socket}", "images": ["alpine"], "timeout_s": 5.0}
        self.granted = Permissions(capabilities=ALL, fs_write=[str(socket)])
        self.secrets = {"docker-registry": "hunter2"}

    def outcome(self, operation: str, **values: Any) -> Outcome:
        """All that a call told. `_key`, `_dry` and `_timeout` are about the call."""
        options = {
            "idempotency_key": values.pop("_key", ""),
            "dry_run": values.pop("_dry", False),
            "timeout": values.pop("_timeout", 30.0),
        }
        return invoke(
            plugin,
            operation,
            values,
            config=self.config,
            permissions=self.granted,
            secrets=self.secrets,
            data=self.data,
            **options,
        )

    def __call__(self, operation: str, **values: Any) -> Any:
        """What a call yielded."""
        return self.outcome(operation, **values).output

    def refused(self, operation: str, **values: Any) -> PluginError:
        """How a call failed."""
        with pytest.raises(PluginError) as caught:
            self(operation, **values)
        return caught.value

    def code(self, operation: str, **values: Any) -> tuple[str, str]:
        """Code and reason of a failure."""
        error = self.refused(operation, **values)
        return error.code.name, error.reason
