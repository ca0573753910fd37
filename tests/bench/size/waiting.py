"""Runs that wait: what they take of memory and processor, and how long a killed server needs to come back with them."""

import asyncio
import signal
import time

from bench.processes import BenchError
from bench.size.base import Part, Point
from bench.systems.base import HOLD
from bench.systems.consort import WAITING, start_many

_REST = 2.0
_LOAD = ("--steps", "1", "--concurrency", "64")


def measure(part: Part, runs: int) -> list[Point]:
    """A tenth of the runs, then all of them, each on a store of its own."""
    for goal in sorted({max(runs // 10, 1), runs}):
        part.add(_with(part, goal))
    return part.points


def _with(part: Part, runs: int) -> Point:
    store = f"waiting-{runs}"
    # Another process: what its load leaves in memory must not count as the runs'.
    with part.server(store=store) as server:
        before = server.figures(*_LOAD)
    with part.server(store=store) as server:
        time.sleep(_REST)
        empty = server.process.memory().resident
        begun = time.monotonic()
        started = asyncio.run(start_many(server.address, WAITING, runs, HOLD))
        took = time.monotonic() - begun
        if started != runs:
            raise BenchError(f"only {started} of {runs} runs started")
        time.sleep(_REST)
        memory, cpu = server.process.memory().resident, server.idle_cpu()
        after = server.figures(*_LOAD)
        server.process.stop(signal.SIGKILL)
    with part.server(store=store) as again:
        time.sleep(_REST)
        return {
            "runs": runs,
            "start_s": round(took, 2),
            "empty_rss_mib": empty,
            "rss_mib": memory,
            "kib_per_run": round((memory - empty) * 1024 / runs, 2),
            "cpu_percent": cpu,
            "runs_per_s_before": before["runs_per_s"],
            "runs_per_s": after["runs_per_s"],
            "restart_ms": again.ready_ms,
            "restart_rss_mib": again.process.memory().resident,
            "restart_cpu_percent": again.idle_cpu(),
            "store_mib": again.store_mib(),
        }
