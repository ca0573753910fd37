"""Asks an engine over HTTP, on its unix socket or over TLS, within limits of time and size."""

import contextlib
import http.client
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from consort.plugin import Call, PluginError, grants
from engine.errors import GARBLED, LATE, garbled, refusal
from engine.fields import text

# Versions of the API that this plugin speaks; the highest that both know is used.
NEWEST, OLDEST = (1, 47), (1, 41)
_CONNECT_S = 5.0
_TICK_S = 0.05
_PIECE = 64 * 1024
_MOST_ANSWER = 16 * 1024 * 1024
_MOST_ERROR = 64 * 1024
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})")
# By place; found anew when an engine says that it is another one now.
_versions: dict[str, str] = {}


class Request(NamedTuple):
    """What is asked. `body` becomes JSON, `file` of `size` bytes goes as it is.

    `again` says that asking twice is harmless, `patient` that the engine may be silent for as long as it is waited for.
    """

    method: str
    path: str
    query: Mapping[str, str] = {}
    body: Any = None
    file: IO[bytes] | None = None
    size: int = 0
    headers: Mapping[str, str] = {}
    again: bool = True
    patient: bool = False


class _Socket(http.client.HTTPConnection):
    """HTTP on a unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connects."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except OSError:
            self.close()
            raise


class Answer:
    """An answer whose body comes as it is sent. `cut` says that not all of it was read."""

    def __init__(self, response: http.client.HTTPResponse, watch: "_Watch") -> None:
        self.status = response.status
        self.cut = False
        self._response = response
        self._watch = watch

    def pieces(self, most: int, *, while_time: bool = False) -> Iterator[bytes]:
        """The body, up to `most` bytes; with `while_time` the end of the time is no failure, but the end."""
        left = most
        while left > 0:
            try:
                piece = self._response.read1(min(_PIECE, left))
                if not piece and not self._watch.late and self._response.length:
                    raise http.client.IncompleteRead(b"", self._response.length)
                if not piece:
                    self._watch.check()  # What was cut off here looks like the engine's own end.
            except (OSError, http.client.HTTPException):
                if not (while_time and self._watch.late):
                    raise
                self._watch.check_cancelled()
                self.cut = True
                return
            if not piece:
                return
            left -= len(piece)
            yield piece
        self.cut = True

    def read(self, most: int = _MOST_ANSWER) -> bytes:
        """The whole body. RESOURCE_EXHAUSTED if it has more bytes."""
        content = b"".join(self.pieces(most + 1))
        if len(content) > most:
            raise PluginError("RESOURCE_EXHAUSTED", f"the engine answered more than {most >> 20} MiB")
        return content

    def json(self) -> Any:
        """The body as a value, None if it is empty."""
        is_sized = self._response.length is not None or self._response.chunked
        content = self.read()
        if not content and not is_sized:
            raise http.client.IncompleteRead(b"")  # Its headers were cut off.
        try:
            return json.loads(content) if content.strip() else None
        except (ValueError, RecursionError):
            raise garbled(f"{content[:80]!r}, which is no JSON") from None


class _Watch:
    """Cuts a connection off as soon as nobody waits any more, or its time is up."""

    def __init__(self, call: Call, connection: http.client.HTTPConnection, seconds: float) -> None:
        self._call = call
        self._socket = connection.sock
        self._end = time.monotonic() + seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    @property
    def late(self) -> bool:
        """Whether its time is up."""
        return time.monotonic() >= self._end

    def check_cancelled(self) -> None:
        """Raises if nobody waits any more."""
        self._call.raise_if_cancelled()

    def check(self) -> None:
        """Raises if nobody waits any more, or time is up."""
        self.check_cancelled()
        if self.late:
            raise TimeoutError

    def __enter__(self) -> "_Watch":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(_TICK_S):
            if self._call.cancelled or self.late:
                with contextlib.suppress(OSError):
                    # Its own method would take TLS off while another thread reads.
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
                return


class Engine:
    """The engine, for one call. PERMISSION_DENIED unless the sandbox lets the plugin reach it."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self._settings = call.config
        parts = urlsplit(call.config.host)
        self._path = parts.path if parts.scheme == "unix" else ""
        self._host, self._port = parts.hostname or "", parts.port or 0
        self._where = self._path or f"{self._host}:{self._port}"
        if self._path:
            grants.writable(call, self._path, field="")

    def ask(self, request: Request, seconds: float | None = None) -> Any:
        """Asks, and reads the answer: a value, None if it is empty. PluginError if it is of the classes 4xx and 5xx."""
        with self.opened(request, self._settings.timeout_s if seconds is None else seconds) as answer:
            return answer.json()

    @contextlib.contextmanager
    def opened(self, request: Request, seconds: float) -> Iterator[Answer]:
        """Asks, and yields the answer while it comes.

        After `seconds` UNAVAILABLE, reason ENGINE_LATE. If the connection breaks, UNAVAILABLE; or ABORTED, reason
        OUTCOME_UNKNOWN, if the request may not be repeated.
        """
        version = _versions.get(self._where) or self._negotiated()
        with contextlib.ExitStack() as stack:
            try:
                answer = stack.enter_context(self._asked(request, f"/v{version}{request.path}", seconds))
            except PluginError as error:
                if "client version" not in error.message:
                    raise
                # The engine was changed for another one since it was asked, and has done nothing.
                path = f"/v{self._negotiated()}{request.path}"
                answer = stack.enter_context(self._asked(request, path, seconds))
            yield answer

    def versions(self) -> dict[str, Any]:
        """What the engine says of itself, and the version of the API that is spoken with it as `Negotiated`."""
        with self._asked(Request("GET", "/version"), "/version", self._settings.timeout_s) as answer:
            found = answer.json()
        if not isinstance(found, dict):
            raise garbled("no versions")
        highest, lowest = _read(text(found, "ApiVersion")), _read(text(found, "MinAPIVersion") or "1.12")
        if highest is None or lowest is None:
            raise garbled(f"the API version {text(found, 'ApiVersion')!r}")
        chosen = min(highest, NEWEST)
        if chosen < max(lowest, OLDEST):
            told = f"the engine speaks the API {_shown(lowest)} to {_shown(highest)}"
            problem = f"{told}, this plugin {_shown(OLDEST)} to {_shown(NEWEST)}"
            raise PluginError("FAILED_PRECONDITION", problem, reason="ENGINE_VERSION")
        _versions[self._where] = _shown(chosen)
        return {**found, "Negotiated": _shown(chosen)}

    def _negotiated(self) -> str:
        return text(self.versions(), "Negotiated")

    @contextlib.contextmanager
    def _asked(self, request: Request, path: str, seconds: float) -> Iterator[Answer]:
        self.call.raise_if_cancelled()
        connection = self._connected(seconds)
        with contextlib.closing(connection), _Watch(self.call, connection, seconds) as watch:
            try:
                with contextlib.closing(self._sent(connection, request, path, seconds)) as response:
                    answer = Answer(response, watch)
                    if response.status >= 400:
                        raise refusal(response.status, b"".join(answer.pieces(_MOST_ERROR)))
                    yield answer
            except PluginError as error:
                if error.reason == GARBLED and not request.again:
                    raise _unknown(error.message) from None
                raise
            except (OSError, http.client.HTTPException) as error:
                self.call.raise_if_cancelled()
                raise _lost(error, request, late=watch.late) from None

    def _sent(
        self, connection: http.client.HTTPConnection, request: Request, path: str, seconds: float
    ) -> http.client.HTTPResponse:
        connection.sock.settimeout(seconds if request.patient else min(seconds, self._settings.idle_s))
        headers = {"user-agent": "consort-docker/0.1", "connection": "close", **request.headers}
        body: Any = None
        if request.file is not None:
            request.file.seek(0)
            body = request.file
            headers |= {"content-type": "application/x-tar", "content-length": str(request.size)}
        elif request.body is not None:
            body = json.dumps(request.body).encode()
            headers["content-type"] = "application/json"
        whole = f"{quote(path, safe='/:@')}?{urlencode(request.query)}" if request.query else quote(path, safe="/:@")
        with contextlib.suppress(BrokenPipeError):  # It does not want the rest, and has said why.
            connection.request(request.method, whole, body, headers)
        return connection.getresponse()

    def _connected(self, seconds: float) -> http.client.HTTPConnection:
        limit = max(0.001, min(_CONNECT_S, seconds, self.call.remaining))
        connection: http.client.HTTPConnection
        try:
            if self._path:
                connection = _Socket(self._path, limit)
            else:
                connection = http.client.HTTPSConnection(self._host, self._port, timeout=limit, context=self._trust())
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            raise PluginError("FAILED_PRECONDITION", f"{self._where}: {error.verify_message}") from None
        except PermissionError:
            problem = f"{self._where} may not be connected to; let the mesh's user into the group that owns it"
            raise PluginError("FAILED_PRECONDITION", problem, reason="NO_ACCESS") from None
        except OSError as error:
            self.call.raise_if_cancelled()
            told = "is not there" if isinstance(error, FileNotFoundError) else f"cannot be reached: {error}"
            advice = "is an engine running there? If it has made its socket anew, reload the plugin"
            problem = f"{self._where} {told}; {advice}"
            raise PluginError("UNAVAILABLE", problem, reason="NO_ENGINE") from None
        return connection

    def _trust(self) -> ssl.SSLContext:
        folder = Path(self._settings.certificates)
        try:
            context = ssl.create_default_context(cafile=folder / "ca.pem")
            context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        except OSError as error:
            problem = f"{folder}: ca.pem, cert.pem or key.pem cannot be read: {error}"
            raise PluginError("FAILED_PRECONDITION", problem, reason="NO_CERTIFICATES") from None
        return context


def _lost(error: Exception, request: Request, *, late: bool) -> PluginError:
    is_late = late or isinstance(error, TimeoutError)
    told = f"the engine {'did not answer in time' if is_late else f'ended its answer early: {type(error).__name__}'}"
    if not request.again:
        return _unknown(told)
    return PluginError("UNAVAILABLE", told, reason=LATE if is_late else "ENGINE_LOST")


def _unknown(told: str) -> PluginError:
    return PluginError("ABORTED", f"{told}; it may have done what it was asked", reason="OUTCOME_UNKNOWN")


def _read(version: str) -> tuple[int, int] | None:
    found = _VERSION.fullmatch(version)
    return (int(found[1]), int(found[2])) if found else None


def _shown(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
