"""Consort: its server, and the worker and the client of `consort bench engine`."""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.machine import version_of
from bench.processes import Command, Process, output_of
from bench.systems.base import HOLD, START, Deploying, Deployment, Work, measured

WAITING = """\
name: bench-hold
steps:
  - {id: hold, wait: {signal: go}}
"""
# Starts under way at once, well below what a connection may carry.
_LANES = 48


class Consort:
    """The server with its defaults."""

    name = "consort"
    workers: tuple[str, ...] = ("native", "python")

    def __init__(self, binary: Path) -> None:
        self.binary = binary
        self.settings: dict[str, Any] = {
            "store": "SQLite, journal_mode=WAL, synchronous=FULL",
            "server": "defaults",
            "worker": "Rust SDK, 4,096 slots; or the Python SDK, 1,024 slots",
        }

    def missing(self) -> str:
        """Why it cannot be measured here; empty if it can."""
        return "" if self.binary.is_file() else f"{self.binary} is not there; run cargo build --release --workspace"

    def version(self) -> str:
        """What it says it is."""
        return version_of(self.binary, "--version")

    def deploy(self, folder: Path, worker: str) -> Deploying:
        """Starts it on a fresh folder; everything is stopped at the end of the block."""
        return self._deploy(folder, worker)

    @contextmanager
    def _deploy(self, folder: Path, worker: str) -> Iterator[Deployment]:
        with ExitStack() as stack:
            server, address, ready = serve(self.binary, folder)
            stack.enter_context(server)
            yield _Deployment(server, ready, self.binary, address, folder, worker)


def serve(binary: Path, folder: Path, *flags: str) -> tuple[Process, str, float]:
    """Starts a server on `folder`/data: its process, its address, and how long it took to be ready, in milliseconds.

    The caller stops the process.
    """
    data = folder / "data"
    # What a killed server left would be read in place of the new address.
    (data / "endpoint").unlink(missing_ok=True)
    command: Command = [binary, "serve", "--listen", "127.0.0.1:0", "--data", data, *flags]
    server = Process("server", command, folder, {"CONSORT_LOG": "warn"})
    try:
        server.wait_for_line("ready", START)
        ready = (time.monotonic() - server.started) * 1e3
        return server, (data / "endpoint").read_text().strip(), ready
    except BaseException:
        server.stop()
        raise


def bench_engine(binary: Path, address: str, folder: Path, limit: float, *flags: str) -> dict[str, Any]:
    """What `consort bench engine` says about a server that runs already."""
    command: Command = [binary, "bench", "engine", "--addr", address, "--dir", folder, "-o", "json", *flags]
    return output_of(command, folder, limit, {"CONSORT_PYTHON": sys.executable})


class _Deployment:
    def __init__(self, server: Process, ready_ms: float, binary: Path, address: str, folder: Path, worker: str) -> None:
        self.server = server
        self.ready_ms = ready_ms
        self._binary = binary
        self._address = address
        self._folder = folder
        self._worker = "rust" if worker == "native" else worker

    def load(self, work: Work) -> dict[str, Any]:
        found: dict[str, Any] = {}
        flags = [*(["--fan"] if work.fan else ["--steps"]), str(work.steps), "--concurrency", str(work.concurrency)]
        flags += ["--seconds", str(work.seconds), "--warmup", str(work.warmup), "--worker", self._worker]
        with measured(self.server, found, work):
            said = bench_engine(self._binary, self._address, self._folder, work.limit, *flags)
            # What it cannot see of a server that it did not start is null, and must not hide what is seen here.
            found |= {name: value for name, value in said.items() if value is not None and name != "machine"}
        return found

    def hold(self, runs: int) -> int:
        return asyncio.run(start_many(self._address, WAITING, runs, HOLD))


async def start_many(address: str, definition: str, runs: int, limit: float) -> int:
    """Starts runs of a workflow, for `limit` seconds at most, and waits for none; gives how many have started."""
    from consort import Client  # noqa: PLC0415 - the SDK is needed for this alone.

    async with Client(address) as mesh:
        workflow = await mesh.apply(definition)
        left = iter(range(runs))
        end = time.monotonic() + limit
        started = 0

        async def lane() -> None:
            nonlocal started
            for _ in left:
                if time.monotonic() > end:
                    return
                await mesh.start(workflow)
                started += 1

        await asyncio.gather(*(lane() for _ in range(_LANES)))
    return started
