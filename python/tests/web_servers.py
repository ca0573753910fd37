"""Web servers on this machine that answer what a test says, byte by byte, well or badly."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple, Self

import trustme

Line = socket.socket
Reply = Callable[[Line, "Asked"], None]


class Asked(NamedTuple):
    """A request; names of headers are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def reply(status: int = 200, headers: Mapping[str, str] | None = None, body: bytes | str = b"") -> Reply:
    """A whole answer, with its length unless the headers say something about it."""
    content = body.encode() if isinstance(body, str) else body
    given = dict(headers or {})
    if not {"content-length", "transfer-encoding"} & set(given) and given.pop("x-no-length", None) is None:
        given["content-length"] = str(len(content))
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    whole = f"HTTP/1.1 {status} Said\r\n{head}\r\n".encode() + content
    return raw(whole)


def raw(data: bytes) -> Reply:
    """These bytes, and then nothing more."""
    return lambda line, _asked: line.sendall(data)


class WebServer:
    """Answers each connection with the next of `replies`, the last one again and again; `asked` has the requests.

    It begins to read after `pause_s`. `stopped` is set when the test is over. With an `authority` it speaks TLS, as
    `name`.
    """

    def __init__(
        self, *replies: Reply, authority: trustme.CA | None = None, name: str = "127.0.0.1", pause_s: float = 0.0
    ) -> None:
        self.replies = list(replies) or [reply(200, {}, "ok")]
        self.asked: list[Asked] = []
        self.connections = 0
        self.stopped = threading.Event()
        self._pause_s = pause_s
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._context: ssl.SSLContext | None = None
        if authority is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert(name).configure_cert(self._context)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens, as a URL without a path."""
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        accepts = threading.Thread(target=self._accept)
        accepts.start()
        self._threads.append(accepts)
        return self

    def __exit__(self, *_error: object) -> None:
        self.stopped.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(line,))
            thread.start()
            self._threads.append(thread)

    def _serve(self, line: Line) -> None:
        line.settimeout(5)
        with line, contextlib.suppress(OSError, ValueError):
            if self._context is None:
                self._answer(line)
                return
            with self._context.wrap_socket(line, server_side=True) as inside:
                self._answer(inside)
                inside.unwrap()

    def _answer(self, line: Line) -> None:
        self.stopped.wait(self._pause_s)
        asked = _asked(line)
        with self._lock:
            self.connections += 1
            said = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            if asked is not None:
                self.asked.append(asked)
        if asked is not None:
            said(line, asked)


def _asked(line: Line) -> Asked | None:
    with line.makefile("rb") as source:
        first = source.readline().decode("latin-1").split(" ")
        if len(first) != 3:
            return None
        headers: dict[str, str] = {}
        while text := source.readline().decode("latin-1").strip():
            name, _, value = text.partition(":")
            headers[name.lower()] = value.strip()
        body = source.read(int(headers.get("content-length", "0")))
    return Asked(first[0], first[1], headers, body)
