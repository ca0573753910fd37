"""What a worker promises to the mesh, seen from the mesh."""

import asyncio
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from worker_kit import ends_with_echo, make, serving

from consort import Task, TaskError, Worker
from consort._gen.agent.v1.worker_service_pb2 import ConnectResponse
from consort._gen.blob.v1.payload_pb2 import BlobRef, Payload
from fake_mesh import FakeMesh, json_of


async def test_hello_says_who_and_what() -> None:
    async with FakeMesh() as mesh, serving(make(mesh, slots={"default": 3, "gpu": 1})):
        hello = (await mesh.stream()).hello
        assert (hello.worker_id, hello.parent) == ("tester", "namespaces/default")
        assert (hello.min_protocol, hello.max_protocol, hello.sdk) == (1, 1, "python 0.1.0")
        assert len(hello.session_id) == 36
        assert {slot.slot: slot.credits for slot in hello.slots} == {"default": 3, "gpu": 1}
        echo = hello.agents[0]
        assert (echo.agent, echo.type, echo.description) == ("echo", "test", "Says it again.")
        assert (list(echo.capabilities), echo.slot) == (["text"], "default")


async def test_a_task_is_answered_with_its_lease() -> None:
    async with FakeMesh() as mesh, serving(make(mesh)):
        stream = await mesh.stream()
        held = stream.assign("echo", {"a": [1, 2.5, "ü", None, True]})
        done = await stream.heard("completed")
        assert done.lease == held
        assert json_of(done.output) == {"a": [1, 2.5, "ü", None, True]}


async def test_a_frame_of_tasks_comes_back_in_one_frame() -> None:
    async with FakeMesh() as mesh, serving(make(mesh, slots=64)):
        stream = await mesh.stream()
        await stream.heard("renew")
        stream.send(ConnectResponse(assignments=[stream.assignment("echo", n) for n in range(64)]))
        answers = [json_of((await stream.heard("completed")).output) for _ in range(64)]
        assert answers == list(range(64))
        assert [len(frame.completed) for frame in stream.frames if frame.completed] == [64]


async def test_renewals_come_every_third_of_the_ttl_with_cpu_and_memory() -> None:
    async with FakeMesh() as mesh, serving(make(mesh)):
        loop = asyncio.get_running_loop()
        stream = await mesh.stream(ttl=0.6)
        await stream.heard("renew")
        began = loop.time()
        for _ in range(3):
            renew = await stream.heard("renew")
            assert renew.memory_bytes > 1_000_000
            assert renew.cpu >= 0
        assert 0.3 <= loop.time() - began < 1.5


async def test_the_handler_sees_the_whole_task() -> None:
    seen: dict[str, Any] = {}
    async with FakeMesh() as mesh:
        worker = Worker("tester", address=mesh.address)

        @worker.agent("look")
        async def look(task: Task, text: str, limit: int = 3) -> dict[str, Any]:
            seen.update(name=task.name, key=task.idempotency_key, attempt=task.attempt, deadline=task.deadline)
            seen.update(agent=task.agent, workflow=task.workflow, cancelled=task.cancelled)
            return {"text": text, "limit": limit}

        async with serving(worker):
            stream = await mesh.stream()
            held = stream.assign("look", {"text": "hi"}, deadline=Timestamp(seconds=86400), workflow="notes")
            done = await stream.heard("completed")
            assert json_of(done.output) == {"text": "hi", "limit": 3}
            assert seen == {
                "name": held.task,
                "key": "key-1",
                "attempt": 1,
                "deadline": datetime(1970, 1, 2, tzinfo=UTC),
                "agent": "look",
                "workflow": "notes",
                "cancelled": False,
            }


async def test_a_plain_handler_runs_in_a_thread_and_may_return_a_dataclass() -> None:
    @dataclass
    class Point:
        x: int
        thread: bool

    async with FakeMesh() as mesh:
        worker = Worker("tester", address=mesh.address)
        main = threading.get_ident()

        @worker.agent("plain")
        def plain(task: Task, x: int) -> list[Point]:
            task.log("halfway", "warn")
            return [Point(x, threading.get_ident() != main)]

        async with serving(worker):
            stream = await mesh.stream()
            held = stream.assign("plain", {"x": 1})
            done = await stream.heard("completed")
            assert json_of(done.output) == [{"x": 1, "thread": True}]
            report = await stream.heard("reports")
            assert report.lease == held
            assert (report.report.log.text, report.report.log.level) == ("halfway", 3)


