"""A task, as its handler sees it."""

import asyncio
import threading
from collections.abc import Awaitable, Coroutine, Generator, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol, Unpack

from consort._asks import Asks
from consort._gen.agent.v1.agent_service_pb2 import LogLevel, LogLine, Note, Progress, StepReport
from consort._gen.agent.v1.worker_service_pb2 import Assignment, LeaseRef, TaskReport
from consort._gen.inference.v1.inference_service_pb2 import GenerateRequest
from consort._generation import GenerateOptions, request_of
from consort._models import ModelCalls, for_task
from consort._net import now, to_datetime
from consort._outbox import Lease, Outbox
from consort._values import Blobs, encode
from consort.converse import TURNS, converse
from consort.errors import MAX_MESSAGE, AskError, cut
from consort.question import Clarification, asking
from consort.stream import ReplyStream
from consort.tools import tools_of

Level = Literal["debug", "info", "warn", "error"]
_LEVELS = {
    "debug": LogLevel.LOG_LEVEL_DEBUG,
    "info": LogLevel.LOG_LEVEL_INFO,
    "warn": LogLevel.LOG_LEVEL_WARN,
    "error": LogLevel.LOG_LEVEL_ERROR,
}
_PROGRESS_TEXT = 1024
# Fields of a note about a request that has neither answer nor error: it was cancelled.
_ASKED = 3


class Desk(Protocol):
    """What a task needs of the session that holds it."""

    loop: asyncio.AbstractEventLoop
    loop_thread: int
    outbox: Outbox
    blobs: Blobs
    asks: Asks
    models: ModelCalls


