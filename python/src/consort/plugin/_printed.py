"""What Python code prints under `consort-pyhost`: whole lines, each with the operation that printed it."""

import contextvars
import io
import threading
from typing import TextIO

# A line without an end is passed on when it is so long.
_LINE = 8 * 1024

doing: contextvars.ContextVar[str] = contextvars.ContextVar("doing", default="")
"""The operation that the current task or thread does."""


class Printed(io.TextIOBase):
    """Standard output or error: a line in work is kept until it is whole, so that lines of calls do not mix."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._begun: dict[tuple[str, int], str] = {}

    def write(self, text: str, /) -> int:
        """Takes text; passes on what is whole."""
        operation = doing.get()
        place = (operation, threading.get_ident())
        with self._lock:
            whole, end, rest = (self._begun.pop(place, "") + text).rpartition("\n")
            if len(rest) > _LINE:
                whole, end, rest = whole + end + rest, "\n", ""
            if rest:
                self._begun[place] = rest
            if end:
                before = f"[{operation}] " if operation else ""
                lines = "".join(f"{before}{line}\n" for line in whole.split("\n"))
                self._stream.write(lines)
                self._stream.flush()
        return len(text)

    def flush(self) -> None:
        """Passes on lines that are not whole of whoever asks."""
        if (doing.get(), threading.get_ident()) in self._begun:
            self.write("\n")

    def fileno(self) -> int:
        """The file beneath."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """It is none."""
        return False

    def writable(self) -> bool:
        """It is."""
        return True

    @property
    def buffer(self) -> object:
        """Where bytes go, past all this."""
        return self._stream.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream beneath."""
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """Of the stream beneath."""
        return self._stream.errors