async def test_reports_leave_before_the_answer() -> None:
    async with FakeMesh() as mesh:
        worker = Worker("tester", address=mesh.address)

        @worker.agent("talk")
        async def talk(task: Task) -> None:
            await task.log("begin")
            await task.note("tool.call", {"n": 1})
            await task.progress(0.2, "reading")
            await task.progress(0.5, "writing")

        async with serving(worker):
            stream = await mesh.stream()
            stream.assign("talk")
            await stream.heard("completed")
            reports = [(await stream.heard("reports")).report for _ in range(3)]
            assert stream.count("reports") == 0, "only the last progress that waits is sent"
            assert reports[0].log.text == "begin"
            assert (reports[1].note.name, json_of(reports[1].note.value)) == ("tool.call", {"n": 1})
            assert (reports[2].progress.fraction, reports[2].progress.text) == (0.5, "writing")


async def test_task_errors_keep_their_meaning() -> None:
    async with FakeMesh() as mesh:
        worker = Worker("tester", address=mesh.address)

        @worker.agent("busy")
        async def busy() -> None:
            raise TaskError("UNAVAILABLE", "come back", retry_after=2.5, details={"queue": "9"})

        @worker.agent("wrong")
        async def wrong() -> None:
            raise TaskError("NOT_FOUND", "no such page")

        async with serving(worker):
            stream = await mesh.stream()
            stream.assign("busy")
            failed = await stream.heard("failed")
            assert (failed.error.code, failed.error.message, failed.retryable) == (14, "come back", True)
            assert failed.retry_after.ToMilliseconds() == 2500
            info = ErrorInfo()
            assert failed.error.details[0].Unpack(info)
            assert (info.reason, info.domain, dict(info.metadata)) == ("UNAVAILABLE", "consort.dev", {"queue": "9"})
            stream.assign("wrong")
            failed = await stream.heard("failed")
            assert (failed.error.code, failed.retryable, failed.HasField("retry_after")) == (5, False, False)


async def test_other_exceptions_are_unknown_with_the_traceback_as_a_log_line() -> None:
    async with FakeMesh() as mesh:
        worker = Worker("tester", address=mesh.address)

        @worker.agent("crash")
        def crash() -> None:
            raise KeyError("price")

        async with serving(worker):
            stream = await mesh.stream()
            stream.assign("crash")
            failed = await stream.heard("failed")
            assert (failed.error.code, failed.error.message, failed.retryable) == (2, "KeyError: 'price'", True)
            line = (await stream.heard("reports")).report.log
            assert line.level == 4
            assert 'raise KeyError("price")' in line.text


@pytest.mark.parametrize(
    ("value", "field", "problem"),
    [
        ({}, "text", "missing"),
        ({"text": "a", "size": 1}, "size", "unknown"),
        ({"text": 7}, "text", "got a whole number, wanted text"),
        ({"text": "a", "limit": True}, "limit", "got true or false, wanted a whole number or null"),
        ({"text": "a", "tags": ["x", 1]}, "tags", "wanted a list in which each is text"),
        ([1], "input", "got a list, wanted an object"),
    ],
)
async def test_bad_input_names_the_field_and_the_signature(value: Any, field: str, problem: str) -> None:
    async with FakeMesh() as mesh:
        worker = Worker("tester", address=mesh.address)

        @worker.agent("picky")
        async def picky(text: str, limit: int | None = 3, tags: list[str] | None = None) -> None: ...

        async with serving(worker):
            stream = await mesh.stream()
            stream.assign("picky", value)
            failed = await stream.heard("failed")
            assert (failed.error.code, failed.retryable) == (3, False)
            assert f"field '{field}'" in failed.error.message
            assert problem in failed.error.message
            assert "picky(text: str, limit: int | None = 3" in failed.error.message
            request = BadRequest()
            assert failed.error.details[0].Unpack(request)
            assert request.field_violations[0].field == field


async def test_inputs_as_struct_values_and_garbage() -> None:
    async with FakeMesh() as mesh, serving(make(mesh)):
        stream = await mesh.stream()
        value = Value()
        value.struct_value.update({"n": 3, "x": 0.5, "list": [None, True, "t"]})
        stream.assign("echo", input=Payload(value=value))
        assert json_of((await stream.heard("completed")).output) == {"n": 3, "x": 0.5, "list": [None, True, "t"]}
        stream.assign("echo", input=Payload())
        assert json_of((await stream.heard("completed")).output) is None
        stream.assign("echo", input=Payload(json="{"))
        failed = await stream.heard("failed")
        assert (failed.error.code, failed.retryable) == (3, False)


