"""Requests between agents, against a mesh that the test plays."""

import asyncio
import json
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from worker_kit import serving

from consort import AskError, Inquiry, Task, TaskError, Worker
from consort._gen.agent.v1.worker_service_pb2 import ConnectResponse, Reply
from consort._gen.agent.v1.worker_service_pb2 import Inquiry as InquiryMessage
from consort._gen.blob.v1.payload_pb2 import Payload
from fake_mesh import FakeMesh, Stream, json_of


def inquire(stream: Stream, number: int, agent: str, value: Any = None, **fields: Any) -> None:
    """Passes an inquiry to the worker."""
    fields.setdefault("timeout", Duration(seconds=5))
    message = InquiryMessage(number=number, agent=agent, payload=Payload(json=json.dumps(value)), depth=1, **fields)
    stream.send(ConnectResponse(inquiries=[message]))


def answer(stream: Stream, number: int, value: Any) -> None:
    """Answers a request of the worker."""
    stream.send(ConnectResponse(replies=[Reply(number=number, answer=Payload(json=json.dumps(value)))]))


def refuse(stream: Stream, number: int, code: int, reason: str) -> None:
    """Answers a request with an error of the mesh."""
    detail = AnyMessage()
    detail.Pack(ErrorInfo(reason=reason, domain="consort.dev"))
    error = Status(code=code, message="it says why", details=[detail])
    stream.send(ConnectResponse(replies=[Reply(number=number, error=error, retryable=True)]))


def answering(mesh: FakeMesh) -> Worker:
    worker = Worker("tester", address=mesh.address)

    @worker.answers("sum", at_once=8)
    async def add(inquiry: Inquiry, numbers: list[int]) -> dict[str, Any]:
        """Adds."""
        return {"sum": sum(numbers), "task": inquiry.task, "asker": inquiry.asker, "in_time": inquiry.time_left > 1}

    @worker.answers("slow")
    def slow(inquiry: Inquiry) -> Any:
        return {"of": inquiry.ask_agent("other", inquiry.input, timeout=3)}

    @worker.answers("forever")
    async def forever() -> None:
        await asyncio.Event().wait()

    @worker.answers("broken")
    async def broken(how: str) -> object:
        if how == "task error":
            raise TaskError("NOT_FOUND", "no such thing", retryable=False)
        if how == "no json":
            return object()
        raise KeyError(how)

    return worker


async def test_hello_offers_what_is_answered() -> None:
    async with FakeMesh() as mesh, serving(answering(mesh)):
        stream = await mesh.stream()
        offers = {offer.agent: (offer.at_once, offer.description) for offer in stream.hello.answers}
        assert offers["sum"] == (8, "Adds.")
        assert offers["slow"] == (16, "")
        assert not stream.hello.agents


async def test_inquiries_are_answered_by_fields() -> None:
    async with FakeMesh() as mesh, serving(answering(mesh)):
        stream = await mesh.stream()
        inquire(stream, 7, "sum", {"numbers": [1, 2]}, task="t", asker="w")
        reply = await stream.heard("replies")
        assert reply.number == 7
        assert json_of(reply.answer) == {"sum": 3, "task": "t", "asker": "w", "in_time": True}


@pytest.mark.parametrize(
    ("agent", "value", "code", "word", "retryable"),
    [
        ("sum", {"numbers": "x"}, 3, "numbers", False),
        ("broken", {"how": "task error"}, 5, "no such thing", False),
        ("broken", {"how": "no json"}, 13, "no JSON", False),
        ("broken", {"how": "else"}, 2, "KeyError", True),
        ("unknown", None, 12, "does not answer", False),
    ],
)
async def test_errors_of_handlers_travel(agent: str, value: Any, code: int, word: str, retryable: bool) -> None:
    async with FakeMesh() as mesh, serving(answering(mesh)):
        stream = await mesh.stream()
        inquire(stream, 1, agent, value)
        reply = await stream.heard("replies")
        assert (reply.error.code, reply.retryable) == (code, retryable), reply
        assert word in reply.error.message


async def test_a_withdrawn_inquiry_is_cancelled_and_replied_to() -> None:
    async with FakeMesh() as mesh, serving(answering(mesh)):
        stream = await mesh.stream()
        inquire(stream, 3, "forever")
        stream.send(ConnectResponse(withdrawn=[3, 99]))
        reply = await stream.heard("replies")
        assert (reply.number, reply.error.code) == (3, 1)


