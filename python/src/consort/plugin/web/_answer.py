"""Answers: their heads, and their bodies as far as they may be read."""

import http.client
import ipaddress
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from typing import Any

from consort.plugin.errors import PluginError

_PIECE = 64 * 1024
# Of the bytes before they are decoded; one may be longer than what comes out, but not by much.
_OVERHEAD = 64 * 1024


class BrokenAnswerError(Exception):
    """An answer that cannot be read to its end."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. Names of headers are in lower case, and values of one name joined with commas.

    `url` is where it came from, after redirects, and `peer` the address.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    url: str = ""
    peer: str = ""

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
        """Whom the connection went to. ValueError if the answer did not come over one."""
        return ipaddress.ip_address(self.peer)

    @property
    def text(self) -> str:
        """The body as text, in the character set that it says or UTF-8; what is none is replaced."""
        try:
            return self.body.decode(self.charset, "replace")
        except LookupError:
            return self.body.decode("utf-8", "replace")

    @property
    def charset(self) -> str:
        """The character set that the answer says, or UTF-8."""
        message = Message()
        message["content-type"] = self.headers.get("content-type", "")
        found = message.get_content_charset("utf-8")
        return str(found)

    def json(self) -> Any:
        """The body as a value. PluginError UNAVAILABLE if it is no JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise PluginError("UNAVAILABLE", "the service's answer is no JSON", reason="BROKEN_ANSWER") from None


class Stream:
    """An answer whose body is still to be read, once: `status`, `headers`, `url` and `peer` as in Answer."""

    def __init__(
        self, response: http.client.HTTPResponse, *, url: str, peer: str, most: int, close: Callable[[], None]
    ) -> None:
        self.status = response.status
        self.headers = _headers(response)
        self.url = url
        self.peer = peer
        self._response = response
        self._most = most
        self._close = close

    def close(self) -> None:
        """Hangs up."""
        self._close()

    def read(self) -> Answer:
        """The whole answer. PluginError and what else `pieces` raises."""
        return Answer(self.status, self.headers, b"".join(self.pieces()), self.url, self.peer)

    def read_some(self, most: int) -> Answer:
        """The answer with its body cut to `most` bytes."""
        found = bytearray()
        for piece in self._decoded():
            found += piece
            if len(found) >= most:
                break
        return Answer(self.status, self.headers, bytes(found[:most]), self.url, self.peer)

    def pieces(self, *, raw: bool = False) -> Iterator[bytes]:
        """The body, decoded unless it shall be `raw`, in pieces of at most 64 KiB.

        PluginError RESOURCE_EXHAUSTED, reason ANSWER_TOO_LARGE, if it is too long, before or after decoding.
        BrokenAnswerError if it ends too early or cannot be decoded; OSError as the connection.
        """
        size = 0
        for piece in self._raw() if raw else self._decoded():
            size += len(piece)
            if size > self._most:
                raise too_large(self._most)
            yield piece

    def _decoded(self) -> Iterator[bytes]:
        coding = self.headers.get("content-encoding", "identity").strip().lower()
        if coding in ("", "identity"):
            yield from self._raw()
        elif coding in ("gzip", "x-gzip", "deflate"):
            yield from _inflated(self._raw())
        else:
            raise BrokenAnswerError(f"the answer is encoded as {coding[:40]!r}, which was not asked for")

    def _raw(self) -> Iterator[bytes]:
        size = 0
        try:
            while piece := self._response.read(_PIECE):
                size += len(piece)
                if size > self._most + _OVERHEAD:
                    raise too_large(self._most)
                yield piece
        except (http.client.HTTPException, ValueError) as error:
            raise BrokenAnswerError(f"the answer broke off: {type(error).__name__}") from None
        if self._response.length:
            raise BrokenAnswerError(f"the answer broke off, {self._response.length} bytes before its end")


def _inflated(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """What gzip and zlib made smaller. However small it was, no more than a piece is held at once."""
    both = zlib.MAX_WBITS | 32
    inflate = zlib.decompressobj(both)
    is_begun = False
    try:
        for each in pieces:
            data, is_begun = each, True
            while True:
                if inflate.eof:
                    if not data:
                        break
                    inflate = zlib.decompressobj(both)
                found = inflate.decompress(data, _PIECE)
                data = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
                if found:
                    yield found
                if not data and len(found) < _PIECE:
                    break
    except zlib.error:
        raise BrokenAnswerError("the answer cannot be decompressed") from None
    if is_begun and not inflate.eof:
        raise BrokenAnswerError("the answer broke off within what is compressed")


def _headers(response: http.client.HTTPResponse) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in response.getheaders():
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found


def too_large(most: int) -> PluginError:
    """How a call fails whose answer has more than `most` bytes."""
    said = f"{most >> 20} MiB" if most >= 1 << 20 else f"{most} bytes"
    return PluginError("RESOURCE_EXHAUSTED", f"the answer has more than {said}", reason="ANSWER_TOO_LARGE")
