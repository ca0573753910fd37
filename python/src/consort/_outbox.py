"""What waits to be sent to the mesh."""

import asyncio
from collections import deque

from consort._gen.agent.v1.worker_service_pb2 import ConnectRequest, LeaseRef, Release, TaskReport

# A lease by its task's name and its token.
Lease = tuple[str, int]

FRAME_LIMIT = 1024 * 1024
REPORTS_LIMIT = 4 * 1024 * 1024
_DRAINING = ConnectRequest(draining=True).SerializeToString()


class Outbox:
    """Collects pieces and hands them out in frames.

    A piece is a serialised ConnectRequest with one thing in it. Serialised messages that are strung together parse as
    one message with all their lists joined, so a frame costs no second encoding. What is added while a frame is being
    written goes out in the next one, all at once, in the order it was added.

    Answers are kept until they are acknowledged and are few: the mesh hands out no more tasks than there are slots.
    Reports wait for room once 4 MiB are queued. Of a task's progress only the last is kept.
    """

    def __init__(self) -> None:
        self.unacknowledged: dict[Lease, bytes] = {}
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._progress: dict[Lease, bytes] = {}
        self._asks: dict[int, bytes] = {}
        self._replies: deque[bytes] = deque()
        self._withdrawn: list[int] = []
        self._renewal = b""
        self._draining = b""
        self._wake = asyncio.Event()
        self._room = asyncio.Event()

    def answer(self, lease: Lease, piece: bytes) -> None:
        """Queues the answer of a task and keeps it until `acknowledge`."""
        progress = self._progress.pop(lease, None)
        if progress is not None:
            self._push(progress)
        self.unacknowledged[lease] = piece
        self._push(piece)

    def acknowledge(self, lease: Lease) -> None:
        """Forgets an answer."""
        self.unacknowledged.pop(lease, None)
        self._wake.set()

    def release(self, lease: Lease) -> None:
        """Queues a lease that is given back; if it is ours again after a reconnect, it is given back again."""
        self._progress.pop(lease, None)
        release = Release(lease=LeaseRef(task=lease[0], lease_token=lease[1]))
        self._push(ConnectRequest(released=[release]).SerializeToString())

    def forget(self, lease: Lease) -> None:
        """Drops what waits for a lease that is gone."""
        self._progress.pop(lease, None)
        self.unacknowledged.pop(lease, None)
        self._wake.set()

    def progress(self, lease: Lease, report: TaskReport) -> None:
        """Queues progress in place of earlier progress of the same task that has not left yet."""
        self._progress[lease] = ConnectRequest(reports=[report]).SerializeToString()
        self._wake.set()

    async def report(self, report: TaskReport) -> None:
        """Queues a report, when there is room."""
        while self._queued_bytes >= REPORTS_LIMIT:
            self._room.clear()
            await self._room.wait()
        self._push(ConnectRequest(reports=[report]).SerializeToString())

    def ask(self, number: int, piece: bytes) -> None:
        """Queues a request to an agent."""
        self._asks[number] = piece
        self._wake.set()

    def has_ask(self, number: int) -> bool:
        """Tells whether a request has not left yet."""
        return number in self._asks

    def withdraw(self, number: int) -> None:
        """Takes a request back: out of the queue, or else by telling the mesh."""
        if self._asks.pop(number, None) is None:
            self._withdrawn.append(number)
            self._wake.set()

    def reply(self, piece: bytes) -> None:
        """Queues the reply to an inquiry. There are no more of them than inquiries that the mesh sent."""
        self._replies.append(piece)
        self._wake.set()

    def forget_stream(self) -> None:
        """Drops what has a meaning on the stream that broke only."""
        self._replies.clear()
        self._withdrawn.clear()

    def renew(self, renewal: ConnectRequest) -> None:
        """Puts a sign of life into the next frame."""
        self._renewal = renewal.SerializeToString()
        self._wake.set()

    def drain(self) -> None:
        """Tells the mesh, in the next frame, that nothing new is taken."""
        self._draining = _DRAINING
        self._wake.set()

    def rewind(self, *, draining: bool) -> None:
        """Makes ready for a new stream: unacknowledged answers that had left are queued again, first."""
        waiting = set(map(id, self._queue))
        again = [piece for piece in self.unacknowledged.values() if id(piece) not in waiting]
        self._queue.extendleft(reversed(again))
        self._queued_bytes += sum(map(len, again))
        self._draining = _DRAINING if draining else b""
        self._wake.set()

    def take(self) -> bytes:
        """The next frame, of about 1 MiB at most; empty if nothing waits."""
        pieces = []
        if self._renewal:
            pieces.append(self._renewal)
            self._renewal = b""
        if self._draining:
            pieces.append(self._draining)
            self._draining = b""
        size = 0
        if self._replies:
            replies = self._replies
            while replies and size < FRAME_LIMIT:
                size += len(replies[0])
                pieces.append(replies.popleft())
        if self._asks:
            asks, self._asks = self._asks, {}
            for number, piece in asks.items():
                if size < FRAME_LIMIT:
                    size += len(piece)
                    pieces.append(piece)
                else:
                    self._asks[number] = piece
        if self._withdrawn:
            pieces.append(ConnectRequest(withdrawn=self._withdrawn).SerializeToString())
            self._withdrawn.clear()
        self._queued_bytes += size
        queue = self._queue
        while queue and size < FRAME_LIMIT:
            piece = queue.popleft()
            size += len(piece)
            pieces.append(piece)
        self._queued_bytes -= size
        while self._progress and size < FRAME_LIMIT:
            piece = self._progress.pop(next(iter(self._progress)))
            size += len(piece)
            pieces.append(piece)
        if self._queued_bytes < REPORTS_LIMIT:
            self._room.set()
        self._wake.clear()
        return b"".join(pieces)

    async def wait(self) -> None:
        """Waits until something was added or `poke` was called since the last `take`."""
        await self._wake.wait()

    def poke(self) -> None:
        """Wakes who waits."""
        self._wake.set()

    def _push(self, piece: bytes) -> None:
        self._queue.append(piece)
        self._queued_bytes += len(piece)
        self._wake.set()
