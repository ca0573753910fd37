"""A real X server without a screen, and programs on it, for tests."""

import contextlib
import os
import shutil
import struct
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

PROGRAMS = ("Xvfb", "xterm")
MISSING = [name for name in PROGRAMS if shutil.which(name) is None]
WIDTH, HEIGHT = 800, 600


@contextlib.contextmanager
def x_server() -> Iterator[str]:
    """Starts Xvfb on a display that is free, and yields its name."""
    ready, tell = os.pipe()
    command = ["Xvfb", "-displayfd", str(tell), "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-nolisten", "tcp", "-noreset"]
    with process(command, pass_fds=[tell]):
        os.close(tell)
        with os.fdopen(ready) as told:
            number = told.readline().strip()
        assert number, "Xvfb did not start"
        yield f":{number}"


@contextlib.contextmanager
def process(command: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A program that ends with the block."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options}
    with subprocess.Popen(command, **quiet) as found:  # noqa: S603
        try:
            yield found
        finally:
            found.terminate()
            try:
                found.wait(5)
            except subprocess.TimeoutExpired:
                found.kill()


def until(is_so: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Waits until a function yields something, and returns that."""
    end = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < end, "it did not become so"
        time.sleep(0.02)
    return found


class Picture:
    """A PNG as the plugin writes it: 8 bits of red, green and blue, no filter."""

    def __init__(self, png: bytes) -> None:
        assert png[:8] == b"\x89PNG\r\n\x1a\n"
        parts: dict[bytes, bytes] = {}
        at = 8
        while at < len(png):
            (size,) = struct.unpack(">I", png[at : at + 4])
            kind, data = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
            assert struct.unpack(">I", png[at + 8 + size : at + 12 + size]) == (zlib.crc32(kind + data),)
            parts[kind] = data
            at += 12 + size
        assert at == len(png)
        self.width, self.height, *rest = struct.unpack(">IIBBBBB", parts[b"IHDR"])
        assert rest == [8, 2, 0, 0, 0]
        rows, stride = zlib.decompress(parts[b"IDAT"]), 3 * self.width + 1
        assert len(rows) == stride * self.height
        assert set(rows[::stride]) == {0}
        self.rows = [rows[start + 1 : start + stride] for start in range(0, len(rows), stride)]

    def at(self, x: int, y: int) -> tuple[int, int, int]:
        red, green, blue = self.rows[y][3 * x : 3 * x + 3]
        return red, green, blue

    def count(self, colour: tuple[int, int, int]) -> int:
        return sum(self.at(x, y) == colour for y in range(self.height) for x in range(self.width))
