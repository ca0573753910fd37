"""Events in their envelopes, dead letters, and the client's part for both."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from consort._base import PAGE, Base, duration, request_id
from consort._gen.event.v1 import event_service_pb2 as pb
from consort._gen.event.v1.event_service_pb2_grpc import EventServiceStub
from consort._values import Blobs
from consort.group import IN_HAND, MOST_IN_HAND, Delivery, Envelope, Group, envelope_from, serve
from consort.views import time_of


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that could not be accepted or delivered, and why.

    `group` is the name of the group that could not handle it, after `attempts` tries; empty if it was not accepted at
    all.
    """

    id: str
    event: Envelope
    reason: str
    create_time: datetime | None
    group: str
    attempts: int


class EventCalls(Base):
    """The client's part for groups and dead letters."""

    def group(
        self,
        group: str,
        *,
        types: Sequence[str] = (),
        correlation_id: str = "",
        subject: str = "",
        after: int | None = None,
        ack_timeout: float | timedelta | None = None,
        max_attempts: int = 0,
        in_hand: int = IN_HAND,
    ) -> Group:
        """Joins a group, whose members share its events: each is handled by one of them.

        Use it as `async with client.group("billing", types=["ORDER.*"]) as deliveries: async for delivery in
        deliveries`. `group` has 1 to 63 characters of a-z, 0-9, '-', '_' and '.'. `types` are exact or prefixes that
        end in `*`; none means all. A new group begins behind position `after` of the log (0 is its beginning), or with
        what comes. A member may hold a delivery for `ack_timeout` seconds, 30 if left out; then it is delivered again,
        to any member, `max_attempts` times in all, 5 if left out; then it becomes a dead letter. The first member
        decides on all this; whoever joins gives the same or leaves it out, otherwise RpcError FAILED_PRECONDITION.

        `in_hand` says how many deliveries this member holds at once, 1 to 10,000; choose it so that all of them are
        settled within `ack_timeout`. ValueError names what is wrong about an argument.
        """
        if not 1 <= in_hand <= MOST_IN_HAND:
            raise ValueError(f"in_hand: {in_hand} is not between 1 and {MOST_IN_HAND}")
        if isinstance(types, str):
            raise ValueError(f"types: {types!r} is one text; give a list")  # noqa: TRY004 - as for every argument.
        start = pb.SubscribeStart(parent=self._parent, credit=in_hand, group=group, max_attempts=max_attempts)
        if types or correlation_id or subject:
            wanted = pb.EventFilter(event_types=types, correlation_id=correlation_id, subject=subject)
            start.filter.CopyFrom(wanted)
        if after is not None:
            start.cursor = after
        if ack_timeout is not None:
            seconds = ack_timeout.total_seconds() if isinstance(ack_timeout, timedelta) else ack_timeout
            start.ack_timeout.CopyFrom(duration(seconds))
        return Group(lambda said: EventServiceStub(self._open()).Subscribe(said), start, self._blobs)

    async def handle(
        self, group: str, handler: Callable[[Delivery], Any], *, stop: asyncio.Event | None = None, **options: Any
    ) -> None:
        """Joins a group and calls the handler for each delivery, `in_hand` of them at once, until `stop` is set.

        The options are those of `group`. The handler may be async, or plain: then it runs in a thread. When it returns,
        its delivery is done, unless it has settled it itself; when it raises, its delivery is refused, for good if it
        raised a TaskError that is not retryable. After `stop` nothing new is taken, and what is in hand is finished
        within 30 s. If this call is cancelled, so are the handlers, and their events are refused. RpcError if the mesh
        refuses the group.
        """
        async with self.group(group, **options) as deliveries:
            await serve(deliveries, handler, stop or asyncio.Event())

    async def dead_letters(self, *, limit: int = PAGE) -> list[DeadLetter]:
        """The newest dead letters, at most `limit` of them."""
        request = pb.ListDeadLettersRequest(parent=self._parent)
        method = EventServiceStub(self._open()).ListDeadLetters
        found = await self._pages(limit, method, request, "dead_letters")
        return [await _dead_letter(letter, self._blobs) for letter in found]

    async def requeue(self, letters: Iterable[str | DeadLetter]) -> dict[str, str]:
        """Tries 1 to 1,000 dead letters again, given as records or ids.

        What a group could not handle is delivered to it again, what was not accepted is published if it meets its
        contract now. Returns, by id, why each stays a dead letter, or "" if it does not.
        """
        ids = [letter if isinstance(letter, str) else letter.id for letter in letters]
        request = pb.RequeueDeadLettersRequest(parent=self._parent, ids=ids, request_id=request_id())
        method: Any = EventServiceStub(self._open()).RequeueDeadLetters
        answer = await self._call(lambda timeout: method(request, timeout=timeout))
        return {result.id: result.error for result in answer.results}


async def _dead_letter(message: pb.DeadLetter, blobs: Blobs) -> DeadLetter:
    return DeadLetter(
        id=message.id,
        event=await envelope_from(message.event, blobs),
        reason=message.reason,
        create_time=time_of(message, "create_time"),
        group=message.group,
        attempts=message.attempts,
    )
