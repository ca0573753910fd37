"""The durable engine beside its peers: every row of the targets, in interleaved rounds on fresh stores."""

import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import figures, sitting, targets
from bench.processes import BenchError, say
from bench.systems import System, Work

# How long a server rests before its memory counts as idle.
_REST = 1.0
# Runs of 1,000 steps may take seconds: their window is longer.
_FAN_FACTOR = 2
# When no run ended within the window it is made so much longer.
_SLOW_FACTOR = 6
_CLIENTS = (1, 16, 64, 256)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A row to measure: the work, with a worker in some language, and with so many runs that wait meanwhile."""

    key: str
    work: Work
    worker: str = "native"
    live: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """How a sitting is made."""

    rounds: int
    seconds: int
    warmup: int
    seed: int
    live: int
    # The memory under many live runs takes long to set up and varies little.
    memory_rounds: int
    only: tuple[str, ...]
    scratch: Path


def scenarios(settings: Settings) -> list[Scenario]:
    """All rows, or those that `only` chooses."""
    work = Work(seconds=settings.seconds, warmup=settings.warmup)
    fan = replace(work, steps=1_000, fan=True, concurrency=1, seconds=settings.seconds * _FAN_FACTOR)
    found = [
        Scenario(f"{name}-{clients}", replace(work, steps=steps, concurrency=clients))
        for name, steps in (("one", 1), ("ten", 10))
        for clients in _CLIENTS
    ]
    found += [
        Scenario("ten-64-python", replace(work, steps=10), "python"),
        Scenario("fan-1", fan),
        Scenario("fan-1-python", fan, "python"),
        Scenario("live", work, live=settings.live),
    ]
    return [each for each in found if not settings.only or is_chosen(each.key, settings.only)]


def is_chosen(key: str, only: Sequence[str]) -> bool:
    """Whether one of the words is the key or its beginning up to a hyphen."""
    return any(f"{key}-".startswith(f"{word}-") for word in only)


def plan(settings: Settings, systems: Sequence[System], rows: Sequence[Scenario]) -> list[tuple[int, Scenario, System]]:
    """What is measured, in order: in each round every row, and in each row every system, shuffled by the seed."""
    chance = random.Random(settings.seed)
    order = []
    for turn in range(settings.rounds):
        for row in chance.sample(list(rows), len(rows)):
            if row.live and turn >= settings.memory_rounds:
                continue
            able = [system for system in systems if row.worker in system.workers]
            order += [(turn, row, system) for system in chance.sample(able, len(able))]
    return order


def measure(row: Scenario, system: System, folder: Path, *, slow: bool = False) -> dict[str, Any]:
    """One reading: a fresh server, the work, and what was seen; `failure` says why there is none.

    With `slow` the window is long from the beginning, and not only when no run ended within it.
    """
    longer = replace(row.work, seconds=row.work.seconds * _SLOW_FACTOR)
    reading: dict[str, Any] = {"scenario": row.key, "system": system.name}
    begun = time.monotonic()
    try:
        with system.deploy(folder, row.worker) as deployed:
            reading["ready_ms"] = round(deployed.ready_ms, 1)
            if row.live:
                time.sleep(_REST)
                reading["idle_mib"] = deployed.server.memory().resident
                reading["live"] = deployed.hold(row.live)
            reading |= deployed.load(longer if slow else row.work)
            if not slow and not reading["runs"] and not reading["errors"]:
                # Slow, not broken: a window that is long enough says how slow.
                reading |= deployed.load(longer) | {"slow": True}
            reading["steps_per_s"] = round(float(reading["runs_per_s"]) * row.work.steps, 1)
    except Exception as error:
        # Whatever breaks breaks this reading alone.
        reading["failure"] = str(error) or repr(error)
    reading["took_s"] = round(time.monotonic() - begun, 1)
    return reading


def run(settings: Settings, systems: Sequence[System], results: Path) -> Path:
    """Makes the sitting and returns its file. After each round the file is complete as far as it goes."""
    present = [system for system in systems if not system.missing()]
    rows = scenarios(settings)
    if not rows:
        raise BenchError(f"--only {' '.join(settings.only)} chooses nothing")
    document = sitting.begin("durable", settings.scratch, settings.seed, _as_json(settings))
    document["systems"] = {system.name: _about(system) for system in systems}
    for system in systems:
        say(f"{system.name}: {system.missing() or system.version()}")
    order = plan(settings, present, rows)
    say(f"{len(order)} measurements in {settings.rounds} rounds, seed {settings.seed}")
    path = None
    slow: set[tuple[str, str]] = set()
    hopeless: set[tuple[str, str]] = set()
    try:
        for number, (turn, row, system) in enumerate(order, 1):
            who = (row.key, system.name)
            is_last = number == len(order) or order[number][0] != turn
            if who in hopeless:
                say(f"{number}/{len(order)} {row.key} {system.name}: left out, no run ended in the round before")
                path = finish(document, results) if is_last else path
                continue
            folder = Path(tempfile.mkdtemp(prefix="consort-bench-", dir=settings.scratch))
            try:
                reading = measure(row, system, folder, slow=who in slow)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            reading = {"round": turn + 1, **reading}
            document["readings"].append(reading)
            say(f"{number}/{len(order)} round {turn + 1} {row.key} {system.name}: {_in_short(reading)}")
            if reading.get("slow"):
                (slow if reading["runs"] else hopeless).add(who)
            if is_last:
                path = finish(document, results)
    except KeyboardInterrupt:
        # What was read is not lost.
        with suppress(OSError):
            document["interrupted"] = True
            say(f"interrupted; what was read is in {finish(document, results)}")
        raise
    if path is None:
        raise BenchError("nothing can be measured: build Consort, or name it with --consort")
    return path


def finish(document: sitting.Document, results: Path, mark: str = "") -> Path:
    """Adds what follows from the readings, and writes the document."""
    document["medians"] = figures.medians(document["readings"])
    document["ratios"] = figures.ratios(document["medians"], targets.OURS)
    document["targets"] = targets.verdicts(document["medians"])
    return sitting.write(document, results, mark)


def _as_json(settings: Settings) -> dict[str, Any]:
    return {
        "rounds": settings.rounds,
        "seconds": settings.seconds,
        "fan_seconds": settings.seconds * _FAN_FACTOR,
        "warmup": settings.warmup,
        "live_runs": settings.live,
        "memory_rounds": settings.memory_rounds,
        "only": list(settings.only),
        "store": "a fresh folder and fresh processes for each measurement",
        "processes": "server, worker and client, each its own",
    }


def _about(system: System) -> dict[str, Any]:
    missing = system.missing()
    return {"missing": missing, **({} if missing else {"version": system.version(), "settings": system.settings})}


def _in_short(reading: dict[str, Any]) -> str:
    if reading.get("failure"):
        return f"failed: {reading['failure']}"
    said = (
        f"{figures.short(reading['runs_per_s'])} runs/s, p50 {figures.short(reading['p50_ms'])} ms, "
        f"p99 {figures.short(reading['p99_ms'])} ms, {reading['loaded_mib']:.0f} MiB"
    )
    errors = reading.get("errors")
    return f"{said}, {errors} errors: {reading.get('error_examples')}" if errors else said
