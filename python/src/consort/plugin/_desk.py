"""Where calls are done: the threads, the configuration and the calls in work of one process."""

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from consort._gen.plugin.v1 import plugin_service_pb2 as pb
from consort.plugin._operation import Operation
from consort.plugin._reading import Problem, Reader
from consort.plugin._work import Work
from consort.plugin.errors import PluginError, misfits
from consort.plugin.host import Host

# How long calls that were cancelled may take to notice.
_FAREWELL = 1.0


class Desk:
    """Does calls, at most `calls` at once, plain functions in at most `threads` threads.

    Threads cannot be stopped: `busy_threads` counts those in functions, `lost_threads` those of them for which nobody
    waits any more. When all are lost, plain functions are refused, and health is NOT_SERVING.
    """

    def __init__(
        self,
        name: str,
        operations: Mapping[str, Operation],
        read_config: Reader | None,
        on_configure: Callable[..., Any] | None,
        *,
        threads: int,
        calls: int,
        host: Host,
    ) -> None:
        self.busy_threads = 0
        self.lost_threads = 0
        self.draining = False
        self.host = host
        self.permissions = pb.Permissions()
        self.data: Path | None = None
        self.config: Any = None
        self._name = name
        self._operations = operations
        self._read_config = read_config
        self._on_configure = on_configure
        self._configured = False
        self._calls = calls
        self._most_threads = threads
        self._works: set[Work] = set()
        self._changed = asyncio.Event()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"plugin-{name}")
        self._counting = threading.Lock()

    async def configure(self, config: Mapping[str, Any], permissions: pb.Permissions) -> None:
        """Takes the operator's configuration. PluginError INVALID_ARGUMENT names every field that does not fit."""
        if self._read_config is None:
            if config:
                told = "is unknown; this plugin takes no configuration"
                raise misfits([Problem(name, told) for name in config], "config")
            found: Any = {}
        else:
            problems: list[Problem] = []
            found = self._read_config(dict(config), "", problems)
            if problems:
                raise misfits(problems, "config")
        self.permissions = permissions
        self.config = found
        if self._on_configure is not None:
            if inspect.iscoroutinefunction(self._on_configure):
                await self._on_configure(found)
            else:
                await self.in_thread(self._on_configure, found)
        self._configured = True

    async def begin(self, request: pb.InvokeRequest, deadline: datetime | None) -> Work:
        """Begins a call. PluginError says why it is not done."""
        operation = self._operations.get(request.operation)
        if operation is None:
            known = ", ".join(self._operations)
            problem = f"'{self._name}' has no operation '{request.operation}'; it has {known}"
            raise PluginError("NOT_FOUND", problem, reason="NO_OPERATION")
        if self.draining:
            raise PluginError("UNAVAILABLE", f"'{self._name}' is about to end", reason="PLUGIN_DRAINING")
        if len(self._works) >= self._calls:
            problem = f"'{self._name}' does {self._calls} calls already; try again"
            raise PluginError("RESOURCE_EXHAUSTED", problem, reason="PLUGIN_BUSY")
        if self.is_stuck and not operation.kind.startswith("async"):
            problem = (
                f"'{self._name}' has no thread left: each is in a function that did not stop when it was cancelled"
            )
            raise PluginError("RESOURCE_EXHAUSTED", problem, reason="PLUGIN_STUCK")
        if request.dry_run and not operation.dry_run:
            problem = f"'{operation.name}' cannot say what it would do"
            raise PluginError("FAILED_PRECONDITION", problem, reason="NO_DRY_RUN")
        if not self._configured:
            await self._configure_without_words()
        work = Work(self, operation, request, deadline)
        self._works.add(work)
        work.task.add_done_callback(functools.partial(self._ended, work))
        return work

    @property
    def is_stuck(self) -> bool:
        """Whether every thread is in a function that did not stop when it was cancelled."""
        return self.lost_threads >= self._most_threads

    async def drain(self, grace: float) -> int:
        """Takes nothing new, and returns when nothing is in work: how many calls had to be cancelled for it."""
        self.draining = True
        await self._until_idle(grace)
        cancelled = len(self._works)
        for work in list(self._works):
            work.stop()
        await self._until_idle(_FAREWELL)
        return cancelled

    async def in_thread(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Calls a plain function in a thread, with this task's context variables."""
        run = _Run(self, functools.partial(function, *arguments, **named))
        inside = functools.partial(contextvars.copy_context().run, run)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, inside)
        except asyncio.CancelledError:
            run.lose()
            raise

    def close(self) -> None:
        """Ends the threads that have nothing to do."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _configure_without_words(self) -> None:
        """Whoever starts a plugin may leave out Configure where nothing must be said."""
        try:
            await self.configure({}, pb.Permissions())
        except PluginError as error:
            raise PluginError("FAILED_PRECONDITION", f"not configured: {error.message}") from error

    async def _until_idle(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while self._works:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return

    def _ended(self, work: Work, _task: Any) -> None:
        self._works.discard(work)
        self._changed.set()


class _Run:
    """A plain function in a thread, counted while it runs, and as lost when nobody waits for it."""

    def __init__(self, desk: Desk, call: Callable[[], Any]) -> None:
        self._desk = desk
        self._call = call
        self._runs = False
        self._lost = False

    def lose(self) -> None:
        """Nobody waits for it any more."""
        with self._desk._counting:
            if self._runs and not self._lost:
                self._lost = True
                self._desk.lost_threads += 1

    def __call__(self) -> Any:
        desk = self._desk
        with desk._counting:
            self._runs = True
            desk.busy_threads += 1
        try:
            return self._call()
        except StopIteration as error:
            raise RuntimeError("the function raised StopIteration") from error  # A future cannot carry it.
        finally:
            with desk._counting:
                self._runs = False
                desk.busy_threads -= 1
                desk.lost_threads -= self._lost
