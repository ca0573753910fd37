"""Posts JSON over HTTP, and says what became of it."""

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from consort.plugin import Call
from notify.attempts import Trouble, tried, unknown
from notify.settings import Settings

_MOST_ANSWER = 64 * 1024
_SHOWN = 200
_TOO_MANY = 429
_CODES = {400: "INVALID_ARGUMENT", 401: "PERMISSION_DENIED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
_CODES |= {410: "NOT_FOUND", 413: "INVALID_ARGUMENT", 422: "INVALID_ARGUMENT"}


class Answer(NamedTuple):
    """What a receiver said, its text cut to 64 KiB."""

    status: int
    text: str


class Post(NamedTuple):
    """A request. `hidden` is what must not be shown, `repeatable` that doing it twice is doing it once."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    hidden: str
    repeatable: bool


def post(call: Call, settings: Settings, request: Post) -> Answer:
    """Posts JSON. Redirects are not followed: where messages go is the operator's to say."""
    return tried(call, settings, lambda seconds: _once(settings, request, seconds))


def place_of(url: str) -> str:
    """The part of a URL that may be shown."""
    return urlsplit(url).netloc


def _once(settings: Settings, request: Post, seconds: float) -> Answer:
    parts = urlsplit(request.url)
    place = place_of(request.url)
    connection = _connection(settings, request.url, seconds)
    # The socket's own limit is for each read; a receiver that sends a byte now and then would be listened to for ever.
    alarm = threading.Timer(seconds, _cut_off, (connection,))
    alarm.daemon = True
    alarm.start()
    try:
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            raise Trouble("FAILED_PRECONDITION", f"{place}: {error.verify_message}", again=False) from None
        except OSError as error:
            raise Trouble("UNAVAILABLE", f"{place} cannot be reached: {error}", again=True) from None
        path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        headers = {"content-type": "application/json", "user-agent": "consort-notify/0.1", **request.headers}
        try:
            connection.request("POST", path, request.body, headers)
            response = connection.getresponse()
            text = response.read(_MOST_ANSWER).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            message = f"{place} did not answer: {type(error).__name__}"
            raise Trouble("UNAVAILABLE", message, again=True) if request.repeatable else unknown(message) from None
    finally:
        alarm.cancel()
        connection.close()
    if 200 <= response.status < 300:
        return Answer(response.status, text)
    raise _refusal(place, response, _shown(text, request.hidden), repeatable=request.repeatable)


def _cut_off(connection: http.client.HTTPConnection) -> None:
    with contextlib.suppress(OSError, AttributeError):
        connection.sock.shutdown(socket.SHUT_RDWR)


def _refusal(place: str, response: http.client.HTTPResponse, said: str, *, repeatable: bool) -> Trouble:
    status = response.status
    message = f"{place} answered {status}" + (f": {said}" if said else "")
    if status == _TOO_MANY:
        return Trouble("RESOURCE_EXHAUSTED", message, again=True, wait=_seconds(response.getheader("retry-after")))
    if status >= 500 or status == 408:
        if not repeatable:
            return unknown(message)
        return Trouble("UNAVAILABLE", message, again=True, wait=_seconds(response.getheader("retry-after")))
    if 300 <= status < 400:
        return Trouble("FAILED_PRECONDITION", f"{message}; redirects are not followed", again=False)
    return Trouble(_CODES.get(status, "FAILED_PRECONDITION"), message, again=False)


def _connection(settings: Settings, url: str, seconds: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        context = tls(settings.ca_file)
        return http.client.HTTPSConnection(host, parts.port, timeout=seconds, context=context)
    return http.client.HTTPConnection(host, parts.port, timeout=seconds)


def tls(ca_file: str) -> ssl.SSLContext:
    """What is trusted: the system's certificates, and those of the operator's file."""
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    return context


def _seconds(header: str | None) -> float | None:
    return float(header) if header and header.isdigit() else None


def _shown(text: str, hidden: str) -> str:
    """The answer's text as a failure may show it."""
    text = " ".join(text.split())
    if hidden:
        text = text.replace(hidden, "***")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
