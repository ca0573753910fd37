"""An inquiry: the request of another agent, as the handler that answers it sees it."""

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

from consort._gen.agent.v1 import worker_service_pb2 as pb

if TYPE_CHECKING:
    from consort._asks import Asks


class Inquiry:
    """A request of another agent, or of a client.

    `input` is what is asked as plain Python values, `agent` the agent that is asked, `asker` the id of the worker that
    asks, empty for a client, and `task` the name of the task in which it is asked, as the asker says, or empty. `depth`
    is 1 if it is asked by a task or from outside, 2 if within an inquiry of depth 1, and so on to 16. `cancelled` turns
    true when nobody waits for the answer any more; an async handler is cancelled as an asyncio task is, a plain one
    should look at `cancelled` now and then and return.
    """

    __slots__ = ("_asks", "_end", "_handle", "agent", "asker", "cancelled", "depth", "input", "number", "task")

    def __init__(self, inquiry: "pb.Inquiry", asks: "Asks") -> None:
        self.input: Any = None
        self.number = inquiry.number
        self.agent = inquiry.agent
        self.asker = inquiry.asker
        self.task = inquiry.task
        self.depth = inquiry.depth
        self.cancelled = False
        self._end = time.monotonic() + inquiry.timeout.seconds + inquiry.timeout.nanos / 1e9
        self._asks = asks
        self._handle: asyncio.Task[None] | None = None

    @property
    def time_left(self) -> float:
        """How many seconds the asker still waits."""
        return max(0.0, self._end - time.monotonic())

    def ask_agent(self, agent: str, payload: Any = None, *, timeout: float | None = None) -> Any:
        """Asks another agent and returns its answer.

        Await it in async handlers, call it without `await` in plain ones. It ends with this inquiry at the latest, and
        its handler sees the same task. Otherwise it is as Task.ask_agent.
        """
        work = self._asks.ask(agent, payload, timeout, within=self)
        if threading.get_ident() == self._asks.loop_thread:
            return work
        return asyncio.run_coroutine_threadsafe(work, self._asks.loop).result()
