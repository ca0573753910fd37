"""What the client promises to its caller."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from consort import Client, Event, RpcError
from consort._gen.blob.v1.payload_pb2 import BlobRef, Payload
from consort._gen.orchestrator.v1 import orchestrator_service_pb2 as pb
from consort._gen.orchestrator.v1 import run_event_pb2, run_pb2
from fake_mesh import RUN, FakeMesh, json_of


async def test_start_sends_inputs_and_returns_the_run() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client:
        run = await client.start("audit", {"repo": "."}, labels={"team": "a"}, wait=5)
        assert (run.name, run.state, run.is_over, run.output) == (RUN, "SUCCEEDED", True, {"done": True})
        assert (run.steps[0].id, run.steps[0].state, run.steps[0].output) == ("cost", "DONE", 3)
        (request,) = mesh.requests
        assert request.workflow == "namespaces/default/workflows/audit"
        assert json_of(request.inputs) == {"repo": "."}
        assert dict(request.labels) == {"team": "a"}


async def test_large_inputs_are_uploaded() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client:
        await client.start("audit", {"text": "x" * 70_000})
        assert mesh.blobs[mesh.requests[0].inputs.blob.sha256] == b'{"text":"' + b"x" * 70_000 + b'"}'


async def test_a_repeated_call_keeps_its_request_id() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client:
        mesh.unavailable = 2
        await client.start("audit")
        await client.cancel(RUN, "enough")
        first, second, third, cancel = mesh.requests
        assert first.request_id == second.request_id == third.request_id
        assert len(first.request_id) == 36
        assert cancel.request_id != first.request_id
        assert cancel.reason == "enough"


async def test_retries_end_with_the_timeout() -> None:
    async with FakeMesh() as mesh, Client(mesh.address, timeout=0.2) as client:
        mesh.unavailable = 1000
        with pytest.raises(RpcError, match="UNAVAILABLE: not yet"):
            await client.get(RUN)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda client: client.get("6f1c"), pb.GetRunRequest),
        (lambda client: client.pause("6f1c", "lunch"), pb.PauseRunRequest),
        (lambda client: client.resume("6f1c"), pb.ResumeRunRequest),
        (lambda client: client.retry("6f1c"), pb.RetryRunRequest),
        (lambda client: client.signal("6f1c", "news", {"a": 1}), pb.SignalRunRequest),
    ],
)
async def test_each_call_names_the_run(call: Callable[[Client], Awaitable[object]], kind: type[Any]) -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client:
        await call(client)
        (request,) = mesh.requests
        assert type(request) is kind
        assert request.name == RUN


async def test_wait_returns_an_open_run_when_its_time_is_up() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client:
        mesh.run_state = run_pb2.RUN_STATE_RUNNING
        run = await client.wait("6f1c", timeout=0.0)
        assert (run.state, run.is_over, run.output) == ("RUNNING", False, None)
        assert mesh.requests[0].wait.ToTimedelta().total_seconds() == 0


async def test_errors_carry_the_fields_that_were_wrong() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client:
        mesh.violations = {"steps[0].agent": "missing"}
        with pytest.raises(RpcError) as caught:
            await client.apply("name: w")
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.reason == "BAD_WORKFLOW"
        assert caught.value.violations == {"steps[0].agent": "missing"}
        assert "steps[0].agent: missing" in str(caught.value)


async def test_apply_takes_a_file(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text("name: w\n", encoding="utf-8")
    async with FakeMesh() as mesh, Client(mesh.address) as client:
        workflow = await client.apply(tmp_path / "w.yaml")
        assert (workflow.name, workflow.revision, workflow.source) == ("namespaces/default/workflows/w", 1, "name: w\n")


async def test_events_go_on_where_the_stream_broke() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client:
        text = '"' + "x" * 70_000 + '"'
        blob = Payload(blob=BlobRef(sha256=mesh.keep(text.encode()), size_bytes=len(text)))
        started = run_event_pb2.RunStarted(workflow="w", inputs=Payload(json='{"a":1}'), labels={"k": "v"})
        facts = [
            run_event_pb2.RunEvent(run=RUN, sequence=1, run_started=started),
            run_event_pb2.RunEvent(
                run=RUN, sequence=2, step="s", step_succeeded=run_event_pb2.StepSucceeded(attempt=1, output=blob)
            ),
            run_event_pb2.RunEvent(run=RUN, sequence=3, run_succeeded=run_event_pb2.RunSucceeded()),
        ]
        answers = [pb.WatchRunResponse(event=fact) for fact in facts]
        mesh.watches = [answers[:2], [pb.WatchRunResponse(progress=pb.StepProgress(step="s"))], answers[2:]]
        events: list[Event] = [event async for event in client.events("6f1c")]
        assert [(event.sequence, event.kind, event.step) for event in events] == [
            (1, "run_started", ""),
            (2, "step_succeeded", "s"),
            (3, "run_succeeded", ""),
        ]
        assert events[0].fact == {"workflow": "w", "inputs": {"a": 1}, "labels": {"k": "v"}}
        assert events[1].fact == {"attempt": 1, "output": "x" * 70_000}
        watches = [request for request in mesh.requests if isinstance(request, pb.WatchRunRequest)]
        assert [request.after_sequence for request in watches] == [0, 2, 2]


async def test_decisions_are_listed_to_the_end_and_answered() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client:
        open_ones = await client.decisions(run="6f1c")
        assert [decision.name for decision in open_ones] == ["d1", "d2"]
        assert (open_ones[0].state, open_ones[0].options) == ("OPEN", ("yes", "no"))
        assert [request.page_token for request in mesh.requests] == ["", "more"]
        answered = await client.decide(open_ones[0], "yes", {"why": "ok"}, by="ada")
        assert (answered.state, answered.option, answered.answer, answered.answered_by) == (
            "ANSWERED",
            "yes",
            {"why": "ok"},
            "ada",
        )
        with pytest.raises(ValueError, match=r"^state: 'SHUT'"):
            await client.decisions(state="shut")
