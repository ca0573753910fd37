"""How a worker drains, reconnects and ends."""

import asyncio
from typing import Any

import grpc
import pytest
from worker_kit import ends_with_echo, make, serving

from consort import RefusedError, Task, TaskError, Worker
from consort._gen.agent.v1.worker_service_pb2 import ConnectResponse
from fake_mesh import FakeMesh, Stream, json_of, lease


async def test_stop_drains_what_is_in_hand_then_closes() -> None:
    release = asyncio.Event()
    async with FakeMesh() as mesh:
        worker = make(mesh)

        @worker.agent("slow")
        async def slow(task: Task) -> str:
            await task.log("begun")
            await release.wait()
            return "done"

        async with serving(worker) as served:
            stream = await mesh.stream(ttl=0.6)
            held = stream.assign("slow")
            await stream.heard("reports")
            worker.stop()
            await stream.heard("draining")
            late = stream.assign("echo", "too late")
            assert (await stream.heard("released")).lease == late
            release.set()
            assert (await stream.heard("completed")).lease == held
            # The answer is not on record yet, so the worker stays and says that it lives.
            for _ in range(stream.count("renew") + 1):
                await stream.heard("renew")
            assert not stream.closed_by_worker.is_set()
            stream.ack(held)
            await stream.closed_by_worker.wait()
            await served


async def test_a_drain_that_takes_too_long_gives_tasks_back() -> None:
    async with FakeMesh() as mesh:
        worker = make(mesh, drain_timeout=0.0)
        async with serving(worker) as served:
            stream = await mesh.stream()
            held = stream.assign("forever")
            await ends_with_echo(stream)
            worker.stop()
            assert (await stream.heard("released")).lease == held
            await served


async def test_stop_does_not_wait_for_a_mesh_that_says_nothing() -> None:
    async with FakeMesh() as mesh:
        worker = make(mesh)
        async with serving(worker) as served:
            await mesh.streams.get()
            worker.stop()
            await asyncio.wait_for(served, 5)


async def test_tasks_beyond_two_for_each_slot_are_given_back() -> None:
    async with FakeMesh() as mesh, serving(make(mesh, slots=1)):
        stream = await mesh.stream()
        for _ in range(2):
            stream.assign("forever")
        third = stream.assign("forever")
        assert (await stream.heard("released")).lease == third
        assert stream.count("released") == 0


async def drain(stream: Stream) -> None:
    """Drains the worker while it has a task, and sees it finish and close."""
    held = stream.assign("echo", 1)
    stream.send(ConnectResponse(drain=True))
    await stream.heard("draining")
    assert (await stream.heard("completed")).lease == held
    stream.ack(held)
    await stream.closed_by_worker.wait()


async def test_a_worker_that_a_living_mesh_drains_ends() -> None:
    async with FakeMesh() as mesh, serving(make(mesh)) as served:
        await drain(await mesh.stream())
        await served


async def test_a_worker_that_a_leaving_mesh_drains_comes_back() -> None:
    async with FakeMesh() as mesh, serving(make(mesh)):
        mesh.is_going_away = True
        stream = await mesh.stream()
        await drain(stream)
        again = await mesh.stream()
        assert again.hello.session_id == stream.hello.session_id
        await ends_with_echo(again)


async def test_a_worker_whose_name_was_taken_ends() -> None:
    async with FakeMesh() as mesh, serving(make(mesh)) as served:
        stream = await mesh.stream()
        stream.end(grpc.StatusCode.ABORTED, "another session took its place", "SESSION_REPLACED")
        with pytest.raises(RefusedError, match="another worker took the name 'tester'"):
            await served


async def test_after_a_break_leases_are_kept_and_answers_sent_again() -> None:
    release = asyncio.Event()
    async with FakeMesh() as mesh:
        worker = make(mesh)

        @worker.agent("slow")
        async def slow(task: Task) -> str:
            await task.log("begun")
            await release.wait()
            return "done"

        async with serving(worker):
            stream = await mesh.stream()
            slow_lease = stream.assign("slow")
            await stream.heard("reports")
            acked, unacked = stream.assign("echo", 1), stream.assign("echo", 2)
            for _ in range(2):
                await stream.heard("completed")
            stream.ack(acked)
            stream.end()
            again = await mesh.stream(resumed=[slow_lease, unacked])
            assert again.hello.session_id == stream.hello.session_id
            assert (await again.heard("completed")).lease == unacked
            release.set()
            assert (await again.heard("completed")).lease == slow_lease
            assert again.count("completed") == 0
            assert again.count("released") == 0


