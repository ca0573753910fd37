"""An answer of a model as it comes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from consort._net import pauses
from consort.errors import CallLostError, RpcError, from_rpc
from consort.reply import Delta, Gather, Reply, TextDelta

_T = TypeVar("_T")
_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]
# How long the end of a call may come after its last piece.
_GOODBYE = 1.0
_ASYNCHRONOUS = "this stream is asynchronous; write `async with` and `async for`"
# With this the mesh says that it cannot answer now. Without a reason it is the connection that broke. Other reasons are
# of models that failed, for which the mesh has tried again, and tried others, already.
_NOT_NOW = "UNAVAILABLE"


def _error_of(error: grpc.aio.AioRpcError, *, for_task: bool) -> RpcError:
    found = from_rpc(error)
    if for_task and found.code is grpc.StatusCode.UNAVAILABLE and not found.reason:
        return CallLostError(found.code, found.message, "", {})
    return found


def _is_passing(error: RpcError) -> bool:
    """Whether a call may be made again: the mesh was not there, or said that it did nothing."""
    if isinstance(error, CallLostError) or error.code is not grpc.StatusCode.UNAVAILABLE:
        return False
    return error.reason in ("", _NOT_NOW)


async def persist(attempt: Callable[[], Awaitable[_T]], patience: float, *, for_task: bool = False) -> _T:
    """Calls a model until the mesh is there, for `patience` seconds at most. RpcError says why there is no answer.

    A call on behalf of a task is not made again when it is not known what became of it: CallLostError.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + patience
    waits = pauses(0.1, 5.0)
    while True:
        try:
            return await attempt()
        except grpc.aio.AioRpcError as error:
            found = _error_of(error, for_task=for_task)
            pause = next(waits)
            if not _is_passing(found) or clock() + pause > end:
                raise found from error
        await asyncio.sleep(pause)


class ReplyStream:
    """An answer as it comes: an async iterator of its pieces, and afterwards `reply`, the whole.

    Use it as `async with mesh.stream(...) as stream: async for delta in stream`, so that it is closed when you leave it
    early: the model stops then. Only `texts` gives nothing but text, and `whole` reads to the end. It begins with the
    first piece asked for. Until one has come, it is asked for again while the mesh is away; RpcError later and for
    every other failure, and what came before stands.

    In plain handlers `Task.stream` gives one for `with` and `for`; `whole` is called without `await` there.
    """

    def __init__(
        self,
        begin: Callable[[], Any],
        *,
        is_json: bool,
        patience: float,
        for_task: bool = False,
        wait: Callable[[Coroutine[Any, Any, Any]], Any] | None = None,
        soon: Callable[[Callable[[], None]], Any] | None = None,
    ) -> None:
        self._begin = begin
        self._gather = Gather(is_json=is_json)
        self._patience = patience
        self._for_task = for_task
        self._wait = wait
        self._soon = soon
        self._call: Any = None
        self._has_begun = self._is_over = False
        self._reply: Reply | None = None

    @property
    def reply(self) -> Reply:
        """The whole answer. RuntimeError before the last piece has come."""
        if self._reply is None:
            raise RuntimeError("the answer is not whole; read the stream to its end first")
        return self._reply

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self

    async def __anext__(self) -> Delta:
        while not self._is_over:
            try:
                answer = await self._read()
                found = None if answer is None else self._gather.push(answer.delta)
            except grpc.aio.AioRpcError as error:
                self._hang_up()
                raise _error_of(error, for_task=self._for_task) from error
            except BaseException:
                self._hang_up()
                raise
            if isinstance(found, Reply):
                self._reply = found
                await self._end()
            elif found is not None:
                return found
        raise StopAsyncIteration

    async def _read(self) -> Any:
        """The next message; None if the stream was closed meanwhile."""
        if not self._has_begun:
            answer = await persist(self._first, self._patience, for_task=self._for_task)
            self._has_begun = True
        else:
            answer = await self._next()
        return answer

    async def _first(self) -> Any:
        self._call = self._begin()
        return await self._next()

    async def _next(self) -> Any:
        try:
            answer = await self._call.read()
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            if not self._is_over:
                raise RpcError(grpc.StatusCode.CANCELLED, "the client is closed", "", {}) from None
            return None
        if answer is _EOF:
            problem = "the stream ended before the answer was whole; try again"
            kind = CallLostError if self._for_task else RpcError
            raise kind(grpc.StatusCode.UNAVAILABLE, problem, "", {})
        return answer

    async def _end(self) -> None:
        """Lets the call end in peace."""
        self._is_over = True
        with contextlib.suppress(TimeoutError, grpc.aio.AioRpcError):
            await asyncio.wait_for(self._call.read(), _GOODBYE)

    def _hang_up(self) -> None:
        self._is_over = True
        if self._call is not None:
            self._call.cancel()

    async def texts(self) -> AsyncIterator[str]:
        """The text only, piece by piece."""
        async for delta in self:
            if isinstance(delta, TextDelta):
                yield delta.text

    def whole(self) -> Any:
        """Reads what is left, and returns the whole Reply. Await it, except in plain handlers."""
        return self._rest() if self._wait is None else self._wait(self._rest())

    async def _rest(self) -> Reply:
        async for _ in self:
            pass
        return self.reply

    async def close(self) -> None:
        """Stops the model, unless the answer is whole."""
        self._stop()

    def _stop(self) -> None:
        if not self._is_over:
            self._hang_up()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # In plain handlers.

    def __iter__(self) -> Iterator[Delta]:
        return self

    def __next__(self) -> Delta:
        try:
            found: Delta = self._blocking(self.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._soon is None:
            raise TypeError(_ASYNCHRONOUS)
        # Nobody waits for it: the task may have been stopped, and the worker with it, and its loop and all calls.
        with contextlib.suppress(RuntimeError):
            self._soon(self._stop)

    def _blocking(self, work: Coroutine[Any, Any, Any]) -> Any:
        if self._wait is None:
            work.close()
            raise TypeError(_ASYNCHRONOUS)
        return self._wait(work)