async def test_a_plain_handler_asks_within_its_inquiry() -> None:
    async with FakeMesh() as mesh, serving(answering(mesh)):
        stream = await mesh.stream()
        inquire(stream, 5, "slow", {"deep": True})
        ask = await stream.heard("asks")
        assert (ask.agent, ask.within, ask.timeout.seconds, json_of(ask.payload)) == ("other", 5, 3, {"deep": True})
        answer(stream, ask.number, 42)
        assert json_of((await stream.heard("replies")).answer) == {"of": 42}


async def test_a_task_asks_names_its_lease_and_puts_it_on_record() -> None:
    async with FakeMesh() as mesh:
        worker = Worker("tester", address=mesh.address)

        @worker.agent("curious")
        async def curious(task: Task) -> Any:
            first = await task.ask_agent("oracle", {"q": 1})
            return [first, await task.ask_agent("oracle", {"q": 2}, record=True)]

        async with serving(worker):
            stream = await mesh.stream()
            held = stream.assign("curious")
            ask = await stream.heard("asks")
            assert (ask.lease, ask.within, ask.HasField("timeout")) == (held, 0, False)
            answer(stream, ask.number, "one")
            answer(stream, (await stream.heard("asks")).number, "two")
            note = (await stream.heard("reports")).report.note
            assert note.name == "agent.ask"
            said = json_of(note.value)
            assert (said["agent"], said["request"], said["answer"]) == ("oracle", {"q": 2}, "two")
            assert said["ms"] >= 0
            assert json_of((await stream.heard("completed")).output) == ["one", "two"]


async def test_an_error_of_a_reply_fails_the_task_with_the_same() -> None:
    async with FakeMesh() as mesh:
        worker = Worker("tester", address=mesh.address)

        @worker.agent("curious")
        async def curious(task: Task) -> Any:
            return await task.ask_agent("oracle")

        async with serving(worker):
            stream = await mesh.stream()
            stream.assign("curious")
            refuse(stream, (await stream.heard("asks")).number, 14, "AGENT_OFFLINE")
            failed = await stream.heard("failed")
            assert (failed.error.code, failed.retryable, failed.error.message) == (14, True, "it says why")
            assert failed.error.details[0].Is(ErrorInfo.DESCRIPTOR)


async def test_a_worker_asks_from_outside_and_cancelling_withdraws() -> None:
    async with FakeMesh() as mesh:
        worker = answering(mesh)
        with pytest.raises(RuntimeError, match="does not serve"):
            await worker.ask_agent("oracle")
        async with serving(worker):
            await asyncio.sleep(0)
            early = asyncio.create_task(worker.ask_agent("oracle", [1], timeout=2.5))
            stream = await mesh.stream()
            ask = await stream.heard("asks")
            assert (ask.timeout.seconds, ask.timeout.nanos) == (2, 500_000_000)
            answer(stream, ask.number, "yes")
            assert await early == "yes"

            given_up = asyncio.create_task(worker.ask_agent("oracle"))
            number = (await stream.heard("asks")).number
            given_up.cancel()
            assert await stream.heard("withdrawn") == number
            with pytest.raises(ValueError, match="timeout: 601"):
                await worker.ask_agent("oracle", timeout=601)


async def test_a_broken_stream_fails_what_was_sent() -> None:
    async with FakeMesh() as mesh:
        worker = answering(mesh)
        async with serving(worker):
            stream = await mesh.stream()
            lost = asyncio.create_task(worker.ask_agent("oracle"))
            await stream.heard("asks")
            inquire(stream, 4, "forever")
            stream.end()
            with pytest.raises(AskError) as error:
                await lost
            assert error.value.reason == "CONNECTION_LOST"
            again = asyncio.create_task(worker.ask_agent("oracle", 2))
            stream = await mesh.stream()
            ask = await stream.heard("asks")
            assert json_of(ask.payload) == 2
            answer(stream, ask.number, "yes")
            assert await again == "yes"
            assert stream.count("replies") == 0


async def test_without_a_mesh_a_request_ends_in_time() -> None:
    async with FakeMesh() as mesh:
        worker = answering(mesh)
        async with serving(worker):
            await asyncio.sleep(0)
            with pytest.raises(AskError) as error:
                await worker.ask_agent("oracle", timeout=0.05)  # Nobody welcomed the worker.
            assert error.value.code.name == "DEADLINE_EXCEEDED"


def test_bad_settings_are_refused() -> None:
    worker = Worker("tester", address="127.0.0.1:1")
    worker.answers("twice")(lambda: None)
    for name, at_once, word in [("a b", 1, "malformed"), ("twice", 1, "answered for twice"), ("x", 0, "at_once")]:
        with pytest.raises(ValueError, match=word):
            worker.answers(name, at_once=at_once)(lambda: None)