async def test_leases_that_were_not_resumed_are_cancelled_and_unknown_ones_given_back() -> None:
    stopped = asyncio.Event()
    async with FakeMesh() as mesh:
        worker = make(mesh)

        @worker.agent("patient")
        async def patient(task: Task) -> None:
            try:
                await task.log("begun")
                await asyncio.Event().wait()
            finally:
                stopped.set()

        async with serving(worker):
            stream = await mesh.stream()
            stream.assign("patient")
            await stream.heard("reports")
            stream.end()
            unknown = lease("namespaces/default/runs/r/steps/lost/attempts/1", 77)
            again = await mesh.stream(resumed=[unknown])
            await stopped.wait()
            assert (await again.heard("released")).lease == unknown
            held = again.assign("echo", "after", task="namespaces/default/runs/r/steps/next/attempts/1")
            assert (await again.heard("completed")).lease == held


async def test_an_answer_is_kept_while_the_mesh_is_away(caplog: pytest.LogCaptureFixture) -> None:
    release, finished = asyncio.Event(), asyncio.Event()
    async with FakeMesh() as mesh:
        worker = make(mesh)

        @worker.agent("slow")
        async def slow(task: Task) -> str:
            await task.log("begun")
            await release.wait()
            finished.set()
            return "done"

        async with serving(worker):
            stream = await mesh.stream()
            held = stream.assign("slow")
            await stream.heard("reports")
            stream.end()
            unwelcomed = await mesh.streams.get()
            release.set()
            await finished.wait()
            unwelcomed.end()
            again = await mesh.stream(resumed=[held])
            done = await again.heard("completed")
            assert (done.lease, json_of(done.output)) == (held, "done")
            assert len([line for line in caplog.messages if "lost the mesh" in line]) == 1


async def test_a_repeated_assignment_is_not_done_twice() -> None:
    async with FakeMesh() as mesh, serving(make(mesh)):
        stream = await mesh.stream()
        assignment = stream.assignment("echo", 1)
        stream.send(ConnectResponse(assignments=[assignment, assignment]))
        await stream.heard("completed")
        stream.send(ConnectResponse(assignments=[assignment]))
        await ends_with_echo(stream)
        assert stream.count("completed") == 0


async def test_a_refused_answer_is_forgotten_and_told(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeMesh() as mesh, serving(make(mesh)):
        stream = await mesh.stream()
        held = stream.assign("echo", 1)
        await stream.heard("completed")
        stream.ack(held, error=TaskError("FAILED_PRECONDITION", "lease lost").to_status())
        stream.end()
        again = await mesh.stream()
        held = again.assign("echo", 2, task="namespaces/default/runs/r/steps/next/attempts/1")
        assert (await again.heard("completed")).lease == held
        assert any("lease lost" in line for line in caplog.messages)


async def test_a_worker_keeps_trying_until_a_mesh_is_there(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeMesh() as placeholder:
        port = placeholder.port
    worker = Worker("tester", address=f"127.0.0.1:{port}")
    told = asyncio.Event()

    @worker.agent("echo")
    async def echo(task: Task) -> Any:
        return task.input

    class Tell:
        def filter(self, record: Any) -> bool:
            told.set()
            return True

    caplog.handler.addFilter(Tell())
    async with serving(worker):
        await told.wait()
        async with FakeMesh(port) as mesh:
            await ends_with_echo(await mesh.stream())
    assert len([line for line in caplog.messages if "no mesh" in line]) == 1


async def test_a_refusal_that_cannot_be_mended_ends_the_worker() -> None:
    async with FakeMesh() as mesh:
        mesh.refuse_hello = (grpc.StatusCode.INVALID_ARGUMENT, "hello.worker_id is reserved")
        with pytest.raises(RefusedError, match=r"worker_id is reserved"):
            await make(mesh).serve()


async def test_a_mesh_of_another_protocol_is_refused() -> None:
    async with FakeMesh() as mesh:
        served = asyncio.create_task(make(mesh).serve())
        (await mesh.streams.get()).welcome(protocol=2)
        with pytest.raises(RefusedError, match="protocol 2"):
            await served
