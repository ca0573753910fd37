"""Processes that the bench starts and always stops: each leads a session of its own, and has a log and a time limit."""

import contextlib
import json
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

_GRACE = 10.0
_TICKS = os.sysconf("SC_CLK_TCK")
_TAIL = 2_000

# A program and its arguments.
Command = Sequence[str | Path]

_alive: set["Process"] = set()


class BenchError(Exception):
    """A measurement that could not be made; its text says why."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a process, in MiB: resident now, and at most so far."""

    resident: float
    peak: float


class Process:
    """A program that runs in the background, with its output in a log. Use it as `with Process(...) as server: ...`."""

    def __init__(self, name: str, command: Command, folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        folder.mkdir(parents=True, exist_ok=True)
        self.started = time.monotonic()
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(  # noqa: S603 - the bench starts what it was told to measure.
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **(env or {})},
                cwd=folder,
                start_new_session=True,
            )
        _alive.add(self)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_for_line(self, word: str, limit: float) -> str:
        """Returns the first line of its output with a word in it. BenchError if none came within `limit` seconds."""
        assert self._child.stdout is not None
        end = time.monotonic() + limit
        text = b""
        with selectors.DefaultSelector() as ready:
            ready.register(self._child.stdout, selectors.EVENT_READ)
            while (left := end - time.monotonic()) > 0:
                if not ready.select(left):
                    break
                piece = os.read(self._child.stdout.fileno(), 4096)
                if not piece:
                    raise BenchError(f"{self.name} ended before it was ready: {self.tail()}")
                text += piece
                # What has no end yet may be a part of a line.
                for line in text.decode(errors="replace").split("\n")[:-1]:
                    if word in line:
                        return line.rstrip("\r")
        raise BenchError(f"{self.name} was not ready within {limit:g} s: {self.tail()}")

    def wait_for_port(self, port: int, limit: float) -> None:
        """Returns when something listens on the port. BenchError if nothing does within `limit` seconds."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            self.check()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            time.sleep(0.005)
        raise BenchError(f"{self.name} did not listen on port {port} within {limit:g} s: {self.tail()}")

    def check(self) -> None:
        """BenchError if it has ended."""
        if self._child.poll() is not None:
            raise BenchError(f"{self.name} ended with code {self._child.returncode}: {self.tail()}")

    def memory(self) -> Memory:
        """Its memory now. BenchError if it has ended."""
        self.check()
        return memory_of(self.pid)

    def cpu_seconds(self) -> float:
        """Processor time it has used so far, without that of its children."""
        self.check()
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_bytes()[-_TAIL:].decode(errors="replace").strip() if self.log.exists() else ""

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ends it with everything it started: asked first, made to after ten seconds."""
        _alive.discard(self)
        for sign in (number, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(_GRACE)
                break
        # A child that outlived it goes too, one in a group of its own as well.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        for pid in _members(self.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._child.stdout is not None:
            self._child.stdout.close()


def memory_of(pid: int) -> Memory:
    """Memory of a process, in MiB."""
    found: dict[str, float] = {}
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            found[name] = int(value.split()[0]) / 1024
    return Memory(round(found["VmRSS"], 1), round(found["VmHWM"], 1))


def _members(session: int) -> list[int]:
    """Processes of a session that is led by a process of that id."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        # A process may end while it is looked at.
        with contextlib.suppress(OSError):
            # After the name in parentheses: state, parent, group, session.
            if int(path.read_text().rpartition(")")[2].split()[3]) == session:
                found.append(int(path.parent.name))
    return found


def output_of(command: Command, folder: Path, limit: float, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The JSON object that a program prints. BenchError if it fails or takes longer than `limit` seconds."""
    name = Path(command[0]).name
    with Process(f"{name}-load", command, folder, env) as process:
        child = process._child
        try:
            out, _ = child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{name} took longer than {limit:g} s: {process.tail()}") from None
        text = out.decode(errors="replace").strip()
        # A bench that saw no run end prints its figures and fails: the figures say more.
        if not text:
            raise BenchError(f"{name} ended with code {child.returncode}: {process.tail()}")
        try:
            found: dict[str, Any] = json.loads(text)
        except ValueError:
            raise BenchError(f"{name} printed no JSON: {text[:_TAIL]}") from None
        return found


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, all different."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def _interrupted(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


@contextlib.contextmanager
def everything_stops() -> Iterator[None]:
    """Whatever ends the block, a signal included, everything that was started in it is stopped."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _interrupted)
    # A thousand workers are a thousand descriptors.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        for process in list(_alive):
            process.stop()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)


def say(text: str) -> None:
    """Tells the person who waits."""
    print(text, file=sys.stderr, flush=True)
