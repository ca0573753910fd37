"""The client: workflows, runs and decisions."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration

from consort._gen.blob.v1.payload_pb2 import Payload
from consort._gen.decision.v1 import decision_service_pb2 as decision_pb
from consort._gen.decision.v1.decision_service_pb2_grpc import DecisionServiceStub
from consort._gen.orchestrator.v1 import orchestrator_service_pb2 as pb
from consort._gen.orchestrator.v1.orchestrator_service_pb2_grpc import OrchestratorServiceStub
from consort._net import connect, pauses, resolve
from consort._values import Blobs, encode
from consort.errors import from_rpc
from consort.views import Decision, Event, Run, Workflow, decision_from, event_from, run_from, workflow_from

_T = TypeVar("_T")
_WAIT_PER_CALL = 20.0
_WAIT_MARGIN = 5.0
_PAGE = 1000


class Client:
    """Speaks to a mesh. Use it as `async with Client() as mesh: ...`, or `close` it.

    `address` is as for Worker. Every mutation carries a request id of its own, so that a call which is repeated has
    one effect. Calls are repeated with back-off while the mesh is unavailable, for `timeout` seconds in all; then, and
    for every other failure, they raise RpcError. Runs, workflows and decisions are given by name or as the records
    that this client returns; a workflow or run without slashes is taken from `namespace`.
    """

    def __init__(self, address: str | None = None, *, namespace: str = "default", timeout: float = 30.0) -> None:
        self._address = resolve(address)
        self._parent = f"namespaces/{namespace}"
        self._timeout = timeout
        self._blobs = Blobs(self._address)
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hangs up."""
        await self._blobs.close()
        if self._channel is not None:
            await self._channel.close(None)
            self._channel = None

    # Workflows.

    async def apply(self, source: str | Path, *, validate_only: bool = False, created_by: str = "") -> Workflow:
        """Checks a definition, given as text or as the path of a file, and stores it as a new revision."""
        text = await asyncio.to_thread(source.read_text, encoding="utf-8") if isinstance(source, Path) else source
        request = pb.ApplyWorkflowRequest(
            parent=self._parent,
            source=text,
            validate_only=validate_only,
            created_by=created_by,
            request_id=_request_id(),
        )
        return workflow_from(await self._call(lambda timeout: self._runs().ApplyWorkflow(request, timeout=timeout)))

    # Runs.

    async def start(
        self,
        workflow: str | Workflow,
        inputs: Mapping[str, Any] | None = None,
        *,
        revision: int = 0,
        labels: Mapping[str, str] | None = None,
        wait: float | None = None,
    ) -> Run:
        """Starts a run and returns it as soon as its start is on disk.

        With `wait`, it returns when the run is over or that many seconds have passed: its state tells.
        """
        request = pb.StartRunRequest(
            workflow=self._name("workflows", workflow),
            revision=revision,
            inputs=await self._payload(dict(inputs or {})),
            labels=dict(labels or {}),
            request_id=_request_id(),
        )
        run = await self._run(lambda timeout: self._runs().StartRun(request, timeout=timeout))
        return run if wait is None or run.is_over else await self.wait(run, wait)

    async def get(self, run: str | Run) -> Run:
        """Returns a run with its steps."""
        request = pb.GetRunRequest(name=self._name("runs", run))
        return await self._run(lambda timeout: self._runs().GetRun(request, timeout=timeout))

    async def wait(self, run: str | Run, timeout: float | None = None) -> Run:
        """Returns the run when it is over, or as it stands after `timeout` seconds; None waits without a limit."""
        name = self._name("runs", run)
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = _WAIT_PER_CALL if end is None else max(0.0, min(end - time.monotonic(), _WAIT_PER_CALL))
            request = pb.WaitRunRequest(name=name, wait=_duration(left))
            limit = left + _WAIT_MARGIN
            found = await self._run(lambda _, r=request, t=limit: self._runs().WaitRun(r, timeout=t))  # type: ignore[misc]
            if found.is_over or (end is not None and time.monotonic() >= end):
                return found

    async def cancel(self, run: str | Run, reason: str = "") -> Run:
        """Stops a run and its children."""
        request = pb.CancelRunRequest(name=self._name("runs", run), reason=reason, request_id=_request_id())
        return await self._run(lambda timeout: self._runs().CancelRun(request, timeout=timeout))

    async def pause(self, run: str | Run, reason: str = "") -> Run:
        """Holds back everything that has not begun."""
        request = pb.PauseRunRequest(name=self._name("runs", run), reason=reason, request_id=_request_id())
        return await self._run(lambda timeout: self._runs().PauseRun(request, timeout=timeout))

    async def resume(self, run: str | Run) -> Run:
        """Lets a paused run go on."""
        request = pb.ResumeRunRequest(name=self._name("runs", run), request_id=_request_id())
        return await self._run(lambda timeout: self._runs().ResumeRun(request, timeout=timeout))

    async def retry(self, run: str | Run) -> Run:
        """Lets a failed run go on from its failed steps."""
        request = pb.RetryRunRequest(name=self._name("runs", run), request_id=_request_id())
        return await self._run(lambda timeout: self._runs().RetryRun(request, timeout=timeout))

    async def signal(self, run: str | Run, signal: str, payload: Any = None) -> Run:
        """Records a signal in the run's history."""
        request = pb.SignalRunRequest(
            name=self._name("runs", run),
            signal=signal,
            payload=await self._payload(payload),
            request_id=_request_id(),
        )
        return await self._run(lambda timeout: self._runs().SignalRun(request, timeout=timeout))

    async def events(self, run: str | Run, after: int = 0) -> AsyncIterator[Event]:
        """The run's history after a sequence, in order and without a gap, then what follows, until the run is over.

        A broken stream is taken up again where it broke; RpcError if that is not possible within the client's timeout.
        """
        name = self._name("runs", run)
        broken_at: float | None = None
        waits = pauses(0.1, 5.0)
        while True:
            try:
                request = pb.WatchRunRequest(name=name, after_sequence=after)
                async for answer in self._runs().WatchRun(request):
                    broken_at, waits = None, pauses(0.1, 5.0)
                    if answer.WhichOneof("kind") == "event":
                        after = answer.event.sequence
                        yield await event_from(answer.event, self._blobs)
            except grpc.aio.AioRpcError as error:
                broken_at = broken_at or time.monotonic()
                is_passing = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
                if not is_passing or time.monotonic() - broken_at > self._timeout:
                    raise from_rpc(error) from error
                await asyncio.sleep(next(waits))
            else:
                return

    # Decisions.

    async def decisions(self, *, run: str | Run | None = None, state: str = "OPEN") -> list[Decision]:
        """Decisions in a state ("" for all), newest first, of one run or of all."""
        request = decision_pb.ListDecisionsRequest(
            parent=self._parent,
            page_size=_PAGE,
            run="" if run is None else self._name("runs", run),
            state=_decision_state(state),
        )
        found: list[Decision] = []
        while True:
            page = await self._call(lambda timeout: self._decisions().ListDecisions(request, timeout=timeout))
            found.extend([await decision_from(decision, self._blobs) for decision in page.decisions])
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def decide(self, decision: str | Decision, option: str, form: Any = None, *, by: str = "") -> Decision:
        """Answers a decision with one of its options, and its filled form if it has one; `by` says who, on record."""
        request = decision_pb.AnswerDecisionRequest(
            name=decision if isinstance(decision, str) else decision.name,
            option=option,
            form=None if form is None else await self._payload(form),
            answered_by=by,
            request_id=_request_id(),
        )
        answer = await self._call(lambda timeout: self._decisions().AnswerDecision(request, timeout=timeout))
        return await decision_from(answer, self._blobs)

    # What they share.

    async def _call(self, attempt: Callable[[float], Awaitable[_T]]) -> _T:
        end = time.monotonic() + self._timeout
        waits = pauses(0.1, 5.0)
        while True:
            try:
                return await attempt(max(end - time.monotonic(), 0.001))
            except grpc.aio.AioRpcError as error:
                pause = next(waits)
                if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() + pause > end:
                    raise from_rpc(error) from error
            await asyncio.sleep(pause)

    async def _run(self, attempt: Callable[[float], Awaitable[Any]]) -> Run:
        return await run_from(await self._call(attempt), self._blobs)

    async def _payload(self, value: Any) -> Payload:
        return await self._blobs.payload(encode(value))

    def _name(self, collection: str, item: str | Run | Workflow) -> str:
        name = item if isinstance(item, str) else item.name
        return name if "/" in name else f"{self._parent}/{collection}/{name}"

    def _runs(self) -> Any:
        return OrchestratorServiceStub(self._open())

    def _decisions(self) -> Any:
        return DecisionServiceStub(self._open())

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = connect(self._address)
        return self._channel


def _decision_state(state: str) -> Any:
    try:
        return decision_pb.DecisionState.Value(f"DECISION_STATE_{state.upper() or 'UNSPECIFIED'}")
    except ValueError:
        raise ValueError(f"state: {state.upper()!r} is none of OPEN, ANSWERED, EXPIRED, CANCELLED or empty") from None


def _request_id() -> str:
    return str(uuid.uuid4())


def _duration(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
