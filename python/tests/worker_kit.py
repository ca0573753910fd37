"""Runs workers against a mesh that the tests play."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from consort import RefusedError, Task, Worker
from fake_mesh import FakeMesh, Stream


@contextlib.asynccontextmanager
async def serving(worker: Worker) -> AsyncIterator["asyncio.Task[None]"]:
    """Serves the worker; at the end it must have ended by itself, or is stopped the hard way."""
    task = asyncio.create_task(worker.serve())
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, RefusedError):
            await task


def make(mesh: FakeMesh, **options: Any) -> Worker:
    """A worker with the agents that most tests need."""
    worker = Worker("tester", address=mesh.address, **options)

    @worker.agent("echo", type="test", description="Says it again.", capabilities=["text"])
    async def echo(task: Task) -> Any:
        return task.input

    @worker.agent("forever")
    async def forever() -> None:
        await asyncio.Event().wait()

    return worker


async def ends_with_echo(stream: Stream) -> None:
    """Shows that the worker goes on and that nothing else was answered."""
    held = stream.assign("echo", "after")
    done = await stream.heard("completed")
    assert done.lease == held
