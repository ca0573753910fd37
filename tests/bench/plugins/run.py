"""Calls of plugins beside what could be used instead, in interleaved rounds of fresh processes."""

import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import figures, sitting
from bench.durable import is_chosen
from bench.plugins import goals
from bench.plugins.callers import OURS, Caller, Load
from bench.processes import BenchError, say


@dataclass(frozen=True, slots=True)
class Settings:
    """How a sitting is made."""

    rounds: int
    seconds: int
    warmup: int
    seed: int
    only: tuple[str, ...]
    scratch: Path


def chosen(callers: Sequence[Caller], names: Sequence[str]) -> list[Caller]:
    """Ours and the peers that the words name, wholly or by their beginning. BenchError if a word names none."""
    others = [caller.name for caller in callers if caller.name != OURS]
    wrong = [word for word in names if not any(is_chosen(name, [word]) for name in others)]
    if wrong:
        raise BenchError(f"--peers: {', '.join(wrong)} is no peer; there are {', '.join(others)}")
    return [caller for caller in callers if caller.name == OURS or is_chosen(caller.name, names)]


def plan(settings: Settings, callers: Sequence[Caller]) -> list[tuple[int, int, Caller]]:
    """Round, lanes and caller, in order: in each round every row, in each row every caller, shuffled by the seed."""
    chance = random.Random(settings.seed)
    rows = [
        lanes for lanes in goals.CONCURRENCIES if not settings.only or is_chosen(goals.row_of(lanes), settings.only)
    ]
    order = []
    for turn in range(settings.rounds):
        for lanes in chance.sample(rows, len(rows)):
            order += [(turn, lanes, caller) for caller in chance.sample(list(callers), len(callers))]
    return order


def measure(caller: Caller, load: Load, scratch: Path) -> list[dict[str, Any]]:
    """The readings of one caller under a load, in fresh processes; `failure` says why there is none."""
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="consort-bench-", dir=scratch))
    try:
        found = caller.call(folder, load)
    except Exception as error:
        # Whatever breaks breaks this reading alone.
        found = {caller.name: {"failure": str(error) or repr(error)}}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    about = {"scenario": goals.row_of(load.concurrency), "took_s": round(time.monotonic() - begun, 1)}
    return [{**about, "system": system, **read} for system, read in found.items()]


def run(settings: Settings, callers: Sequence[Caller], results: Path) -> Path:
    """Makes the sitting and returns its file. After each round the file is complete as far as it goes."""
    document = sitting.begin("plugins", settings.scratch, settings.seed, _as_json(settings))
    document["systems"] = {caller.name: _about(caller) for caller in callers}
    for name, about in document["systems"].items():
        say(f"{name}: {about.get('missing') or about['version']}")
    order = plan(settings, [caller for caller in callers if not caller.missing()])
    if not order:
        raise BenchError("nothing can be measured: what is missing is named above, and --only takes calls-1, calls-16")
    say(f"{len(order)} measurements in {settings.rounds} rounds, seed {settings.seed}")
    path = None
    try:
        for number, (turn, lanes, caller) in enumerate(order, 1):
            for reading in measure(caller, Load(lanes, settings.seconds, settings.warmup), settings.scratch):
                document["readings"].append({"round": turn + 1, **reading})
                who = f"round {turn + 1} {reading['scenario']} {reading['system']}"
                say(f"{number}/{len(order)} {who}: {_in_short(reading)}")
            if number == len(order) or order[number][0] != turn:
                path = finish(document, results)
    except KeyboardInterrupt:
        # What was read is not lost.
        with suppress(OSError):
            document["interrupted"] = True
            say(f"interrupted; what was read is in {finish(document, results)}")
        raise
    assert path is not None, "the last measurement ends a round"
    return path


def finish(document: sitting.Document, results: Path, mark: str = "") -> Path:
    """Adds what follows from the readings, and writes the document."""
    document["medians"] = figures.medians(document["readings"])
    document["ratios"] = figures.ratios(document["medians"], OURS)
    document["targets"] = goals.verdicts(document["medians"])
    return sitting.write(document, results, mark)


def _as_json(settings: Settings) -> dict[str, Any]:
    return {
        "rounds": settings.rounds,
        "seconds": settings.seconds,
        "warmup": settings.warmup,
        "only": list(settings.only),
        "processes": "fresh ones for each measurement",
    }


def _about(caller: Caller) -> dict[str, Any]:
    missing = caller.missing()
    return {"missing": missing, **({} if missing else {"version": caller.version(), "settings": caller.settings})}


def _in_short(reading: dict[str, Any]) -> str:
    if reading.get("failure"):
        return f"failed: {reading['failure']}"
    told = [f"{figures.short(reading['calls_per_s'])} calls/s"]
    for name in ("p50_ms", "p99_ms"):
        if reading.get(name) is not None:
            told.append(f"{name.removesuffix('_ms')} {figures.short(reading[name])} ms")
    if reading.get("doubtful"):
        told.append(f"latencies left out: {reading['doubtful']['why']}")
    if reading.get("errors"):
        told.append(f"{reading['errors']} errors: {reading.get('error_examples')}")
    return ", ".join(told)
