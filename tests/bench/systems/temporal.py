"""Temporal: its development server on SQLite, and a worker and a client of its Go SDK."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.processes import BenchError, Command, Process, free_ports, output_of
from bench.systems.base import HOLD, HOLD_MARGIN, START, Deploying, Deployment, Work, measured


class Temporal:
    """A step is an activity: a task that the server hands to the worker, and whose result it stores."""

    name = "temporal"
    workers: tuple[str, ...] = ("native",)

    def __init__(self, cache: Path) -> None:
        self._server = cache / "bin" / "temporal-devserver"
        self._load = cache / "bin" / "temporal-load"
        self._version = cache / "temporal" / "version"
        self.settings: dict[str, Any] = {
            "store": "SQLite file, journal_mode=WAL, synchronous=FULL, one connection as it comes",
            "server": "development server, one history shard, request limits raised to 100,000/s",
            "worker": "Go SDK, 16 pollers for workflows and 16 for activities",
        }

    def missing(self) -> str:
        """Why it cannot be measured here; empty if it can."""
        for path in (self._server, self._load):
            if not path.is_file():
                return f"{path} is not there; run tests/bench/setup.sh temporal"
        return ""

    def version(self) -> str:
        """What it says it is."""
        return self._version.read_text().strip() if self._version.is_file() else ""

    def deploy(self, folder: Path, worker: str) -> Deploying:
        """Starts it on a fresh folder; everything is stopped at the end of the block."""
        if worker != "native":
            raise BenchError(f"temporal is measured with its Go worker, not with one in {worker}")
        return self._deploy(folder)

    @contextmanager
    def _deploy(self, folder: Path) -> Iterator[Deployment]:
        (port,) = free_ports(1)
        address = ["--address", f"127.0.0.1:{port}"]
        with ExitStack() as stack:
            command: Command = [self._server, "--port", str(port), "--db-filename", folder / "temporal.db"]
            server = stack.enter_context(Process("server", command, folder))
            server.wait_for_line("ready", START)
            ready = (time.monotonic() - server.started) * 1e3
            worker = stack.enter_context(Process("worker", [self._load, "worker", *address], folder))
            worker.wait_for_line("ready", START)
            yield _Deployment(server, ready, [self._load, "client", *address], folder)


class _Deployment:
    def __init__(self, server: Process, ready_ms: float, client: list[str | Path], folder: Path) -> None:
        self.server = server
        self.ready_ms = ready_ms
        self._client = client
        self._folder = folder

    def load(self, work: Work) -> dict[str, Any]:
        found: dict[str, Any] = {}
        flags = ["--steps", str(work.steps), "--concurrency", str(work.concurrency)]
        flags += ["--seconds", str(work.seconds), "--warmup", str(work.warmup), *(["--fan"] if work.fan else [])]
        with measured(self.server, found, work):
            found |= output_of([*self._client, *flags], self._folder, work.limit)
        return found

    def hold(self, runs: int) -> int:
        flags = ["--hold", str(runs), "--seconds", str(HOLD)]
        return int(output_of([*self._client, *flags], self._folder, HOLD + HOLD_MARGIN)["runs"])
