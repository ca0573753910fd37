"""What a worker does as a process: signals, exit codes, and the no-op worker."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator

import grpc

from fake_mesh import FakeMesh, Stream

WORKER = """
import threading
from consort import Task, Worker
worker = Worker("child")

@worker.agent("wait")
def wait(task: Task) -> str:
    task.log("begun")
    threading.Event().wait()
    return "never"

@worker.agent("echo")
async def echo(task: Task):
    return task.input

worker.run()
"""


@contextlib.asynccontextmanager
async def child(mesh: FakeMesh, *arguments: str) -> AsyncIterator[Process]:
    """A Python process with the arguments, told where the mesh is; killed at the end if it still runs."""
    environment = {**os.environ, "CONSORT_ADDR": mesh.address}
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stderr=PIPE, env=environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until(process: Process, word: str) -> str:
    """Reads stderr up to the line that contains the word, and returns that line."""
    assert process.stderr is not None
    while line := (await process.stderr.readline()).decode():
        if word in line:
            return line
    raise AssertionError(f"stderr ended without {word!r}")


async def drained(stream: Stream) -> None:
    """Waits until the worker said that it drains and closed the stream."""
    await stream.heard("draining")
    await stream.closed_by_worker.wait()


async def test_noop_says_ready_answers_null_and_leaves_with_0() -> None:
    async with FakeMesh() as mesh, child(mesh, "-m", "consort.noop", "--agent", "nothing", "--slots", "7") as process:
        stream = await mesh.stream()
        assert (await until(process, "ready")).strip() == "ready"
        assert (stream.hello.agents[0].agent, stream.hello.slots[0].credits) == ("nothing", 7)
        held = stream.assign("nothing", {"any": "thing"})
        done = await stream.heard("completed")
        assert (done.lease, done.output.json) == (held, "null")
        stream.ack(held)
        process.send_signal(signal.SIGTERM)
        await drained(stream)
        assert await process.wait() == 0


async def test_interrupt_drains_too() -> None:
    async with FakeMesh() as mesh, child(mesh, "-c", WORKER) as process:
        stream = await mesh.stream()
        await until(process, "attached")
        process.send_signal(signal.SIGINT)
        await drained(stream)
        assert await process.wait() == 0


async def test_a_second_signal_exits_at_once() -> None:
    async with FakeMesh() as mesh, child(mesh, "-c", WORKER) as process:
        stream = await mesh.stream()
        stream.assign("wait")
        await stream.heard("reports")
        process.send_signal(signal.SIGTERM)
        await stream.heard("draining")
        assert process.returncode is None
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 128 + signal.SIGTERM


async def test_a_plain_handler_that_never_stops_does_not_hold_the_process() -> None:
    async with FakeMesh() as mesh, child(mesh, "-c", WORKER) as process:
        stream = await mesh.stream()
        held = stream.assign("wait")
        await stream.heard("reports")
        stream.cancel(held)
        process.send_signal(signal.SIGTERM)
        await drained(stream)
        assert await process.wait() == 0


async def test_a_refusal_ends_with_2_and_a_clear_line() -> None:
    async with FakeMesh() as mesh:
        mesh.refuse_hello = (grpc.StatusCode.INVALID_ARGUMENT, "hello.worker_id is reserved")
        async with child(mesh, "-c", WORKER) as process:
            line = await until(process, "refuses")
            assert "refuses worker 'child': INVALID_ARGUMENT: hello.worker_id is reserved" in line
            assert await process.wait() == 2


async def test_the_environment_names_the_worker() -> None:
    async with FakeMesh() as mesh:
        os.environ["CONSORT_WORKER_ID"] = "second"
        try:
            async with child(mesh, "-c", WORKER):
                assert (await mesh.stream()).hello.worker_id == "second"
        finally:
            del os.environ["CONSORT_WORKER_ID"]
