"""Groups: subscribers that share events, each of which is handled by one of them."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Any, Self

import grpc

from consort._gen.event.v1 import event_service_pb2 as pb
from consort._net import pauses
from consort._values import Blobs
from consort.errors import TaskError, from_rpc
from consort.views import time_of

log = logging.getLogger("consort")

IN_HAND = 16
MOST_IN_HAND = 10_000
_PAUSES = (0.1, 5.0)
# A member that was too slow is cut off with RESOURCE_EXHAUSTED and may come back.
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
_REASON = 1000
# Refusals in one message: with the longest reasons they stay below 4 MiB.
_REFUSALS = 500
# How long a member that leaves waits for the mesh to hear its last words, and goes on with what it holds.
_GOODBYE = 2.0
_GRACE = 30.0


@dataclass(frozen=True, slots=True)
class Envelope:
    """An event of the log: `type` is such as "ORDER.PAID", `version` that of its contract, `payload` plain values.

    `correlation_id` is equal for all events of one piece of work, `causation_id` names the event that caused this one
    or is empty, and `subject` says what it is about, such as the name of a run.
    """

    id: str
    type: str
    version: int
    time: datetime | None
    source: str
    instance: str
    correlation_id: str
    causation_id: str
    payload: Any
    namespace: str
    subject: str


class Delivery:
    """An event in the hands of a member of a group; it is settled by `done` or `refuse`.

    `cursor` is its place in the log; `attempt` counts from 1 how often it has been tried, this time included. An event
    can come more than once: settling a delivery whose connection broke, or that was held too long, has no effect. One
    that is never settled blocks a place of this member.
    """

    __slots__ = ("_id", "_receipts", "attempt", "cursor", "event", "is_settled")

    def __init__(self, answer: pb.SubscribeResponse, event: Envelope, receipts: "_Receipts") -> None:
        self.event = event
        self.cursor = answer.cursor
        self.attempt = answer.attempt
        self.is_settled = False
        self._id = answer.delivery_id
        self._receipts = receipts

    def done(self) -> None:
        """It was handled. RuntimeError if it is settled already."""
        self._settle(pb.Settle(done=[self._id]))

    def refuse(self, reason: str, final: bool = False) -> None:
        """It could not be handled; the reason, cut to 1,000 characters, is for the dead letter.

        It is delivered again, to any member, until it has been tried as often as the group allows; with `final` it
        becomes a dead letter at once. RuntimeError if it is settled already.
        """
        refusal = pb.Refusal(delivery_id=self._id, reason=reason[:_REASON], final=final)
        self._settle(pb.Settle(refused=[refusal]))

    def _settle(self, settle: pb.Settle) -> None:
        if self.is_settled:
            raise RuntimeError(f"delivery {self._id} of {self.event.type} is settled already")
        self.is_settled = True
        self._receipts.add(settle)


class Group:
    """A member of a group: an async iterator of deliveries, which `async with` closes. `Client.group` makes it.

    While the mesh cannot be reached it tries again, after 0.1 to 5 s, for ever, as a worker does: RpcError only if the
    mesh refuses. What was not settled when a connection broke is delivered again, to any member. Waiting for the next
    delivery may be cancelled and begun again: none is lost.
    """

    def __init__(self, subscribe: Callable[[AsyncIterator[Any]], Any], start: pb.SubscribeStart, blobs: Blobs) -> None:
        self.in_hand = start.credit
        self._subscribe = subscribe
        self._start = start
        self._blobs = blobs
        self._connection: _Connection | None = None
        self._waits = pauses(*_PAUSES)
        self._retry_at = 0.0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delivery:
        while True:
            try:
                return await self._next()
            except grpc.aio.AioRpcError as error:
                await self._hang_up()
                if error.code() not in _PASSING:
                    raise from_rpc(error) from error
                name, code = self._start.group, error.code().name
                log.warning("group '%s' lost the mesh (%s: %s); trying again", name, code, error.details())
                self._retry_at = asyncio.get_running_loop().time() + next(self._waits)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Says what was settled, and leaves the group; what is not settled is delivered again, to any member."""
        connection = self._connection
        if connection is not None:
            connection.receipts.close()
            with contextlib.suppress(TimeoutError, grpc.aio.AioRpcError):
                await asyncio.wait_for(connection.end(), _GOODBYE)
        await self._hang_up()

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _next(self) -> Delivery:
        while True:
            if self._connection is None:
                await asyncio.sleep(self._retry_at - asyncio.get_running_loop().time())
                self._connection = _Connection(self._subscribe, self._start)
            connection = self._connection
            answer = await connection.peek()
            try:
                event = await envelope_from(answer.event, self._blobs)
            except (ValueError, RecursionError, grpc.aio.AioRpcError) as error:
                # One event that cannot be read must not stop the group.
                refusal = pb.Refusal(
                    delivery_id=answer.delivery_id, reason=f"the payload cannot be read: {error}"[:_REASON]
                )
                connection.receipts.add(pb.Settle(refused=[refusal]))
                connection.take()
                continue
            connection.take()
            self._waits = pauses(*_PAUSES)
            return Delivery(answer, event, connection.receipts)


