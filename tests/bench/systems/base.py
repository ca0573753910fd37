"""What every system can be asked."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.processes import Process

# How long a server or a worker may take to start.
START = 60.0
# How long runs that wait are started, and how much longer the last of them may take.
HOLD = 180
HOLD_MARGIN = 60.0
# How long a load may go on after its window, for the answers that are under way.
MARGIN = 120.0


@dataclass(frozen=True, slots=True)
class Work:
    """A closed loop of `concurrency` lanes, each starting a run of `steps` and waiting for its end."""

    steps: int = 1
    # All steps at once, and not one after the other.
    fan: bool = False
    concurrency: int = 64
    seconds: int = 5
    warmup: int = 2

    @property
    def limit(self) -> float:
        """Seconds after which the load is taken as stuck."""
        return self.warmup + self.seconds + MARGIN


class Deployment(Protocol):
    """A server on a fresh store with its worker attached."""

    # From the start of the server's process until it answers.
    ready_ms: float
    server: Process

    def load(self, work: Work) -> dict[str, Any]:
        """Does the work; gives `runs`, `runs_per_s`, `p50_ms`, `p99_ms`, `errors` and `error_examples`."""

    def hold(self, runs: int) -> int:
        """Starts runs that wait, for HOLD seconds at most; gives how many have started."""


class System(Protocol):
    """Something that can be measured."""

    name: str
    # How it is set, for the record.
    settings: dict[str, Any]
    # Languages of the workers it can be measured with.
    workers: tuple[str, ...]

    def missing(self) -> str:
        """Why it cannot be measured here; empty if it can."""

    def version(self) -> str:
        """What it says it is."""

    def deploy(self, folder: Path, worker: str) -> "Deploying":
        """Starts it on a fresh folder; everything is stopped at the end of the block."""


class Deploying(Protocol):
    """What `with` takes."""

    def __enter__(self) -> Deployment: ...

    def __exit__(self, *what: Any) -> bool | None: ...


@contextmanager
def measured(server: Process, figures: dict[str, Any], work: Work) -> Iterator[None]:
    """Adds what the server's process took meanwhile, warm-up included."""
    before = server.cpu_seconds()
    yield
    memory = server.memory()
    figures["server_cores"] = round((server.cpu_seconds() - before) / (work.seconds + work.warmup), 2)
    figures["loaded_mib"] = memory.resident
    figures["peak_mib"] = memory.peak
    figures["seconds"] = work.seconds
