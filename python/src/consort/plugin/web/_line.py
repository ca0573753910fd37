"""A connection that ends in time, whoever trickles, floods or says nothing at its other end."""

import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

# How often it is looked whether anybody still waits.
_LOOK_S = 0.25
_PIECE = 64 * 1024
# Status line and headers of an answer, with those of interim ones. http.client takes at most 100 headers.
_MOST_HEAD = 256 * 1024


class Line:
    """A connected socket, as far as http.client needs one.

    Each wait takes at most `each` seconds and none goes beyond `until`, of time.monotonic; `check` is called while it
    waits, and ends it by raising. TimeoutError if it is too long.
    """

    def __init__(self, sock: socket.socket, each: float, until: float, check: Callable[[], None]) -> None:
        self._sock = sock
        self._each = each
        self._until = until
        self._check = check
        # What may still be read before the head is over; None afterwards.
        self._head: int | None = _MOST_HEAD

    def sendall(self, data: Any) -> None:
        """Sends all."""
        view = memoryview(data).cast("B")
        while view:
            size = self._waited(self._sock.send, view[:_PIECE])
            view = view[size:]

    def recv_into(self, buffer: Any) -> int:
        """Receives something, nothing at the end."""
        if self._head is not None and self._head <= 0:
            raise http.client.HTTPException(f"a head of more than {_MOST_HEAD} bytes")
        size = self._waited(self._sock.recv_into, buffer)
        if self._head is not None:
            self._head -= size
        return size

    def head_is_over(self, until: float) -> None:
        """From now on a body is read, which its reader limits; it may take until then."""
        self._head = None
        self._until = until

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What http.client reads answers from."""
        return io.BufferedReader(_Source(self))

    def close(self) -> None:
        """Nothing yet: http.client closes before it has read."""

    def hang_up(self) -> None:
        """Closes."""
        self._sock.close()

    def _waited(self, work: Callable[[Any], int], argument: Any) -> int:
        limit = min(self._until, time.monotonic() + self._each)
        while True:
            self._check()
            left = limit - time.monotonic()
            if left <= 0:
                raise TimeoutError("it took too long")
            self._sock.settimeout(min(left, _LOOK_S))
            try:
                return work(argument)
            except (TimeoutError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                continue


class _Source(io.RawIOBase):
    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._line.recv_into(buffer)


def dialled(addresses: list[str], port: int, until: float, check: Callable[[], None]) -> socket.socket:
    """A socket connected to the first of some addresses that takes it. OSError of the last one if none does."""
    trouble: OSError = OSError("no address")
    for number, address in enumerate(addresses):
        check()
        left = until - time.monotonic()
        if left <= 0:
            break
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            # Those that come after shall have time, too.
            sock.settimeout(left / min(2, len(addresses) - number))
            sock.connect((address, port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            trouble = error
        else:
            return sock
    raise trouble