class _Connection:
    """One stream to the mesh. What was read is kept until it is taken, so that a cancelled reader loses nothing."""

    def __init__(self, subscribe: Callable[[AsyncIterator[Any]], Any], start: pb.SubscribeStart) -> None:
        self.receipts = _Receipts()
        self._call = subscribe(self.receipts.say(start))
        self._reading: asyncio.Task[Any] | None = None

    async def peek(self) -> pb.SubscribeResponse:
        """The next delivery, which stays until `take`. AioRpcError if there is none."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._call.read())
        await asyncio.wait({self._reading})
        if self._reading.cancelled():
            raise _ended(grpc.StatusCode.CANCELLED, "the client is closed")
        answer = self._reading.result()
        if answer is grpc.aio.EOF:  # type: ignore[attr-defined]
            raise _ended(grpc.StatusCode.UNAVAILABLE, "the mesh closed the subscription")
        found: pb.SubscribeResponse = answer
        return found

    def take(self) -> None:
        self._reading = None

    async def end(self) -> None:
        """Waits until the mesh has closed the stream. AioRpcError tells how it did."""
        while True:
            await self.peek()
            self.take()

    async def close(self) -> None:
        self.receipts.break_off()
        self._call.cancel()
        if self._reading is not None:
            await asyncio.wait({self._reading})
            if not self._reading.cancelled():
                self._reading.exception()  # It is known already; asking for it says so to asyncio.


def _ended(code: grpc.StatusCode, text: str) -> grpc.aio.AioRpcError:
    empty = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, empty, empty, text, None)


class _Receipts:
    """Collects what is settled until it is sent: never more than the deliveries that credit was granted for."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._settle = pb.Settle()
        self._wake = asyncio.Event()
        self._is_closed = self._is_broken = False

    def add(self, settle: pb.Settle) -> None:
        """Queues what became of a delivery; from any thread. Does nothing once the connection is gone."""
        if threading.get_ident() != self._thread:
            self._loop.call_soon_threadsafe(self._add, settle)
        else:
            self._add(settle)

    def _add(self, settle: pb.Settle) -> None:
        if not self._is_broken:
            self._settle.MergeFrom(settle)
            self._wake.set()

    def close(self) -> None:
        """Nothing more will be settled; what is here is still sent."""
        self._is_closed = True
        self._wake.set()

    def break_off(self) -> None:
        """The connection is gone: the mesh delivers again what was not settled, and does not hear of it now."""
        self._is_broken = True
        self._settle = pb.Settle()
        self.close()

    async def say(self, start: pb.SubscribeStart) -> AsyncIterator[pb.SubscribeRequest]:
        """What the member says: what it wants, then what became of its deliveries."""
        yield pb.SubscribeRequest(start=start)
        while True:
            while self._settle.done or self._settle.refused:
                now, self._settle = self._settle, pb.Settle(refused=self._settle.refused[_REFUSALS:])
                del now.refused[_REFUSALS:]
                yield pb.SubscribeRequest(settle=now)
            if self._is_closed:
                return
            self._wake.clear()
            await self._wake.wait()


async def serve(group: Group, handler: Callable[[Delivery], Any], stop: asyncio.Event) -> None:
    """Calls the handler for each delivery until `stop` is set; see `Client.handle`."""
    running: set[asyncio.Task[None]] = set()
    stopping = asyncio.create_task(stop.wait())
    coming: asyncio.Task[Delivery] | None = None
    try:
        while not stopping.done():
            if len(running) >= group.in_hand:
                await asyncio.wait({stopping, *running}, return_when=asyncio.FIRST_COMPLETED)
                continue
            coming = asyncio.ensure_future(anext(group))
            await asyncio.wait({stopping, coming}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                break
            delivery, coming = coming.result(), None
            task = asyncio.create_task(_handle(handler, delivery))
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            _, late = await asyncio.wait(running, timeout=_GRACE)
            if late:
                log.warning("%d handlers are unfinished after %g s; their events are refused", len(late), _GRACE)
    finally:
        rest: list[asyncio.Task[Any]] = [stopping, *running, *([coming] if coming else [])]
        for each in rest:
            each.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


async def _handle(handler: Callable[[Delivery], Any], delivery: Delivery) -> None:
    called = handler if hasattr(handler, "__name__") else type(handler).__call__
    reason, is_final = "the handler was cancelled", False
    try:
        if iscoroutinefunction(called):
            await handler(delivery)
        else:
            await asyncio.to_thread(handler, delivery)
    except TaskError as error:
        reason, is_final = str(error), not error.retryable
    except Exception as error:
        log.exception("the handler of a group failed")
        reason = f"{type(error).__name__}: {error}"
    else:
        reason = ""
    finally:
        if not delivery.is_settled:
            if reason:
                delivery.refuse(reason, is_final)
            else:
                delivery.done()


async def envelope_from(message: pb.Event, blobs: Blobs) -> Envelope:
    """The record of an event; a large payload is downloaded."""
    return Envelope(
        id=message.event_id,
        type=message.event_type,
        version=message.event_version,
        time=time_of(message, "timestamp"),
        source=message.source,
        instance=message.instance,
        correlation_id=message.correlation_id,
        causation_id=message.causation_id,
        payload=await blobs.value(message.payload),
        namespace=message.namespace,
        subject=message.subject,
    )
