"""A sitting about size: each part on its own server and its own store."""

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench import sitting
from bench.processes import BenchError, say
from bench.size import growth, long_runs, payloads, waiting, workers
from bench.size.base import Part, Point
from bench.systems import Consort

# What the parts need on disk: some GiB for payloads, and so many bytes for an event.
_SPACE = 4 << 30
_SPACE_PER_EVENT = 1_000


@dataclass(frozen=True, slots=True)
class Limits:
    """How far each part goes."""

    events: int
    waiting: int
    workers: int
    steps: int
    payload: int


@dataclass(frozen=True, slots=True)
class Settings:
    """How a sitting is made."""

    consort: Consort
    scratch: Path
    seed: int
    seconds: int
    only: tuple[str, ...]
    fill: str
    limits: Limits


def parts(settings: Settings) -> dict[str, Callable[[Part], list[Point]]]:
    """What is measured, by name, in order."""
    limits = settings.limits
    found: dict[str, Callable[[Part], list[Point]]] = {
        "long_runs": lambda part: long_runs.measure(part, limits.steps),
        "waiting": lambda part: waiting.measure(part, limits.waiting),
        "workers": lambda part: workers.measure(part, limits.workers),
        "payloads": lambda part: payloads.measure(part, limits.payload),
        "growth": lambda part: growth.measure(part, limits.events, settings.fill),
    }
    return {name: one for name, one in found.items() if not settings.only or name.startswith(settings.only)}


def run(settings: Settings, results: Path) -> Path:
    """Makes the sitting and returns its file. After each part the file is complete as far as it goes."""
    missing = settings.consort.missing()
    chosen = parts(settings)
    if missing or not chosen:
        raise BenchError(missing or f"--only {' '.join(settings.only)} chooses nothing")
    needed = _SPACE + settings.limits.events * _SPACE_PER_EVENT
    if shutil.disk_usage(settings.scratch).free < needed:
        raise BenchError(f"{settings.scratch} has less than {needed / 2**30:.0f} GiB free; choose another --scratch")
    document = sitting.begin(
        "size",
        settings.scratch,
        settings.seed,
        {"seconds": settings.seconds, "only": list(settings.only), "fill": settings.fill, **asdict(settings.limits)},
    )
    document |= {"version": settings.consort.version(), "curves": {}}
    path = None
    for name, measure in chosen.items():
        say(f"{name}: begins")
        folder = Path(tempfile.mkdtemp(prefix="consort-bench-", dir=settings.scratch))
        part = Part(settings.consort.binary, folder, settings.seconds, settings.seed)
        begun = time.monotonic()
        outcome: dict[str, Any] = {"scenario": name}
        try:
            measure(part)
        except Exception as error:
            # Whatever breaks breaks this part alone.
            outcome["failure"] = str(error) or repr(error)
            say(f"{name}: failed: {outcome['failure']}")
        except KeyboardInterrupt:
            with suppress(OSError):
                document["interrupted"] = True
                document["curves"][name] = part.points
                say(f"interrupted; what was read is in {sitting.write(document, results)}")
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        outcome |= {"took_s": round(time.monotonic() - begun, 1), "readings": part.readings}
        document["readings"].append(outcome)
        # A part that broke in the middle keeps the points it has.
        document["curves"][name] = part.points
        path = sitting.write(document, results)
    assert path is not None
    return path
