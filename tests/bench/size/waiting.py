"""Runs that wait: what they take of memory and processor, and how long a killed server needs to come back with them."""

import asyncio
import signal
import time

from bench.processes import BenchError
from bench.size.base import Part, Point
from bench.systems.consort import HOLD, start_many

_REST = 2.0


def measure(part: Part, runs: int) -> list[Point]:
    """A tenth of the runs, then all; each on the same store, which is killed and started again."""
    for goal in sorted({max(runs // 10, 1), runs}):
        with part.server() as server:
            time.sleep(_REST)
            held = part.points[-1]["runs"] if part.points else 0
            # A server that came back with runs has them in memory already: compare with one that had none.
            empty = part.points[-1]["empty_rss_mib"] if part.points else server.process.memory().resident
            before = server.figures("--steps", "1", "--concurrency", "64", turns=1)
            begun = time.monotonic()
            started = asyncio.run(start_many(server.address, HOLD, goal - held))
            took = time.monotonic() - begun
            if started != goal - held:
                raise BenchError(f"only {started} of {goal - held} runs started")
            time.sleep(_REST)
            cpu, memory = server.idle_cpu(), server.process.memory().resident
            after = server.figures("--steps", "1", "--concurrency", "64", turns=1)
            server.process.stop(signal.SIGKILL)
        with part.server() as again:
            time.sleep(_REST)
            point = {
                "runs": goal,
                "start_s": round(took, 2),
                "empty_rss_mib": empty,
                "rss_mib": memory,
                "kib_per_run": round((memory - empty) * 1024 / goal, 2),
                "cpu_percent": cpu,
                "runs_per_s_before": before["runs_per_s"],
                "runs_per_s": after["runs_per_s"],
                "restart_ms": again.ready_ms,
                "restart_rss_mib": again.process.memory().resident,
                "restart_cpu_percent": again.idle_cpu(),
                "store_mib": part.store_mib(),
            }
        part.add(point)
    return part.points
