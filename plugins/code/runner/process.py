"""A run of an interpreter, watched until it ends or must be ended."""

import contextlib
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from consort.plugin import Call, PluginError
from runner import family, folder
from runner.settings import Settings

_LIMIT = str(Path(__file__).with_name("limit.py"))
_PIECE = 64 * 1024
_TICK_S = 0.02
_DISK_S = 0.25
_PATH = "/usr/local/bin:/usr/bin:/bin"
Reason = Literal["ended", "time", "disk"]


@dataclass(frozen=True)
class Run:
    """How it went. `reason` is what ended it; output that was cut has its end."""

    reason: Reason
    exit_code: int
    seconds: float
    stdout: str
    stderr: str
    truncated: bool


class _Tail:
    """The last bytes of what is written."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.data = bytearray()
        self.cut = False

    def add(self, data: bytes) -> None:
        self.data += data
        if len(self.data) > self.most:
            del self.data[: len(self.data) - self.most]
            self.cut = True


def run(call: Call, argv: list[str], place: Path, stdin: str, seconds: float) -> Run:
    """Runs it to its end, and then ends all that came from it."""
    settings: Settings = call.config
    limits = [settings.memory_mib << 20, settings.disk_mib << 20, int(seconds) + 1]
    environment = {"PATH": _PATH, "LANG": "C.UTF-8", "HOME": str(place), "TMPDIR": str(place)}
    tails = _Tail(settings.output_kib * 1024), _Tail(settings.output_kib * 1024)
    begun, others = time.monotonic(), family.descendants()
    with tempfile.TemporaryFile(dir=call.data) as text:
        text.write(stdin.encode())
        text.seek(0)
        process = subprocess.Popen(  # noqa: S603 - a granted interpreter.
            [sys.executable, "-I", "-S", _LIMIT, *map(str, limits), *argv],
            cwd=place,
            env=environment,
            stdin=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    reader = threading.Thread(target=_read, args=(process, tails), daemon=True)
    reader.start()
    try:
        reason = _watch(call, process, place, begun + seconds)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        if not family.end_all(others):
            # The next run would not be alone. The mesh starts the plugin anew, and its sandbox ends the rest.
            os._exit(1)
        reader.join(5)
    out, err = (tail.data.decode(errors="replace") for tail in tails)
    is_cut = any(tail.cut for tail in tails)
    return Run(reason, process.returncode, round(time.monotonic() - begun, 3), out, err, is_cut)


def _watch(call: Call, process: "subprocess.Popen[bytes]", place: Path, end: float) -> Reason:
    most = call.config.disk_mib << 20
    look = time.monotonic() + _DISK_S
    while process.poll() is None:
        if time.monotonic() >= end:
            return "time"
        if time.monotonic() >= look:
            if folder.size_of(place) > most:
                return "disk"
            look = time.monotonic() + _DISK_S
        call.sleep(_TICK_S)
    return "ended"


def _read(process: "subprocess.Popen[bytes]", tails: tuple[_Tail, _Tail]) -> None:
    pipes: tuple[IO[bytes] | None, IO[bytes] | None] = process.stdout, process.stderr
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        for pipe, tail in zip(pipes, tails, strict=True):
            if pipe is None:
                raise PluginError("INTERNAL", "both are pipes")
            selector.register(stack.enter_context(pipe), selectors.EVENT_READ, tail)
        while selector.get_map():
            for key, _ in selector.select():
                if data := os.read(key.fd, _PIECE):
                    key.data.add(data)
                else:
                    selector.unregister(key.fileobj)
