"""How many tasks a second one Python worker does: `python python/tests/throughput.py [SECONDS] [SLOTS]`.

A bare mesh in a process of its own hands tasks to `python -m consort.noop` and gives a slot away again when its answer
comes in, so the figure is the worker's own limit and not that of the engine behind a mesh. The mesh says which
process ran out of time: on a machine with fewer than two free cores the two share it.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration

from consort._gen.agent.v1 import worker_service_pb2_grpc
from consort._gen.agent.v1.worker_service_pb2 import (
    Ack,
    Assignment,
    ConnectRequest,
    ConnectResponse,
    LeaseRef,
    Welcome,
)
from consort._gen.blob.v1.payload_pb2 import Payload


class BareMesh(worker_service_pb2_grpc.WorkerServiceServicer):
    """Keeps `slots` tasks with the worker and counts the answers."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.answered = 0
        self.frames = 0
        self._next = 0

    def _tasks(self, count: int) -> list[Assignment]:
        first, self._next = self._next, self._next + count
        return [
            Assignment(
                task=f"namespaces/default/runs/0192f0c1-5a9b-7cc0-8000-{n:012d}/steps/noop/attempts/1",
                lease_token=n + 1,
                agent="noop",
                input=Payload(json='{"n":1}'),
                idempotency_key=f"0192f0c1-5a9b-7cc0-8000-{n:012d}/noop",
                attempt=1,
                workflow="bench",
            )
            for n in range(first, first + count)
        ]

    async def Connect(  # noqa: N802
        self, request_iterator: AsyncIterator[ConnectRequest], context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> AsyncIterator[ConnectResponse]:
        await anext(request_iterator)
        welcome = Welcome(protocol=1, lease_ttl=Duration(seconds=10), server="bare")
        yield ConnectResponse(welcome=welcome, assignments=self._tasks(self.slots))
        async for frame in request_iterator:
            self.frames += 1
            if count := len(frame.completed):
                self.answered += count
                leases = [done.lease for done in frame.completed]
                acks = [Ack(lease=LeaseRef(task=lease.task, lease_token=lease.lease_token)) for lease in leases]
                yield ConnectResponse(assignments=self._tasks(count), acks=acks)


async def measure(seconds: float, slots: int) -> None:
    """Prints tasks a second after one second of warming up."""
    mesh = BareMesh(slots)
    server = grpc.aio.server()
    worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(mesh, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "consort.noop", "--slots", str(slots), "--address", f"127.0.0.1:{port}"
    )
    try:
        await asyncio.sleep(1.0)
        answered, frames, began = mesh.answered, mesh.frames, time.monotonic()
        spent_here, spent_there = time.process_time(), _cpu_seconds(worker.pid)
        await asyncio.sleep(seconds)
        passed, tasks = time.monotonic() - began, mesh.answered - answered
        here, there = time.process_time() - spent_here, _cpu_seconds(worker.pid) - spent_there
        per_frame = tasks / max(mesh.frames - frames, 1)
        print(f"{tasks / passed:,.0f} tasks/s with {slots} slots, {per_frame:.0f} a frame")
        print(f"worker {there / max(tasks, 1) * 1e6:.1f} us of CPU a task; mesh {here / max(tasks, 1) * 1e6:.1f} us")
    finally:
        worker.kill()
        await worker.wait()
        await server.stop(None)


def _cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    asyncio.run(measure(float(arguments[0]) if arguments else 5.0, int(arguments[1]) if len(arguments) > 1 else 512))
