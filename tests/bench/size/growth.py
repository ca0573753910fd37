"""A store that grows: does a run cost at ten million events what it cost at a thousand?"""

import asyncio
import math
import time
from typing import Any

from bench.processes import BenchError, say
from bench.size.base import Part, Point, Served

# Runs of ten steps, or of a thousand at once; what a run leaves in its history is counted, not assumed.
_FILLS = {
    "chain": (["--steps", "10", "--concurrency", "256"], "bench-10"),
    "fan": (["--fan", "1000", "--concurrency", "4"], "bench-fan-1000"),
}
# One slice of filling: long enough for a rate, short enough to see that it goes on.
_SLICE = 20
# Filling ends when it takes longer than this, whatever is reached.
_PATIENCE = 3_600.0


def checkpoints(events: int) -> list[int]:
    """Where the curve has its points: 1,000 and every tenfold, and the end."""
    powers = [10**power for power in range(3, 12) if 10**power < events]
    return [*powers, events]


def measure(part: Part, events: int, fill: str) -> list[Point]:
    """Fills the store through the front door, measures one-step runs on the way, and starts the server again."""
    flags, workflow = _FILLS[fill]
    held, filling, ready_ms = 0, 0.0, 0.0
    with part.server() as server:
        one_step: int | None = None
        filled: int | None = None
        for goal in checkpoints(events):
            while held < goal:
                rate = held / filling if filling else 0.0
                seconds = max(1, min(_SLICE, math.ceil((goal - held) / rate))) if rate else 1
                begun = time.monotonic()
                reading = server.load(*flags, seconds=seconds, warmup=0)
                filling += time.monotonic() - begun
                if not reading["runs"]:
                    raise BenchError(f"filling stopped: {reading['error_examples']}")
                filled = filled or asyncio.run(_events_of_a_run(server, workflow))
                # Runs that ended after the window are in the store, too: this is the least it holds.
                held += reading["runs"] * filled
                say(f"  {held:,} events after {filling:.0f} s")
                if filling > _PATIENCE:
                    raise BenchError(f"{held:,} events took {filling:.0f} s to write, more than {_PATIENCE:.0f}")
            before = len(part.readings)
            alone = server.figures("--steps", "1", "--concurrency", "1")
            many = server.figures("--steps", "1", "--concurrency", "64")
            point = {
                "events": held,
                "fill_s": round(filling, 1),
                **many,
                "p50_ms_alone": alone["p50_ms"],
                "p99_ms_alone": alone["p99_ms"],
                "rss_mib": server.process.memory().resident,
                "store_mib": part.store_mib(),
            }
            one_step = one_step or asyncio.run(_events_of_a_run(server, "bench-1"))
            held += one_step * sum(reading["runs"] for reading in part.readings[before:])
            part.add(point)
        server.process.stop()
    with part.server() as again:
        ready_ms = again.ready_ms
        part.points[-1] |= {"restart_ms": ready_ms, "restart_rss_mib": again.process.memory().resident}
    say(f"  ready again in {ready_ms:.0f} ms")
    return part.points


async def _events_of_a_run(server: Served, workflow: str) -> int:
    """Events in the history of the newest run of a workflow that is over."""
    from consort import Client  # noqa: PLC0415

    async with Client(server.address) as mesh:
        runs: list[Any] = await mesh.runs(workflow=workflow, states=("SUCCEEDED",), limit=1)
        return len([event async for event in mesh.events(runs[0])])
