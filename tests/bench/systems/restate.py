"""Restate: its server and a service of its TypeScript SDK on Node, driven over its HTTP ingress."""

import json
import platform
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.machine import version_of
from bench.processes import BenchError, Command, Process, free_ports, output_of
from bench.systems import node
from bench.systems.base import HOLD, HOLD_MARGIN, START, Deploying, Deployment, Work, measured

_LEAST_NODE = 22
_LOOPBACK = "http://127.0.0.1"


class Restate:
    """The server with its defaults; the service runs each step with `ctx.run`, which is journaled before the next."""

    name = "restate"
    workers: tuple[str, ...] = ("native",)

    def __init__(self, cache: Path) -> None:
        self._home = cache / "restate"
        self._load = cache / "bin" / "httpload"
        arch = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        self._binary = self._home / f"node_modules/@restatedev/restate-server-linux-{arch}/bin/restate-server"
        self._node = node.find(cache)
        self.settings: dict[str, Any] = {
            "server": "defaults (RocksDB, write-ahead log synced)",
            "worker": f"@restatedev/restate-sdk on Node {node.version(self._node)}",
            "client": "HTTP/1.1 kept alive, one connection a lane",
        }

    def missing(self) -> str:
        """Why it cannot be measured here; empty if it can."""
        for path in (self._binary, self._load, self._home / "service.mjs"):
            if not path.is_file():
                return f"{path} is not there; run tests/bench/setup.sh restate shape"
        return node.too_old(self._node, _LEAST_NODE)

    def version(self) -> str:
        """What it says it is."""
        return version_of(self._binary, "--version")

    def deploy(self, folder: Path, worker: str) -> Deploying:
        """Starts it on a fresh folder; everything is stopped at the end of the block."""
        if worker != "native":
            raise BenchError(f"restate is measured with its Node worker, not with one in {worker}")
        return self._deploy(folder)

    @contextmanager
    def _deploy(self, folder: Path) -> Iterator[Deployment]:
        own, ingress, admin, service = free_ports(4)
        env = {
            "RESTATE_BASE_DIR": str(folder / "data"),
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{own}",
            "RESTATE_ADVERTISED_ADDRESS": f"{_LOOPBACK}:{own}",
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
            "RESTATE_LOG_FILTER": "error",
            "RESTATE_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "1",
        }
        with ExitStack() as stack:
            server = stack.enter_context(Process("server", [self._binary, "--no-logo"], folder, env))
            for port, path in ((admin, "/health"), (ingress, "/restate/health")):
                _healthy(server, f"{_LOOPBACK}:{port}{path}")
            ready = (time.monotonic() - server.started) * 1e3
            settings = {"PORT": str(service), "NODE_ENV": "production", "RESTATE_LOGGING": "ERROR"}
            command: Command = [self._node, self._home / "service.mjs"]
            stack.enter_context(Process("worker", command, folder, settings)).wait_for_port(service, START)
            _post(f"{_LOOPBACK}:{admin}/deployments", {"uri": f"{_LOOPBACK}:{service}"})
            yield _Deployment(server, ready, self._load, f"{_LOOPBACK}:{ingress}/Bench", folder)


class _Deployment:
    def __init__(self, server: Process, ready_ms: float, load: Path, service: str, folder: Path) -> None:
        self.server = server
        self.ready_ms = ready_ms
        self._load = load
        self._service = service
        self._folder = folder

    def load(self, work: Work) -> dict[str, Any]:
        handler = "fan" if work.fan else {1: "one", 10: "ten"}[work.steps]
        found: dict[str, Any] = {}
        flags = ["--url", f"{self._service}/{handler}", "--concurrency", str(work.concurrency)]
        flags += ["--seconds", str(work.seconds), "--warmup", str(work.warmup)]
        with measured(self.server, found, work):
            found |= output_of([self._load, *flags], self._folder, work.limit)
        return found

    def hold(self, runs: int) -> int:
        flags = ["--url", f"{self._service}/hold/send", "--requests", str(runs)]
        return int(output_of([self._load, *flags], self._folder, HOLD + HOLD_MARGIN)["runs"])


def _healthy(server: Process, url: str) -> None:
    end = time.monotonic() + START
    while time.monotonic() < end:
        server.check()
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - always a URL of this machine.
                return
        except OSError:
            time.sleep(0.005)
    raise BenchError(f"restate did not answer {url} within {START:.0f} s: {server.tail()}")


def _post(url: str, body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=START):  # noqa: S310
            return
    except urllib.error.HTTPError as error:
        raise BenchError(f"restate refused {url}: {error.read().decode(errors='replace')}") from error
