"""What containers write, as the engine sends it: pieces of both streams, each after a header of 8 bytes.

https://docs.docker.com/reference/api/engine/ ("Stream format" of attach): stream type, three zeros, size (big endian).
"""

import struct
from collections.abc import Iterator

from engine.errors import garbled

_HEADER = 8
_STDIN, _STDOUT, _STDERR, _SYSTEM = range(4)
_MOST_SYSTEM = 4096


class Tail:
    """Bytes that come in pieces, of which the last `most` are kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept = bytearray()
        self.lost = 0

    def add(self, data: bytes | memoryview) -> None:
        """Takes what was written."""
        self._kept += data[-self._most :]
        self.lost += max(0, len(data) - self._most)
        if len(self._kept) > 2 * self._most:
            self._cut()

    def text(self) -> str:
        """What is kept; a character that was cut at the beginning is left out."""
        self._cut()
        kept = bytes(self._kept)
        if self.lost:
            skipped = next((index for index in range(min(4, len(kept))) if kept[index] & 0xC0 != 0x80), 0)
            kept = kept[skipped:]
        return kept.decode("utf-8", "replace")

    def _cut(self) -> None:
        gone = max(0, len(self._kept) - self._most)
        del self._kept[:gone]
        self.lost += gone


class Frames:
    """Parts the two streams, whatever sizes are announced."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._system = bytearray()
        self._stream = _STDOUT
        self._left = 0

    def add(self, piece: bytes) -> Iterator[tuple[int, memoryview]]:
        """The stream (1 standard output, 2 standard error) and the bytes of what came.

        UNAVAILABLE, reason ENGINE_GARBLED, for a header that is none.
        """
        view = memoryview(piece)
        while view:
            if not self._left:
                wanted = _HEADER - len(self._header)
                self._header += view[:wanted]
                view = view[wanted:]
                if len(self._header) == _HEADER:
                    self._begin()
                continue
            part, view = view[: self._left], view[self._left :]
            self._left -= len(part)
            if self._stream == _SYSTEM:
                self._system += part[: _MOST_SYSTEM - len(self._system)]
            else:
                yield (_STDERR if self._stream == _STDERR else _STDOUT), part

    def close(self) -> None:
        """ENGINE_GARBLED if the end was within a piece, or the engine told of an error instead of output."""
        if self._system:
            raise garbled(f"an error instead of output: {self._system.decode('utf-8', 'replace')}")
        if self._left or self._header:
            raise garbled("an end within a piece of output")

    def _begin(self) -> None:
        self._stream, zeros, self._left = struct.unpack(">B3sI", self._header)
        if self._stream > _SYSTEM or zeros != b"\0\0\0":
            raise garbled(f"{bytes(self._header)!r} where a piece of output should begin")
        self._header.clear()


class Output:
    """Standard output and standard error of a container, the end of each. A terminal has but one stream."""

    def __init__(self, most: int, *, terminal: bool) -> None:
        self.stdout = Tail(most)
        self.stderr = Tail(most)
        self._frames = None if terminal else Frames()

    def add(self, piece: bytes) -> None:
        """Takes what came."""
        if self._frames is None:
            self.stdout.add(piece)
            return
        for stream, part in self._frames.add(piece):
            (self.stderr if stream == _STDERR else self.stdout).add(part)

    def close(self) -> None:
        """Nothing more will come. ENGINE_GARBLED if something is missing."""
        if self._frames is not None:
            self._frames.close()

    def texts(self) -> tuple[str, str, bool]:
        """Both streams, and whether there was more than is kept."""
        stdout, stderr = self.stdout.text(), self.stderr.text()
        return stdout, stderr, bool(self.stdout.lost or self.stderr.lost)