class Task:
    """One attempt of one step.

    `name` is `namespaces/{namespace}/runs/{uuid}/steps/{step}/attempts/{n}`, `input` the step's `with` as plain Python
    values, `attempt` counts from 1, and `idempotency_key` is equal for all attempts of the step: hand it to receivers
    that can tell repeats. `cancelled` turns true when the answer no longer matters; an async handler is cancelled as
    an asyncio task is, a plain one should look at `cancelled` now and then and return. `clarifications` is what people
    have answered to questions about this step, in the order of the questions: those of `ask` and that of the step's
    `clarify`.

    `progress`, `log` and `note` are awaited in async handlers. In plain handlers they are called without `await` and
    return when the report is queued. They wait while 4 MiB of reports are queued, and do nothing once the task is
    cancelled.
    """

    __slots__ = ("_assignment", "_desk", "_handle", "_told", "_waits", "cancelled", "clarifications", "input", "lease")

    def __init__(self, assignment: Assignment, desk: Desk) -> None:
        self.input: Any = None
        self.clarifications: tuple[Clarification, ...] = ()
        self._told: set[int] = set()
        self.cancelled = False
        self.lease: Lease = (assignment.task, assignment.lease_token)
        self._assignment = assignment
        self._desk = desk
        self._handle: asyncio.Task[None] | None = None
        self._waits: set[Future[Any]] | None = None

    @property
    def name(self) -> str:
        """The name of the task."""
        return self.lease[0]

    @property
    def agent(self) -> str:
        """The agent that does it."""
        return self._assignment.agent

    @property
    def workflow(self) -> str:
        """Id of the workflow, for logs."""
        return self._assignment.workflow

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1. A lost lease does not count."""
        return self._assignment.attempt

    @property
    def idempotency_key(self) -> str:
        """Equal for all attempts of the step."""
        return self._assignment.idempotency_key

    @property
    def deadline(self) -> datetime | None:
        """When the attempt is taken as failed, in UTC; None if never."""
        return to_datetime(self._assignment.deadline) if self._assignment.HasField("deadline") else None

    def ask(
        self,
        title: str,
        *,
        options: Sequence[str] = (),
        form: Mapping[str, Any] | None = None,
        deadline: float | timedelta | None = None,
        default: str = "",
        description: str = "",
    ) -> Clarification:
        """Asks a person, and ends the handler until somebody has answered.

        The first time it raises what must leave the handler (`except Exception` lets it pass): the question goes to the
        mesh, the step is BLOCKED, and this attempt is over without a failure. When the question is answered the step is
        handed out again, to any worker of the agent; the handler begins anew, and now this call returns the answer. So
        what a handler does before it asks is done again, and a question is known by its title: the second call with the
        same title returns the second answer to it, or asks again. Call it without `await`, in plain handlers too.

        `title` has 1 to 1,000 characters, `description` is Markdown of at most 64 KiB. There are at most 100 `options`;
        none means the single option `answer`, which makes sense with a `form`, the JSON Schema of what goes with the
        answer. After `deadline`, in seconds or as a timedelta, the option `default` is taken, or the step fails if
        there is none; without a deadline it waits for ever. ValueError names what is wrong about any of them.
        """
        question = asking(title, description, options, form, deadline, default)
        for number, known in enumerate(self.clarifications):
            if known.title == title and number not in self._told:
                self._told.add(number)
                return known
        raise question

    def ask_agent(self, agent: str, payload: Any = None, *, timeout: float | None = None, record: bool = False) -> Any:
        """Asks another agent and returns its answer.

        Await it in async handlers, call it without `await` in plain ones. It is an exchange between live processes:
        delivered at most once and never repeated. `payload` is any value that JSON can say; `timeout` is in seconds,
        at most 600, 30 if it is left out. The handler that answers sees the name of this task. AskError has its error,
        or says why there was no answer. `record` writes request and answer, or error, into the run's history, as a note
        named `agent.ask`; otherwise they are on no record. For a question to a person there is `ask`.
        """
        work = self._ask_agent(agent, payload, timeout, record=record)
        if threading.get_ident() == self._desk.loop_thread:
            return work
        return asyncio.run_coroutine_threadsafe(work, self._desk.loop).result()

    async def _ask_agent(self, agent: str, payload: Any, timeout: float | None, *, record: bool) -> Any:
        if not record:
            return await self._desk.asks.ask(agent, payload, timeout, lease=self.lease)
        begun = self._desk.loop.time()
        note: dict[str, Any] = {"agent": agent, "request": payload}
        try:
            note["answer"] = answer = await self._desk.asks.ask(agent, payload, timeout, lease=self.lease)
        except AskError as error:
            note["error"] = str(error)
            raise
        else:
            return answer
        finally:
            note["ms"] = round((self._desk.loop.time() - begun) * 1e3, 3)
            if len(note) > _ASKED:
                await self._note("agent.ask", encode(note))

    def generate(self, prompt: str | None = None, **options: Unpack[GenerateOptions]) -> Any:
        """Asks a model on behalf of this task and returns its whole Reply.

        Await it in async handlers, call it without `await` in plain ones. What can be said beside the prompt is in
        GenerateOptions. The call is charged to the run's budget, and is in its history before it returns. When the task
        is handed out again after a crash, an equal call gets the recorded answer (`cached` is "RECORDED") and is not
        paid for again; equal calls of one attempt are told apart by their order, so make them in the same order each
        time. RpcError says why there is no answer; when it leaves the handler, the task fails with its code and reason,
        except for CallLostError: then the task is done again.
        """
        return self._later(self._desk.models.whole(self._request(prompt, options)))

    def stream(self, prompt: str | None = None, **options: Unpack[GenerateOptions]) -> ReplyStream:
        """Asks a model on behalf of this task and gives its answer as it comes; otherwise as `generate`.

        `async with task.stream(...) as stream: async for delta in stream`, or `with` and `for` in plain handlers; the
        whole is `stream.reply` afterwards. Those who watch the run with tokens see the text in any case.
        """
        request = self._request(prompt, options)
        if self._is_on_loop():
            return self._desk.models.pieces(request)
        return self._desk.models.pieces(request, self._wait, self._desk.loop.call_soon_threadsafe)

    def converse(self, prompt: str | None = None, *, max_turns: int = TURNS, **options: Unpack[GenerateOptions]) -> Any:
        """Asks a model on behalf of this task, calls the tools it wants, and goes on until it answers without.

        Returns a Conversation. Await it in async handlers, call it without `await` in plain ones. It is as
        `Client.converse`, each call of the model being as `generate` here. After a crash the tools are called again and
        the model is not: a tool that must not repeat its effect hands `idempotency_key` to a receiver that can tell.
        """
        tools = tools_of(options.get("tools") or ())
        return self._later(converse(self._request(prompt, options), tools, max_turns, self._desk.models.whole))

    def progress(self, fraction: float, text: str = "") -> Awaitable[None]:
        """Says how far the task is, from 0 to 1. ValueError outside of that."""
        if not 0 <= fraction <= 1:
            raise ValueError(f"fraction: {fraction} is not between 0 and 1")
        return self._do(self._progress(Progress(fraction=fraction, text=cut(text, _PROGRESS_TEXT))))

    def log(self, text: str, level: Level = "info") -> Awaitable[None]:
        """Writes a line into the run's history; what is longer than 8 KiB is cut."""
        if level not in _LEVELS:
            raise ValueError(f"level: {level!r} is none of {', '.join(_LEVELS)}")
        line = LogLine(level=_LEVELS[level], text=cut(text, MAX_MESSAGE))
        return self._do(self._report(StepReport(log=line)))

    def note(self, name: str, value: Any) -> Awaitable[None]:
        """Writes a named fact, such as a tool call and its result, into the run's history."""
        return self._do(self._note(name, encode(value)))

    async def _progress(self, progress: Progress) -> None:
        if not self.cancelled:
            self._desk.outbox.progress(self.lease, self._stamped(StepReport(progress=progress)))

    async def _note(self, name: str, text: str) -> None:
        await self._report(StepReport(note=Note(name=name, value=await self._desk.blobs.payload(text))))

    async def _report(self, report: StepReport) -> None:
        if not self.cancelled:
            await self._desk.outbox.report(self._stamped(report))

    def _stamped(self, report: StepReport) -> TaskReport:
        return TaskReport(lease=LeaseRef(task=self.lease[0], lease_token=self.lease[1]), report=report, time=now())

    def _request(self, prompt: str | None, options: GenerateOptions) -> GenerateRequest:
        return for_task(request_of(prompt, options), *self.lease)

    def _is_on_loop(self) -> bool:
        return threading.get_ident() == self._desk.loop_thread

    def _later(self, work: Coroutine[Any, Any, Any]) -> Any:
        return work if self._is_on_loop() else self._wait(work)

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Waits for work of the loop, which ends with the task, from another thread."""
        if self._waits is None:
            self._waits = set()
        future = asyncio.run_coroutine_threadsafe(work, self._desk.loop)
        self._waits.add(future)
        if self.cancelled:
            future.cancel()
        try:
            return future.result()
        finally:
            self._waits.discard(future)

    def _stop_waits(self) -> None:
        """Stops what plain handlers wait for."""
        for future in list(self._waits or ()):
            future.cancel()

    def _do(self, work: Coroutine[Any, Any, None]) -> Awaitable[None]:
        if threading.get_ident() == self._desk.loop_thread:
            return work
        asyncio.run_coroutine_threadsafe(work, self._desk.loop).result()
        return _Done()


class _Done:
    """An awaitable of something that is already done."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield
