"""Who calls plugins: Consort, and what could be used instead. Each is started afresh for every measurement."""

import json
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.figures import contradiction
from bench.machine import version_of
from bench.processes import BenchError, output_of
from bench.systems import node

OURS = "consort"
DIRECT = "direct"
PEERS = Path(__file__).resolve().parents[1] / "peers"
# What `consort bench plugins` takes before it measures, for either kind of call.
CONSORT_WARMUP = 1
_LEAST_NODE = 20
# How long compiling a plugin may take.
_BUILD = 300.0
# How long starting and stopping may take beside the load itself.
_MARGIN = 60.0

# What was read of a system: `calls`, `calls_per_s`, `p50_ms`, `p99_ms`, `errors`, and what else is known.
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Load:
    """A closed loop of so many lanes over one connection, each calling again when it has its answer."""

    concurrency: int
    seconds: int
    warmup: int

    @property
    def flags(self) -> list[str]:
        """As the loads of the peers take it."""
        return [
            *("--concurrency", str(self.concurrency)),
            *("--seconds", str(self.seconds)),
            *("--warmup", str(self.warmup)),
        ]

    @property
    def limit(self) -> float:
        """Seconds after which the load is taken as stuck."""
        return 2 * (self.warmup + self.seconds) + _MARGIN


class Caller(Protocol):
    """Something whose calls can be measured."""

    name: str
    # How it is set, for the record.
    settings: dict[str, Any]

    def missing(self) -> str:
        """Why it cannot be measured here; empty if it can."""

    def version(self) -> str:
        """What it says it is."""

    def call(self, folder: Path, load: Load) -> dict[str, Figures]:
        """Does the load in an empty folder; figures by system, because one may measure two that belong together."""


class Consort:
    """Calls of one plugin through the mesh and, in the same sitting of `consort bench plugins`, made directly to it."""

    name = OURS

    def __init__(self, binary: Path, plugin: Path, *, sandbox: bool = True) -> None:
        self._binary = binary
        self._plugin = plugin
        self._sandbox = sandbox
        self.settings: dict[str, Any] = {
            "plugin": plugin.name,
            "operation": "echo",
            "sandbox": "required" if sandbox else "off",
            "client": "one connection over TCP to the server, one over a Unix socket to the plugin",
            "warmup": f"{CONSORT_WARMUP} s of either kind, whatever --warmup says",
        }

    def build(self) -> None:
        """Compiles the plugin if it is in Go and Go is there. BenchError if it does not compile."""
        if not (self._plugin / "main.go").is_file() or shutil.which("go") is None:
            return
        try:
            done = subprocess.run(
                ["go", "build", "."],  # noqa: S607
                cwd=self._plugin,
                capture_output=True,
                text=True,
                timeout=_BUILD,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise BenchError(f"go build in {self._plugin} took longer than {_BUILD:g} s") from None
        if done.returncode:
            raise BenchError(f"go build in {self._plugin}: {done.stderr.strip()}")

    def missing(self) -> str:
        """Why it cannot be measured here; empty if it can."""
        if not self._binary.is_file():
            return f"{self._binary} is not there; run cargo build --release --workspace"
        manifest = self._plugin / "consort-plugin.toml"
        if not manifest.is_file():
            return f"{manifest} is not there; name a plugin's folder with --plugin"
        program = tomllib.loads(manifest.read_text()).get("command", [""])[0]
        if (self._plugin / "main.go").is_file() and not (self._plugin / program).is_file():
            return f"{self._plugin / program} is not built, and Go is missing; see https://go.dev/dl"
        return ""

    def version(self) -> str:
        """What it says it is."""
        return version_of(self._binary, "--version")

    def call(self, folder: Path, load: Load) -> dict[str, Figures]:
        """One round of direct calls and one through the mesh."""
        command: list[str | Path] = [self._binary, "bench", "plugins", self._plugin, "--output", "json"]
        command += ["--concurrency", str(load.concurrency), "--seconds", str(load.seconds), "--rounds", "1"]
        command += [] if self._sandbox else ["--no-sandbox"]
        # Its own scratch folder goes where ours is, on the disk that was chosen, and with it.
        return readings_of(output_of(command, folder, load.limit, {"TMPDIR": str(folder)}), load)


def readings_of(said: dict[str, Any], load: Load) -> dict[str, Figures]:
    """What `consort bench plugins` printed, for the mesh and for direct calls. BenchError if a part is missing."""
    try:
        through, direct = float(said["per_s"]), float(said["direct_per_s"])
        p50, p99, direct_p50 = (float(said[name]) for name in ("p50_ms", "p99_ms", "direct_p50_ms"))
    except (KeyError, TypeError, ValueError) as error:
        raise BenchError(f"consort bench plugins printed other figures than were expected: {error!r}") from None
    mesh: Figures = {"calls": round(through * load.seconds), "calls_per_s": through, "p50_ms": p50, "p99_ms": p99}
    mesh |= {"loaded_mib": said.get("server_rss_mib"), "server_cores": said.get("server_cores")}
    alone: Figures = {"calls": round(direct * load.seconds), "calls_per_s": direct, "p50_ms": direct_p50}
    if isinstance(said.get("direct_p99_ms"), int | float):
        alone["p99_ms"] = float(said["direct_p99_ms"])
    found = {OURS: mesh, DIRECT: alone}
    # Both kinds are timed by the same means: what is wrong of one cannot be trusted of the other.
    doubt = contradiction(load.concurrency, through, p50, p99) or contradiction(
        load.concurrency, direct, direct_p50, float(alone.get("p99_ms", "inf"))
    )
    if doubt:
        found = {name: doubted(figures, doubt) for name, figures in found.items()}
    return found


def doubted(figures: Figures, doubt: str) -> Figures:
    """The figures without their latencies, which go to `doubtful` with the reason."""
    told = {name: value for name, value in figures.items() if name in ("p50_ms", "p99_ms")}
    return {**{name: value for name, value in figures.items() if name not in told}, "doubtful": {"why": doubt, **told}}


class _Peer:
    """A load that prints the figures of one system."""

    def __init__(self, name: str, command: list[str | Path], settings: dict[str, Any]) -> None:
        self.name = name
        self.settings = settings
        self._command = command

    def call(self, folder: Path, load: Load) -> dict[str, Figures]:
        """Starts the plugin or server, calls it and stops it."""
        found = output_of([*self._command, *load.flags], folder, load.limit)
        doubt = found.get("calls") and contradiction(
            load.concurrency, found["calls_per_s"], found["p50_ms"], found["p99_ms"]
        )
        return {self.name: doubted(found, doubt) if doubt else found}


class GoPlugin(_Peer):
    """hashicorp/go-plugin with an example of its own, unchanged."""

    def __init__(self, cache: Path, name: str, call: str, example: str, about: str) -> None:
        self._home = cache / "go-plugin"
        self._files = [self._home / "load", self._home / example]
        command: list[str | Path] = [self._files[0], "--plugin", self._files[1], "--call", call]
        super().__init__(name, command, {"example": example, "call": about})

    def missing(self) -> str:
        """Why it cannot be measured here; empty if it can."""
        for path in self._files:
            if not path.is_file():
                return f"{path} is not there; run tests/bench/setup.sh go-plugin, which needs Go"
        return ""

    def version(self) -> str:
        """The module, and what it was built with."""
        path = self._home / "version"
        return path.read_text().strip() if path.is_file() else ""


class McpPython(_Peer):
    """MCP over stdio: client and server of the official Python SDK, each a process."""

    def __init__(self, cache: Path) -> None:
        self._python = cache / "mcp-python/bin/python"
        about = {"tool": "echo, async, without an output schema", "requests": "all on one connection"}
        super().__init__("mcp-python", [self._python, PEERS / "mcp_python/mcp_load.py"], about)

    def missing(self) -> str:
        """Why it cannot be measured here; empty if it can."""
        return "" if self.version() else f"{self._python} has no MCP SDK; run tests/bench/setup.sh mcp-python"

    def version(self) -> str:
        """The SDK and Python; empty if it is not there."""
        ask = "import importlib.metadata as m, platform as p"
        ask += "; print('mcp', m.version('mcp'), 'on Python', p.python_version())"
        said = version_of(self._python, "-c", ask)
        return said if said.startswith("mcp ") else ""


class McpTypescript(_Peer):
    """MCP over stdio: client and server of the official TypeScript SDK, each a process."""

    def __init__(self, cache: Path) -> None:
        self._home = cache / "mcp-typescript"
        self._node = node.find(cache)
        about = {"tool": "echo, without an output schema", "requests": "all on one connection"}
        super().__init__("mcp-typescript", [self._node, self._home / "load.mjs"], about)

    def missing(self) -> str:
        """Why it cannot be measured here; empty if it can."""
        for path in (self._package, self._home / "load.mjs", self._home / "echo.mjs"):
            if not path.is_file():
                return f"{path} is not there; run tests/bench/setup.sh mcp-typescript, which needs Node and npm"
        return node.too_old(self._node, _LEAST_NODE)

    def version(self) -> str:
        """The SDK and Node."""
        sdk = json.loads(self._package.read_text())["version"] if self._package.is_file() else ""
        return f"@modelcontextprotocol/sdk {sdk} on Node {node.version(self._node)}"

    @property
    def _package(self) -> Path:
        return self._home / "node_modules/@modelcontextprotocol/sdk/package.json"


def peers(cache: Path) -> list[Caller]:
    """All peers, in the order in which they are shown."""
    return [
        GoPlugin(cache, "go-plugin", "get", "kv-grpc", "KV.Get over gRPC, which reads a small file"),
        GoPlugin(
            cache, "go-plugin-ping", "ping", "kv-grpc", "health check of the same plugin over gRPC, which does nothing"
        ),
        GoPlugin(
            cache, "go-plugin-greet", "greet", "greeter", "Greeter.Greet over net/rpc, which writes a line to its log"
        ),
        McpPython(cache),
        McpTypescript(cache),
    ]
