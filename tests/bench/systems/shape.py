"""The bare shape of a durable engine on this machine: `tests/bench/shape`."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.processes import Command, Process, free_ports, output_of
from bench.systems.base import HOLD, HOLD_MARGIN, START, Deploying, Deployment, Work, measured


class Shape:
    """Log, group-commit, then act, over tonic, and nothing else: the ceiling."""

    name = "shape"
    workers: tuple[str, ...] = ("native", "python")

    def __init__(self, cache: Path) -> None:
        self._binary = cache / "bin" / "shape"
        self.settings: dict[str, Any] = {
            "store": "SQLite, journal_mode=WAL, synchronous=FULL",
            "event_bytes": 100,
            "absent": "retries, timers, leases, recovery, reads of history",
        }

    def missing(self) -> str:
        """Why it cannot be measured here; empty if it can."""
        return "" if self._binary.is_file() else f"{self._binary} is not there; run tests/bench/setup.sh shape"

    def version(self) -> str:
        """What it says it is."""
        return "of this repository"

    def deploy(self, folder: Path, worker: str) -> Deploying:
        """Starts it on a fresh folder; everything is stopped at the end of the block."""
        return self._deploy(folder, worker)

    @contextmanager
    def _deploy(self, folder: Path, worker: str) -> Iterator[Deployment]:
        (port,) = free_ports(1)
        own: Command = [self._binary, "worker", "--port", str(port)]
        python: Command = [sys.executable, "-m", "bench.shape_worker", str(port)]
        with ExitStack() as stack:
            command: Command = [self._binary, "server", "--port", str(port), "--dir", folder]
            server = stack.enter_context(Process("server", command, folder))
            server.wait_for_line("ready", START)
            ready = (time.monotonic() - server.started) * 1e3
            env = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
            serving = stack.enter_context(Process("worker", own if worker == "native" else python, folder, env))
            serving.wait_for_line("ready", START)
            yield _Deployment(server, ready, self._binary, port, folder)


class _Deployment:
    def __init__(self, server: Process, ready_ms: float, binary: Path, port: int, folder: Path) -> None:
        self.server = server
        self.ready_ms = ready_ms
        self._client: Command = [binary, "client", "--port", str(port)]
        self._folder = folder

    def load(self, work: Work) -> dict[str, Any]:
        found: dict[str, Any] = {}
        flags = ["--steps", str(work.steps), "--concurrency", str(work.concurrency)]
        flags += ["--seconds", str(work.seconds), "--warmup", str(work.warmup), *(["--fan"] if work.fan else [])]
        with measured(self.server, found, work):
            found |= output_of([*self._client, *flags], self._folder, work.limit)
        return found

    def hold(self, runs: int) -> int:
        flags = ["--hold", "--requests", str(runs)]
        return int(output_of([*self._client, *flags], self._folder, HOLD + HOLD_MARGIN)["runs"])
