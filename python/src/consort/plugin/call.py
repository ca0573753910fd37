"""A call of an operation, as the function that does it sees it."""

import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from consort._gen.plugin.v1 import plugin_service_pb2 as pb
from consort._net import now
from consort.errors import cut
from consort.plugin.errors import PluginError
from consort.plugin.host import Host

Level = Literal["debug", "info", "warn", "error"]
_LEVELS = ("debug", "info", "warn", "error")
_LINE = 1024
_LOG_LINE = 8 * 1024
_MOST_LINES = 1000


class Origin(NamedTuple):
    """On whose behalf a call is made; empty texts: nobody's. All are names of resources."""

    namespace: str = ""
    step: str = ""
    agent: str = ""


class Asked(Protocol):
    """What a call needs of its request."""

    @property
    def operation(self) -> str: ...  # noqa: D102
    @property
    def call_id(self) -> str: ...  # noqa: D102
    @property
    def idempotency_key(self) -> str: ...  # noqa: D102
    @property
    def dry_run(self) -> bool: ...  # noqa: D102
    @property
    def origin(self) -> Any: ...  # noqa: D102


class Stopped(Protocol):
    """Whether nobody waits for the result any more."""

    def is_set(self) -> bool: ...  # noqa: D102
    def wait(self, timeout: float, /) -> bool: ...  # noqa: D102


class Call:
    """One call of an operation.

    `operation` is its name, `id` a UUID for logs, `idempotency_key` equal for all tries of the same call: hand it to
    receivers that can tell repeats. With `dry_run` the function says what it `would` do and does nothing. `deadline` is
    when the caller stops waiting, in UTC, None if never. `config` is the operator's configuration, of the type that
    the plugin named, or a dict. `permissions` is what is granted. `host` is the mesh. `media_type` is that of the bytes
    the function yields; it may be set before the first.

    Everything here may be called from any thread and never waits, but for `sleep` and what `host` does.
    """

    __slots__ = (
        "_data",
        "_emit",
        "_stopped",
        "actions",
        "config",
        "deadline",
        "dry_run",
        "host",
        "id",
        "idempotency_key",
        "media_type",
        "operation",
        "origin",
        "permissions",
        "plans",
    )

    def __init__(
        self,
        request: Asked,
        *,
        emit: Callable[[pb.InvokeResponse], None],
        deadline: datetime | None,
        config: Any,
        permissions: pb.Permissions,
        host: Host,
        data: Path | None,
        media_type: str,
        stopped: Stopped | None = None,
    ) -> None:
        self.operation: str = request.operation
        self.id: str = request.call_id
        self.idempotency_key: str = request.idempotency_key
        self.dry_run: bool = request.dry_run
        origin = request.origin
        self.origin = Origin(origin.namespace, origin.step, origin.agent)
        self.deadline = deadline
        self.config = config
        self.permissions = permissions
        self.host = host
        self.media_type = media_type
        self.plans: list[str] = []
        self.actions: list[str] = []
        self._data = data
        self._emit = emit
        self._stopped: Stopped = stopped or threading.Event()

    @property
    def data(self) -> Path:
        """The plugin's own folder, which stays when it is started anew. FAILED_PRECONDITION if it was given none."""
        if self._data is None:
            raise PluginError("FAILED_PRECONDITION", "the plugin has no folder of its own", reason="NO_DATA_FOLDER")
        return self._data

    @property
    def cancelled(self) -> bool:
        """Nobody waits for the result any more. Async functions are cancelled besides, as asyncio tasks are."""
        return self._stopped.is_set() or self.remaining <= 0

    def raise_if_cancelled(self) -> None:
        """Ends the function if nobody waits for its result: PluginError CANCELLED, or DEADLINE_EXCEEDED."""
        if self.remaining <= 0:
            raise PluginError("DEADLINE_EXCEEDED", f"'{self.operation}' took longer than its caller waits")
        if self._stopped.is_set():
            raise PluginError("CANCELLED", f"'{self.operation}' was cancelled by its caller")

    def sleep(self, seconds: float) -> None:
        """Waits, in a plain function, and ends it as `raise_if_cancelled` does as soon as nobody waits for it."""
        self._stopped.wait(max(0.0, min(seconds, self.remaining)))
        self.raise_if_cancelled()

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; infinite without one."""
        return math.inf if self.deadline is None else (self.deadline - datetime.now(UTC)).total_seconds()

    def progress(self, fraction: float | None, message: str = "") -> None:
        """Says how far the call is, from 0 to 1, or None if that is unknown. ValueError outside of that."""
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"fraction: {fraction} is not between 0 and 1")
        progress = pb.Progress(fraction=-1.0 if fraction is None else fraction, message=cut(message, _LINE))
        self._emit(pb.InvokeResponse(progress=progress))

    def log(self, level: Level, message: str) -> None:
        """Writes a line into the call's log; what is longer than 8 KiB is cut."""
        if level not in _LEVELS:
            raise ValueError(f"level: {level!r} is none of {', '.join(_LEVELS)}")
        self._emit(pb.InvokeResponse(log=pb.Log(time=now(), level=level, message=cut(message, _LOG_LINE))))

    def would(self, line: str) -> None:
        """In a dry run, says what would be done: a line an action. RuntimeError outside of one."""
        if not self.dry_run:
            raise RuntimeError(f"would: '{self.operation}' is no dry run; do it, and say so with did()")
        _note(self.plans, line)

    def did(self, line: str) -> None:
        """Says what was done to the world, for the audit log: a line an action. RuntimeError in a dry run."""
        if self.dry_run:
            raise RuntimeError(f"did: '{self.operation}' is a dry run, which does nothing; say what it would() do")
        _note(self.actions, line)

    def _stop(self) -> None:
        if isinstance(self._stopped, threading.Event):  # What else it may be is set by whoever made it.
            self._stopped.set()


def _note(lines: list[str], line: str) -> None:
    """Adds a line; after 1,000 the last one counts the others."""
    if len(lines) < _MOST_LINES:
        lines.append(cut(line, _LINE))
    else:
        lines[-1] = "… and more"
