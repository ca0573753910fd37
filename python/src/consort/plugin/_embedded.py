"""A plugin within `consort-pyhost`: only its functions are Python's; calls come and go by way of the process's tickets.

The event loop has the main thread. It is woken by a file and takes what there is to do. Plain functions are called by
threads of the process, past the loop.
"""

import asyncio
import atexit
import contextvars
import faulthandler
import json
import logging
import os
import sys
import traceback
import types
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import ParseError

from consort._gen.blob.v1.payload_pb2 import Payload
from consort._gen.plugin.v1 import plugin_service_pb2 as pb
from consort.plugin._operation import JSON, Operation
from consort.plugin._printed import Printed, doing
from consort.plugin._reading import Problem
from consort.plugin._writing import encode
from consort.plugin.call import Call
from consort.plugin.errors import PluginError, failure_of, misfits
from consort.plugin.host import Host, RemoteHost

if TYPE_CHECKING:
    from consort.plugin.author import Plugin

log = logging.getLogger("consort.plugin")

# Of what Python and the process say to each other; `crates/consort-pyhost/src/native.rs` has the same.
INTERFACE = 1
_MODULE = "_consort_pyhost"
# How often the process hears that the loop turns, and when the stacks of all threads are printed because it does not.
_BEAT = 1.0
_HUNG = 5.0
_CALL, _CANCEL, _ROOM, _CONFIGURE, _FETCH, _END = range(6)
_DONE = object()


def native() -> Any | None:
    """The process, if it is `consort-pyhost`."""
    return sys.modules.get(_MODULE)


def main(script: str | os.PathLike[str]) -> int:
    """Runs a program as `python script` would, and serves what it has if it did not do so itself. The exit status."""
    process = sys.modules[_MODULE]
    theirs = getattr(process, "INTERFACE", None)
    if theirs != INTERFACE:
        problem = f"this consort-pyhost speaks version {theirs} of its interface, and consort-sdk speaks {INTERFACE}"
        print(f"{problem}; install the two of one version", file=sys.stderr)
        return 1
    path = Path(script)
    errors = sys.__stderr__ or sys.stderr
    sys.stdout, sys.stderr = Printed(errors), Printed(errors)
    sys.path.insert(0, str(path.resolve().parent))
    module = types.ModuleType("__main__")
    module.__file__ = str(path)
    sys.modules["__main__"] = module
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)  # noqa: S102
        if not process.served:
            _plugin_in(module.__dict__, path.name).serve()
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    except BaseException:  # Of the program, as an interpreter tells it.
        traceback.print_exc()
        return 1
    finally:
        atexit._run_exitfuncs()  # The process ends without the rest of an interpreter's end, which waits for threads.
    return 0


def _plugin_in(names: dict[str, Any], file: str) -> "Plugin":
    """The one plugin or adapter of a program that does not serve by itself."""
    from consort.plugin.adapter import Adapter  # noqa: PLC0415
    from consort.plugin.author import Plugin  # noqa: PLC0415

    found = [each for each in names.values() if isinstance(each, Plugin)]
    if not found:
        kinds = [each for each in names.values() if isinstance(each, type) and issubclass(each, Adapter)]
        found = [kind.plugin() for kind in kinds if kind.__module__ == "__main__"]
    if len(found) != 1:
        raise SystemExit(f"'{file}' has {len(found)} plugins and adapters; write one, or call serve() of the right one")
    return found[0]


def serve(plugin: "Plugin", process: Any) -> None:
    """Serves until the mesh ends the process."""
    if not logging.getLogger().handlers:
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    office = _Office(plugin, process)
    task = loop.create_task(office.main())
    task.add_done_callback(lambda _: loop.stop())
    while not task.done():
        try:
            loop.run_forever()
        except (KeyboardInterrupt, SystemExit) as error:
            # Raised by a task that a function made; the loop can go on.
            log.error("a task raised %r, which does not end a plugin", error)  # noqa: TRY400
    task.result()


def report(operation: str, call_id: str, thread: int) -> None:
    """Tells that a plain function does not stop, and where it is."""
    frame = sys._current_frames().get(thread)
    stack = "".join(traceback.format_stack(frame)) if frame else "  it has just ended\n"
    said = f"{operation} ({call_id}) goes on though it was cancelled 5 s ago; look at call.cancelled in it. It is at:"
    print(f"{said}\n{stack}", end="", file=sys.stderr)


