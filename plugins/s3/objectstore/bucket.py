"""Requests to a bucket over HTTP: signed, tried again, and read as a stream."""

import datetime
import http.client
import random
import ssl
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, NamedTuple
from urllib.parse import urlsplit

from consort.plugin import Call, PluginError
from objectstore import signing
from objectstore.settings import Settings, Store

_LONGEST_PAUSE = 8.0
_MOST_XML = 8 * 1024 * 1024
_MOST_ERROR = 64 * 1024
_PASSING = {429, 500, 502, 503, 504}
_CODES = {400: "INVALID_ARGUMENT", 401: "PERMISSION_DENIED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
_CODES |= {409: "ABORTED", 412: "FAILED_PRECONDITION", 416: "OUT_OF_RANGE"}


class Body(NamedTuple):
    """What is sent: a file to read from its beginning, its length, and its SHA-256 in hexadecimal."""

    file: IO[bytes] | None = None
    size: int = 0
    digest: str = signing.EMPTY


class Passing(Exception):  # noqa: N818 - it is no failure yet.
    """An attempt that came to nothing, and may do better next time."""


class Bucket:
    """A bucket of a store, on behalf of one call. Every request can be repeated."""

    def __init__(self, call: Call, settings: Settings, store: Store, secret: str) -> None:
        self.call = call
        self._settings = settings
        self._store = store
        self._keys = signing.Keys(store.access_key_id, secret, store.region)
        parts = urlsplit(store.endpoint)
        self._https = parts.scheme == "https"
        self._at = (parts.hostname or "", parts.port)
        self.host = parts.netloc if store.path_style else f"{store.bucket}.{parts.netloc}"
        if not store.path_style:
            self._at = (f"{store.bucket}.{parts.hostname}", parts.port)

    def path(self, key: str = "") -> str:
        """The path of a key, or of the bucket."""
        whole = f"{self._store.prefix}{key}" if key else ""
        return signing.encoded_path(f"{self._store.bucket}/{whole}" if self._store.path_style else whole)

    def presigned(self, method: str, key: str, expires_s: int) -> str:
        """A link for `expires_s` seconds."""
        query = signing.presigned_query(self._keys, method, self.host, self.path(key), expires_s, _now())
        return f"{'https' if self._https else 'http'}://{self.host}{self.path(key)}?{query}"

    def ask(
        self,
        method: str,
        key: str = "",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> tuple[dict[str, str], bytes]:
        """Asks, and reads the whole answer, which must be small: its headers, in lower case, and its body."""
        for attempt in self.attempts():
            with attempt, self.opened(method, key, query or {}, headers or {}, body or Body()) as response:
                content = response.read(_MOST_XML + 1)
                if len(content) > _MOST_XML:
                    raise PluginError("RESOURCE_EXHAUSTED", f"{self.host} answered more than 8 MiB")
                return {name.lower(): value for name, value in response.getheaders()}, content
        raise AssertionError("the last attempt raises")

    def attempts(self) -> Iterator["Attempt"]:
        """What to try in, one after another, with pauses that double; the last one lets what is wrong pass."""
        pause = self._settings.pause_s
        for number in range(1, self._settings.attempts + 1):
            self.call.raise_if_cancelled()
            attempt = Attempt(self.call, number, self._settings.attempts)
            yield attempt
            if not attempt.failed:
                return
            self.call.sleep(random.uniform(pause / 2, pause))
            pause = min(2 * pause, _LONGEST_PAUSE)

    @contextmanager
    def opened(
        self, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str], body: Body
    ) -> Iterator[http.client.HTTPResponse]:
        """A response whose status is of the class 2xx. Passing, or PluginError, if it is another."""
        connection = self._connection()
        try:
            response = self._answer(connection, method, key, query, headers, body)
            if 200 <= response.status < 300:
                yield response
            else:
                raise self._refusal(response, key)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, ssl.SSLCertVerificationError):
                raise PluginError("FAILED_PRECONDITION", f"{self.host}: {error.verify_message}") from None
            raise Passing(f"{self.host}: {type(error).__name__}: {error}") from None
        finally:
            connection.close()

    def _answer(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        key: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: Body,
    ) -> http.client.HTTPResponse:
        path = self.path(key)
        signed = signing.signed_headers(
            self._keys, method, path, query, {**headers, "host": self.host}, body.digest, _now()
        )
        if body.file is not None:
            body.file.seek(0)
            signed["content-length"] = str(body.size)
        elif method == "PUT":
            signed["content-length"] = "0"
        text = signing.encoded_query(query)
        connection.request(method, f"{path}?{text}" if text else path, body.file, signed)
        return connection.getresponse()

    def _refusal(self, response: http.client.HTTPResponse, key: str) -> Exception:
        code, message = _words(response.read(_MOST_ERROR))
        told = f"{self.host} answered {response.status}" + (f" {code}: {message}" if code else "")
        if response.status in _PASSING:
            return Passing(told)
        if response.status == 404 and key and code in ("", "NoSuchKey"):
            return PluginError("NOT_FOUND", f"no object '{key}'", field="key", reason="NO_OBJECT")
        return PluginError(_CODES.get(response.status, "FAILED_PRECONDITION"), told, reason="STORE_REFUSED")

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._at
        seconds = max(0.001, min(self._settings.timeout_s, self.call.remaining))
        if not self._https:
            return http.client.HTTPConnection(host, port, timeout=seconds)
        context = ssl.create_default_context()
        if self._store.ca_file:
            context.load_verify_locations(self._store.ca_file)
        return http.client.HTTPSConnection(host, port, timeout=seconds, context=context)


class Attempt:
    """A block that may come to nothing in passing; `failed` then says so, and the last one fails the call."""

    def __init__(self, call: Call, number: int, most: int) -> None:
        self.failed = False
        self._call = call
        self._number = number
        self._most = most

    def __enter__(self) -> None:
        self.failed = False

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if not isinstance(error, Passing):
            return False
        if self._number == self._most:
            raise PluginError("UNAVAILABLE", f"{error} (attempt {self._number} of {self._most})") from None
        self._call.log("warn", f"attempt {self._number} of {self._most}: {error}")
        self.failed = True
        return True


def elements(content: bytes) -> ET.Element:
    """An XML document without namespaces. PluginError if it is none."""
    try:
        root = ET.fromstring(content)  # noqa: S314 - of at most 8 MiB; expat limits what entities become.
    except ET.ParseError as error:
        raise PluginError("UNAVAILABLE", f"the store's answer is no XML: {error}") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _words(content: bytes) -> tuple[str, str]:
    """Code and message of an error's document."""
    try:
        root = elements(content)
    except PluginError:
        return "", ""
    return root.findtext("Code") or "", (root.findtext("Message") or "")[:200]


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
