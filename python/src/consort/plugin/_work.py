"""One call in work: its function runs beside what carries its messages."""

import asyncio
import json
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from consort._gen.blob.v1.payload_pb2 import Payload
from consort._gen.plugin.v1 import plugin_service_pb2 as pb
from consort._values import decode_inline
from consort.plugin._operation import JSON, Operation
from consort.plugin._writing import encode
from consort.plugin.call import Call
from consort.plugin.errors import PluginError
from consort.plugin.host import Host

CHUNK = 1024 * 1024
# Messages that wait for a slow receiver: what is more makes room by forgetting the oldest, and logs say how many went.
_MOST_WAITING = 256
# Chunks that wait: the function waits for room.
_CHUNKS_WAITING = 2
_END = object()


class Office(Protocol):
    """What a call needs of the process that does it."""

    config: Any
    permissions: pb.Permissions
    host: Host
    data: Path | None

    async def in_thread(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Calls a plain function in a thread."""
        ...


class Work:
    """A call in work. Made on the event loop, where it begins by itself; `messages` must be read to its end."""

    def __init__(
        self, office: Office, operation: Operation, request: pb.InvokeRequest, deadline: datetime | None
    ) -> None:
        self.call = Call(
            request,
            emit=self._emit,
            deadline=deadline,
            config=office.config,
            permissions=office.permissions,
            host=office.host,
            data=office.data,
            media_type=operation.media_type,
        )
        self._office = office
        self._operation = operation
        self._input = request.input
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._waiting: deque[pb.InvokeResponse] = deque()
        self._lock = threading.Lock()
        self._forgotten = 0
        self._sent = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Semaphore(_CHUNKS_WAITING)
        self.task = asyncio.create_task(self._perform())
        self.task.add_done_callback(lambda _: self._changed.set())

    def stop(self) -> None:
        """Cancels it. A plain function ends when it looks."""
        self.call._stop()
        self.task.cancel()

    async def messages(self) -> AsyncGenerator[pb.InvokeResponse, None]:
        """What it tells, as it comes, and its result. Raises what the function raised; stops it if nobody listens."""
        try:
            while True:
                self._changed.clear()
                is_over = self.task.done()
                while self._waiting:
                    yield self._next()
                if is_over:
                    break
                await self._changed.wait()
            if self.task.cancelled():
                raise PluginError("CANCELLED", f"'{self._operation.name}' was cancelled")
            yield pb.InvokeResponse(result=self.task.result())
        finally:
            self.stop()

    async def _perform(self) -> pb.Result:
        arguments = self._operation.arguments(self.call, await self._read())
        function, kind = self._operation.function, self._operation.kind
        if kind == "async":
            output = await function(**arguments)
        elif kind == "plain":
            output = await self._office.in_thread(function, **arguments)
        else:
            await self._stream(function(**arguments), is_async=kind == "async generator")
            return await self._streamed()
        if isinstance(output, bytes | bytearray | memoryview):
            await self._send(memoryview(output))
            return await self._streamed()
        try:
            text = encode(output)
        except (TypeError, ValueError, RecursionError) as error:
            raise PluginError("INTERNAL", f"the result is no JSON: {error}", reason="OUTPUT_INVALID") from error
        if len(text) * 4 > CHUNK and len(data := text.encode()) > CHUNK:
            del text, output
            await self._send(memoryview(data))
            return self._result(None, JSON)
        return self._result(Payload(json=text), "")

    async def _read(self) -> Any:
        kind = self._input.WhichOneof("kind")
        try:
            if kind == "blob":
                return await self._office.host.fetch(self._input)
            return {} if kind is None else decode_inline(self._input)
        except (json.JSONDecodeError, RecursionError) as error:
            raise PluginError("INVALID_ARGUMENT", f"the input is no JSON: {error}", field="input") from error

    async def _stream(self, generator: Any, *, is_async: bool) -> None:
        """Sends what a generator yields; it goes on when there is room."""
        try:
            if is_async:
                async for piece in generator:
                    await self._send(_bytes_of(piece))
            else:
                while (piece := await self._office.in_thread(next, generator, _END)) is not _END:
                    await self._send(_bytes_of(piece))
        finally:
            if is_async:
                await generator.aclose()
            elif not generator.gi_running:
                generator.close()

    async def _streamed(self) -> pb.Result:
        """The result of a stream; one without bytes has an empty chunk, so that it is a stream all the same."""
        if not self._sent:
            await self._send_one(b"")
        return self._result(None, self.call.media_type)

    async def _send(self, data: memoryview) -> None:
        for start in range(0, len(data), CHUNK):
            await self._send_one(bytes(data[start : start + CHUNK]))

    async def _send_one(self, data: bytes) -> None:
        await self._room.acquire()
        self._sent += 1
        self._waiting.append(pb.InvokeResponse(chunk=data))
        self._changed.set()

    def _result(self, output: Payload | None, media_type: str) -> pb.Result:
        return pb.Result(output=output, media_type=media_type, would=self.call.plans, actions=self.call.actions)

    def _emit(self, message: pb.InvokeResponse) -> None:
        """Takes a message, from any thread."""
        if self.call._stopped.is_set():
            return
        with self._lock:
            if len(self._waiting) >= _MOST_WAITING:
                self._forget()
            self._waiting.append(message)
        if threading.get_ident() == self._thread:
            self._changed.set()
        else:
            try:
                self._loop.call_soon_threadsafe(self._changed.set)
            except RuntimeError:
                return  # The loop is closed: the function outlived the process's end.

    def _forget(self) -> None:
        """Makes room by dropping the oldest message that is no chunk."""
        for index, message in enumerate(self._waiting):
            if not message.HasField("chunk"):
                del self._waiting[index]
                self._forgotten += message.HasField("log")
                return

    def _next(self) -> pb.InvokeResponse:
        with self._lock:
            message = self._waiting.popleft()
            if self._forgotten and message.HasField("log"):
                message.log.message = f"({self._forgotten} lines before this one were lost) {message.log.message}"
                self._forgotten = 0
        if message.HasField("chunk"):
            self._room.release()
        return message


def _bytes_of(piece: Any) -> memoryview:
    if not isinstance(piece, bytes | bytearray | memoryview):
        raise PluginError("INTERNAL", f"the function yields {type(piece).__name__}; yield bytes")
    return memoryview(piece)
