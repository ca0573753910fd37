"""Asks a service over HTTP: with its credentials for its own host only, and again where that is safe."""

import http.client
import json
import random
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from builds.settings import Settings
from consort.plugin import Call, PluginError

_MOST_ANSWER = 8 * 1024 * 1024
_MOST_ERROR = 64 * 1024
_LONGEST_PAUSE = 8.0
_LONGEST_WISH = 60.0
_CODES = {400: "INVALID_ARGUMENT", 401: "PERMISSION_DENIED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
_CODES |= {410: "NOT_FOUND", 409: "FAILED_PRECONDITION", 422: "INVALID_ARGUMENT"}


class Answer(NamedTuple):
    """An answer; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as a value. PluginError if it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise PluginError("UNAVAILABLE", "the service's answer is no JSON") from None


class _Passing(Exception):  # noqa: N818 - it is no failure yet.
    """An attempt that came to nothing; `maybe` says that it may have been done all the same."""

    def __init__(self, message: str, *, maybe: bool, wait: float | None = None) -> None:
        super().__init__(message)
        self.maybe = maybe
        self.wait = wait


class Web:
    """A service at a base URL. What it is asked may be repeated, but for POST."""

    def __init__(self, call: Call, settings: Settings, url: str, headers: Mapping[str, str]) -> None:
        self.url = url.rstrip("/")
        self._call = call
        self._settings = settings
        self._headers = {"user-agent": "consort-ci/0.1", **headers}

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Asks for a path below the base URL. PluginError if the answer is of the classes 4xx and 5xx."""
        whole = {**self._headers, **(headers or {})}
        return self._tried(method, self.url + path, body, whole)

    def follow(self, url: str) -> Answer:
        """Gets what a service linked to, without its credentials; over TLS, if the service speaks it."""
        if self.url.startswith("https:") and not url.startswith("https:"):
            raise PluginError("FAILED_PRECONDITION", f"{urlsplit(self.url).netloc} links to a place without TLS")
        return self._tried("GET", url, None, {"user-agent": self._headers["user-agent"]})

    def _tried(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        pause = self._settings.pause_s
        most = self._settings.attempts
        for attempt in range(1, most + 1):
            self._call.raise_if_cancelled()
            try:
                return self._once(method, url, body, headers)
            except _Passing as passing:
                if passing.maybe and method == "POST":
                    raise PluginError("ABORTED", f"{passing}; it may be done", reason="OUTCOME_UNKNOWN") from None
                wait = random.uniform(pause / 2, pause) if passing.wait is None else passing.wait
                if attempt == most or wait > _LONGEST_WISH or wait >= self._call.remaining:
                    raise PluginError("UNAVAILABLE", f"{passing} (attempt {attempt} of {most})") from None
                self._call.log("warn", f"attempt {attempt} of {most}: {passing}; again in {wait:.1f} s")
                self._call.sleep(wait)
                pause = min(2 * pause, _LONGEST_PAUSE)
        raise AssertionError("there is at least one attempt")

    def _once(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        parts = urlsplit(url)
        path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        with self._connected(parts.scheme, parts.hostname or "", parts.port) as connection:
            try:
                connection.request(method, path, body, dict(headers))
                response = connection.getresponse()
                content = response.read(_MOST_ANSWER + 1)
            except (OSError, http.client.HTTPException) as error:
                raise _Passing(f"{parts.netloc} did not answer: {type(error).__name__}", maybe=True) from None
        if len(content) > _MOST_ANSWER:
            raise PluginError("RESOURCE_EXHAUSTED", f"{parts.netloc} answered more than 8 MiB")
        answer = Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)
        if answer.status >= 400:
            raise _refusal(parts.netloc, answer)
        return answer

    @contextmanager
    def _connected(self, scheme: str, host: str, port: int | None) -> Iterator[http.client.HTTPConnection]:
        seconds = max(0.001, min(self._settings.timeout_s, self._call.remaining))
        if scheme == "https":
            context = ssl.create_default_context()
            if self._settings.ca_file:
                context.load_verify_locations(self._settings.ca_file)
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=seconds, context=context
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=seconds)
        try:
            try:
                connection.connect()
            except ssl.SSLCertVerificationError as error:
                raise PluginError("FAILED_PRECONDITION", f"{host}: {error.verify_message}") from None
            except OSError as error:
                raise _Passing(f"{host} cannot be reached: {error}", maybe=False) from None
            yield connection
        finally:
            connection.close()


def _refusal(place: str, answer: Answer) -> Exception:
    message = ""
    if "json" in answer.headers.get("content-type", "") and len(answer.body) <= _MOST_ERROR:
        try:
            found = json.loads(answer.body)
            message = str(found.get("message", ""))[:200] if isinstance(found, dict) else ""
        except ValueError:
            message = ""
    told = f"{place} answered {answer.status}" + (f": {message}" if message else "")
    after = answer.headers.get("retry-after", "")
    wait = float(after) if after.isdigit() else None
    # GitHub says 403 when its limits are reached, and then how long they are.
    limited = answer.headers.get("x-ratelimit-remaining") == "0" or wait is not None
    if answer.status == 429 or (answer.status == 403 and limited):
        return _Passing(told, maybe=False, wait=wait)
    if answer.status >= 500:
        return _Passing(told, maybe=True, wait=wait)
    return PluginError(_CODES.get(answer.status, "FAILED_PRECONDITION"), told, reason="SERVICE_REFUSED")
