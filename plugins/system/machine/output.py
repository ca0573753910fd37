"""What programs write, as text, of which the end is kept."""

import codecs
import re
import threading
from typing import NamedTuple

# Sequences that move the cursor, colour and name windows, and single controls; ECMA-48, section 5.
_CONTROLS = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|\x1b[ -/]*[0-OQ-WYZ\\`-~]"
    r"|[\x00-\x08\x0e-\x1a\x7f]"
)
_BEGUN = re.compile(r"(?:\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07]{0,200}|[ -/]*)|\r)\Z")


class Piece(NamedTuple):
    """Text from position `start` to `next`; `lost` characters before it are not kept any more."""

    text: str
    start: int
    next: int
    lost: int


class Output:
    """Text that comes in pieces, of which the last `most` characters are kept.

    A position counts characters from the first one on. With `plain`, escape sequences and the
    carriage returns before line feeds are left out.
    """

    def __init__(self, most: int, *, plain: bool) -> None:
        self._most = most
        self._plain = plain
        self._text = ""
        self._start = 0
        self._held = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._lock = threading.Lock()
        self.closed = False

    @property
    def end(self) -> int:
        """The position after the last character."""
        with self._lock:
            return self._start + len(self._text)

    def add(self, data: bytes) -> None:
        """Takes what was written."""
        with self._lock:
            text = self._decoder.decode(data)
            self._text += self._cleaned(text) if self._plain else text
            if len(self._text) > self._most:
                gone = len(self._text) - self._most
                self._text = self._text[gone:]
                self._start += gone

    def close(self) -> None:
        """Nothing more will come."""
        with self._lock:
            self._text += self._held + self._decoder.decode(b"", final=True)
            self._held = ""
            self.closed = True

    def read(self, after: int = 0, most: int | None = None) -> Piece:
        """At most `most` characters from a position on."""
        with self._lock:
            begin = min(max(after, self._start), self._start + len(self._text))
            text = self._text[begin - self._start :][:most]
            return Piece(text, begin, begin + len(text), max(0, self._start - after))

    def _cleaned(self, text: str) -> str:
        """Without sequences. One that has begun and may go on is held back."""
        text = self._held + text
        cleaned = _CONTROLS.sub("", text)
        begun = _BEGUN.search(cleaned)
        self._held = begun.group() if begun else ""
        return cleaned[: len(cleaned) - len(self._held)].replace("\r\n", "\n")
