"""What the parts of a sitting about size share."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from bench.figures import short
from bench.processes import BenchError, Process, say
from bench.systems.base import MARGIN
from bench.systems.consort import bench_engine, serve

Point = dict[str, Any]
# Each point is the median of so many readings.
TURNS = 3
WARMUP = 2
_RATES = ("runs_per_s", "steps_per_s", "mib_per_s", "errors")
_LATENCIES = ("p50_ms", "p99_ms")


@dataclass(slots=True)
class Part:
    """One part of a sitting: its folder, and the points and readings it has so far."""

    binary: Path
    folder: Path
    seconds: int
    seed: int
    points: list[Point] = field(default_factory=list)
    readings: list[Point] = field(default_factory=list)

    @contextmanager
    def server(self, *flags: str, store: str = "") -> Iterator["Served"]:
        """A server on this part's store, or on one of this name; the store stays when the server ends."""
        folder = self.folder / store if store else self.folder
        process, address, ready_ms = serve(self.binary, folder, *flags)
        with process:
            yield Served(self, process, address, round(ready_ms, 1), folder)

    def add(self, point: Point) -> None:
        """A point of the curve."""
        self.points.append(point)
        said = ", ".join(f"{name} {short(value)}" for name, value in point.items() if isinstance(value, int | float))
        say(f"  {said}")


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs."""

    part: Part
    process: Process
    address: str
    ready_ms: float
    folder: Path

    def load(self, *flags: str, seconds: int | None = None, warmup: int = WARMUP) -> Point:
        """One reading of `consort bench engine` against this server."""
        span = self.part.seconds if seconds is None else seconds
        window = ["--seconds", str(span), "--warmup", str(warmup), "--seed", str(self.part.seed)]
        limit = span + warmup + MARGIN
        reading = bench_engine(self.part.binary, self.address, self.part.folder, limit, *flags, *window)
        # The sitting has its own, and where its scratch folder lay is nobody's business.
        reading.pop("machine", None)
        self.part.readings.append(reading)
        return reading

    def figures(self, *flags: str, turns: int = TURNS, warmup: int = WARMUP) -> Point:
        """The medians of some readings. BenchError if no run ended well in any of them."""
        seen = [self.load(*flags, warmup=warmup) for _ in range(turns)]
        # One in which the server stood still counts as a rate of nothing; it has no latency.
        some = [each for each in seen if each["runs"]]
        if not some:
            raise BenchError(f"no run ended within {seen[0]['seconds']} s: {seen[0]['error_examples']}")
        found = {
            name: [each[name] for each in readings if each.get(name) is not None]
            for readings, names in ((seen, _RATES), (some, _LATENCIES))
            for name in names
        }
        return {name: round(median(values), 3) for name, values in found.items() if values}

    def store_mib(self) -> float:
        """What the store takes on disk, in MiB."""
        files = (path for path in (self.folder / "data").rglob("*") if path.is_file())
        return round(sum(path.stat().st_size for path in files) / 2**20, 1)

    def idle_cpu(self, seconds: float = 10.0) -> float:
        """Percent of a core that the server takes while nobody asks for anything."""
        before = self.process.cpu_seconds()
        time.sleep(seconds)
        return round((self.process.cpu_seconds() - before) / seconds * 100, 2)