async def test_an_answer_that_is_no_json_is_a_final_internal_error() -> None:
    async with FakeMesh() as mesh:
        worker = Worker("tester", address=mesh.address)

        @worker.agent("odd")
        async def odd(kind: str) -> Any:
            return {"set": {1}, "nan": float("nan"), "surrogate": "\ud800"}[kind]

        async with serving(worker):
            stream = await mesh.stream()
            for kind in ("set", "nan", "surrogate"):
                stream.assign("odd", {"kind": kind})
                failed = await stream.heard("failed")
                assert (failed.error.code, failed.retryable) == (13, False)
                assert "the answer of 'odd' is no JSON" in failed.error.message


async def test_an_agent_that_is_not_served_is_unimplemented() -> None:
    async with FakeMesh() as mesh, serving(make(mesh)):
        stream = await mesh.stream()
        stream.assign("stranger")
        assert (await stream.heard("failed")).error.code == 12


async def test_large_values_travel_as_blobs_both_ways() -> None:
    async with FakeMesh() as mesh, serving(make(mesh)):
        stream = await mesh.stream()
        mesh.unavailable = 1
        mesh.break_download_after = 2
        text = '"' + "ü" * 150_000 + '"'
        digest = mesh.keep(text.encode())
        stream.assign("echo", input=Payload(blob=BlobRef(sha256=digest, size_bytes=len(text.encode()))))
        output = (await stream.heard("completed")).output
        assert (output.blob.sha256, output.blob.size_bytes) == (digest, 300_002)
        assert [request.offset for request in mesh.requests] == [0, 131_072], "a broken download goes on"


async def test_a_blob_over_the_limit_is_refused_before_it_is_fetched() -> None:
    async with FakeMesh() as mesh, serving(make(mesh)):
        stream = await mesh.stream()
        stream.assign("echo", input=Payload(blob=BlobRef(sha256="a" * 64, size_bytes=256 * 1024 * 1024 + 1)))
        failed = await stream.heard("failed")
        assert (failed.error.code, failed.retryable) == (3, False)
        assert mesh.requests == []


async def test_a_cancelled_task_stops_and_is_not_answered() -> None:
    stopped = asyncio.Event()
    async with FakeMesh() as mesh:
        worker = make(mesh)

        @worker.agent("patient")
        async def patient(task: Task) -> None:
            try:
                await task.log("begun")
                await asyncio.Event().wait()
            finally:
                assert task.cancelled
                stopped.set()

        async with serving(worker):
            stream = await mesh.stream()
            held = stream.assign("patient")
            await stream.heard("reports")
            stream.cancel(held)
            await stopped.wait()
            await ends_with_echo(stream)
            assert stream.count("failed") == 0


async def test_a_cancelled_plain_task_can_see_it() -> None:
    begun, go_on, saw = threading.Event(), threading.Event(), []
    async with FakeMesh() as mesh:
        worker = make(mesh)

        @worker.agent("loop")
        def loop(task: Task) -> str:
            begun.set()
            go_on.wait(10)
            saw.append(task.cancelled)
            task.log("nobody hears this")
            return "late"

        async with serving(worker):
            stream = await mesh.stream()
            held = stream.assign("loop")
            await asyncio.to_thread(begun.wait, 10)
            stream.cancel(held)
            await ends_with_echo(stream)
            go_on.set()
            while worker._session is not None and worker._session.tasks.busy_threads:
                await asyncio.to_thread(threading.Event().wait, 0.001)
            await ends_with_echo(stream)
            assert saw == [True]
            assert stream.count("reports") == 0


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"name": "Has Space"}, "name"),
        ({"slots": 0}, "slots"),
        ({"slots": {}}, "slots"),
        ({"address": "nowhere"}, "address"),
        ({"drain_timeout": -1.0}, "drain_timeout"),
        ({"namespace": "A"}, "namespace"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=f"^{word}: "):
        Worker(**{"name": "ok", **options})


def test_bad_registrations_are_named() -> None:
    worker = Worker("ok")

    @worker.agent("one")
    async def one() -> None: ...

    with pytest.raises(ValueError, match="registered twice"):
        worker.agent("one")
    with pytest.raises(ValueError, match="no slots of type 'gpu'"):
        worker.agent("two", slot="gpu")
    with pytest.raises(TypeError, match="'rest' cannot be given by name"):

        @worker.agent("three")
        async def three(*rest: int) -> None: ...
