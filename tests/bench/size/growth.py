"""A store that grows: does a run cost at ten million events what it cost at a thousand?"""

import asyncio
import math
import time
from typing import Any

from bench.processes import BenchError, say
from bench.size.base import Part, Point, Served

# Runs of ten steps, or of a thousand at once; what a run leaves in its history is counted, not assumed.
_FILLS = {"chain": (["--steps", "10"], "bench-10", 256), "fan": (["--fan", "1000"], "bench-fan-1000", 4)}
# Below so many events to write, one client fills: many would write more within a second.
_FEW = 30_000
# Measuring writes about as many events as this: a smaller store is one of its own, or it would be large by then.
_OWN_STORE = 1_000_000
# One slice of filling: long enough for a rate, short enough to see that it goes on.
_SLICE = 20
# Filling ends when it takes longer than this, whatever is reached.
_PATIENCE = 3_600.0


def checkpoints(events: int) -> list[int]:
    """Where the curve has its points: 1,000 and every tenfold, and the end."""
    return [*(10**power for power in range(3, 12) if 10**power < events), events]


def measure(part: Part, events: int, fill: str) -> list[Point]:
    """Fills stores through the front door, and measures one-step runs when they are as large as they should be."""
    goals = checkpoints(events)
    for goal in (goal for goal in goals if goal < _OWN_STORE):
        with part.server(store=f"events-{goal}") as server:
            _Filling(server, fill).measure(goal)
    if large := [goal for goal in goals if goal >= _OWN_STORE]:
        with part.server(store="events") as server:
            filling = _Filling(server, fill)
            for goal in large:
                filling.measure(goal)
    store = "events" if large else f"events-{goals[-1]}"
    with part.server(store=store) as again:
        part.points[-1] |= {"restart_ms": again.ready_ms, "restart_rss_mib": again.process.memory().resident}
        say(f"  ready again in {again.ready_ms:.0f} ms")
    return part.points


class _Filling:
    """A store under way. Runs that end after a window are in it, too, and are not counted: it holds at least `held`."""

    def __init__(self, server: Served, fill: str) -> None:
        self._server = server
        self._flags, self._workflow, self._lanes = _FILLS[fill]
        self._held = 0
        self._took = 0.0
        self._rates: dict[int, float] = {}
        self._events: dict[str, int] = {}

    def measure(self, goal: int) -> None:
        """Fills up to the goal and adds a point to the curve."""
        while self._held < goal:
            self._fill(goal - self._held)
            say(f"  {self._held:,} events after {self._took:.0f} s")
            if self._took > _PATIENCE:
                raise BenchError(f"{self._held:,} events took {self._took:.0f} s to write")
        server, part = self._server, self._server.part
        before = len(part.readings)
        alone = server.figures("--steps", "1", "--concurrency", "1")
        many = server.figures("--steps", "1", "--concurrency", "64")
        point = {
            "events": self._held,
            "fill_s": round(self._took, 1),
            **many,
            "p50_ms_alone": alone["p50_ms"],
            "p99_ms_alone": alone["p99_ms"],
            "rss_mib": server.process.memory().resident,
            "store_mib": server.store_mib(),
        }
        runs = sum(reading["runs"] for reading in part.readings[before:])
        self._held += runs * self._events_of("bench-1")
        part.add(point)

    def _fill(self, missing: int) -> None:
        lanes = 1 if missing < _FEW else self._lanes
        rate = self._rates.get(lanes)
        seconds = max(1, min(_SLICE, math.ceil(missing / rate))) if rate else 1
        begun = time.monotonic()
        reading = self._server.load(*self._flags, "--concurrency", str(lanes), seconds=seconds, warmup=0)
        self._took += time.monotonic() - begun
        if not reading["runs"]:
            raise BenchError(f"filling stopped: {reading['error_examples']}")
        written = reading["runs"] * self._events_of(self._workflow)
        self._rates[lanes] = written / seconds
        self._held += written

    def _events_of(self, workflow: str) -> int:
        if workflow not in self._events:
            self._events[workflow] = asyncio.run(_events_of_a_run(self._server.address, workflow))
        return self._events[workflow]


async def _events_of_a_run(address: str, workflow: str) -> int:
    """Events in the history of the newest run of a workflow that ended well."""
    from consort import Client  # noqa: PLC0415

    async with Client(address) as mesh:
        runs: list[Any] = await mesh.runs(workflow=workflow, states=("SUCCEEDED",), limit=1)
        return len([event async for event in mesh.events(runs[0])])