class _Office:
    """Does calls. Its attributes are those of a call in a process of its own."""

    def __init__(self, plugin: "Plugin", process: Any) -> None:
        self._plugin = plugin
        self._process = process
        self._permissions = pb.Permissions()
        self._config: Any = None
        self._values: dict[int, Any] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._rooms: dict[int, asyncio.Event] = {}
        self._parked: dict[int, tuple[Any, Call | None]] = {}
        self._over = asyncio.Event()
        data = os.environ.get("CONSORT_PLUGIN_DATA", "")
        self._data = Path(data) if data else None
        self._host: Host

    async def main(self) -> None:
        """Serves until the process says that it is over."""
        loop = asyncio.get_running_loop()
        socket, token = os.environ.get("CONSORT_HOST_SOCKET", ""), os.environ.pop("CONSORT_PLUGIN_TOKEN", "")
        self._host = RemoteHost(socket, token) if socket else Host()
        plugin = self._plugin
        operations = [
            (each.name, not each.kind.startswith("async"), each.dry_run) for each in plugin.operations.values()
        ]
        hello = plugin.hello().SerializeToString()
        run = self._in_context
        wake = self._process.start(hello, operations, plugin._threads, plugin._calls, run)
        loop.add_reader(wake, self._take)
        self._beat(loop)
        await self._over.wait()
        faulthandler.cancel_dump_traceback_later()
        await self._host.close()

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        self._process.beat()
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback_later(_HUNG, file=sys.__stderr__)
        loop.call_later(_BEAT, self._beat, loop)

    def _take(self) -> None:
        for what, ticket in self._process.take():
            if what == _CALL:
                self._begin(ticket, self._perform)
            elif what == _CANCEL:
                if task := self._tasks.get(ticket.id):
                    task.cancel()
            elif what == _ROOM:
                if room := self._rooms.get(ticket.id):
                    room.set()
            elif what == _CONFIGURE:
                self._begin(ticket, self._configure)
            elif what == _FETCH:
                self._begin(ticket, self._fetch)
            elif what == _END:
                self._over.set()

    def _begin(self, ticket: Any, perform: Callable[[Any], Any]) -> None:
        task = asyncio.get_running_loop().create_task(perform(ticket))
        self._tasks[ticket.id] = task
        task.add_done_callback(lambda _: self._tasks.pop(ticket.id, None))

    async def _configure(self, ticket: Any) -> None:
        plugin = self._plugin
        try:
            config = json.loads(ticket.text)
            if plugin._read_config is None:
                if config:
                    told = "is unknown; this plugin takes no configuration"
                    raise misfits([Problem(name, told) for name in config], "config")  # noqa: TRY301
                found: Any = {}
            else:
                problems: list[Problem] = []
                found = plugin._read_config(config, "", problems)
                if problems:
                    raise misfits(problems, "config")  # noqa: TRY301
            self._permissions = pb.Permissions.FromString(ticket.raw)
            self._config = found
            if plugin._on_configure is not None:
                if asyncio.iscoroutinefunction(plugin._on_configure):
                    await plugin._on_configure(found)
                else:
                    await asyncio.to_thread(plugin._on_configure, found)
        except BaseException as error:
            self._fail(ticket, error, "Configure")
        else:
            ticket.finish("null", "", [], [])

    async def _fetch(self, ticket: Any) -> None:
        """Gets an input that came as a blob."""
        operation = self._plugin.operations[ticket.operation]
        try:
            self._values[ticket.id] = await self._host.fetch(Payload.FromString(ticket.raw))
        except BaseException as error:
            if isinstance(error, json.JSONDecodeError | ParseError | RecursionError):
                error = PluginError("INVALID_ARGUMENT", f"the input is no JSON: {error}", field="input")
            self._fail(ticket, error, operation.name)
            return
        if operation.kind.startswith("async"):
            await self._perform(ticket)
        else:
            ticket.ready()

    async def _perform(self, ticket: Any) -> None:
        """Does an async function."""
        operation = self._plugin.operations[ticket.operation]
        doing.set(operation.name)
        try:
            call, arguments = self._prepare(ticket, operation)
            if operation.kind == "async":
                self._finish(ticket, call, await operation.function(**arguments), operation)
                return
            room = self._rooms[ticket.id] = asyncio.Event()
            generator = operation.function(**arguments)
            try:
                async for piece in generator:
                    room.clear()
                    if not ticket.piece(_bytes_of(piece)):
                        await room.wait()
            finally:
                await generator.aclose()
            self._streamed(ticket, call, operation)
        except BaseException as error:
            self._fail(ticket, error, operation.name)
        finally:
            self._rooms.pop(ticket.id, None)

    def _in_context(self, ticket: Any) -> None:
        """Does a plain function, in a thread of the process; a generator for as long as there is room."""
        contextvars.Context().run(self._perform_plain, ticket)

    def _perform_plain(self, ticket: Any) -> None:
        operation = self._plugin.operations[ticket.operation]
        doing.set(operation.name)
        try:
            if parked := self._parked.pop(ticket.id, None):
                generator, call = parked
            elif ticket.is_set():
                self._values.pop(ticket.id, None)
                raise PluginError("CANCELLED", f"'{operation.name}' was cancelled")  # noqa: TRY301
            else:
                call, arguments = self._prepare(ticket, operation)
                if operation.kind == "plain":
                    self._finish(ticket, call, operation.function(**arguments), operation)
                    return
                generator = operation.function(**arguments)
            self._go_on(ticket, operation, generator, call)
        except BaseException as error:
            self._fail(ticket, error, operation.name)

    def _go_on(self, ticket: Any, operation: Operation, generator: Any, call: Call | None) -> None:
        while not ticket.is_set():
            if (piece := next(generator, _DONE)) is _DONE:
                self._streamed(ticket, call, operation)
                return
            piece = _bytes_of(piece)
            self._parked[ticket.id] = (generator, call)
            if not ticket.piece(piece) and not ticket.is_set():
                return  # Taken up again when there is room, perhaps by another thread and by now.
            if self._parked.pop(ticket.id, None) is None:
                return  # Another thread closes it.
        generator.close()
        raise PluginError("CANCELLED", f"'{operation.name}' was cancelled")

    def _prepare(self, ticket: Any, operation: Operation) -> tuple[Call | None, dict[str, Any]]:
        if operation.call_parameter is None:
            return None, operation.arguments(None, self._input(ticket))
        left = ticket.remaining
        call = Call(
            ticket,
            emit=lambda message: ticket.emit(message.SerializeToString()),
            deadline=None if left is None else datetime.now(UTC) + timedelta(seconds=left),
            config=self._config,
            permissions=self._permissions,
            host=self._host,
            data=self._data,
            media_type=operation.media_type,
            stopped=ticket,
        )
        return call, operation.arguments(call, self._input(ticket))

    def _input(self, ticket: Any) -> Any:
        text = ticket.text
        if text is None:
            return self._values.pop(ticket.id)
        try:
            return json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise PluginError("INVALID_ARGUMENT", f"the input is no JSON: {error}", field="input") from error

    def _finish(self, ticket: Any, call: Call | None, output: Any, operation: Operation) -> None:
        would, did = (call.plans, call.actions) if call else ([], [])
        if isinstance(output, bytes | bytearray | memoryview):
            ticket.finish(_bytes_of(output), call.media_type if call else operation.media_type, would, did)
            return
        try:
            text = encode(output)
        except (TypeError, ValueError, RecursionError) as error:
            raise PluginError("INTERNAL", f"the result is no JSON: {error}", reason="OUTPUT_INVALID") from error
        ticket.finish(text, JSON, would, did)

    def _streamed(self, ticket: Any, call: Call | None, operation: Operation) -> None:
        would, did = (call.plans, call.actions) if call else ([], [])
        ticket.finish(None, call.media_type if call else operation.media_type, would, did)

    def _fail(self, ticket: Any, error: BaseException, what: str) -> None:
        """Ends a call as its exception says. One that would end a program ends the call alone."""
        if isinstance(error, asyncio.CancelledError):
            error = PluginError("CANCELLED", f"'{what}' was cancelled")
        failure = failure_of(error)
        if failure is not error and not ticket.is_set():
            log.error("%s (%s) failed", what, ticket.call_id, exc_info=error)
        status = failure.to_status()
        ticket.fail(status.code, status.message, status.SerializeToString())


def _bytes_of(piece: Any) -> bytes:
    if isinstance(piece, bytes):
        return piece
    if not isinstance(piece, bytearray | memoryview):
        raise PluginError("INTERNAL", f"the function yields {type(piece).__name__}; yield bytes")
    return bytes(piece)
