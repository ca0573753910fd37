"""Requests to a bucket over HTTP: signed for each try, and read as a stream."""

import datetime
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from consort.plugin import Call, PluginError
from consort.plugin.web import Answer, Place, Request, Stream, Tries, Trouble, Upload, Web, place_of, refusal
from objectstore import signing
from objectstore.settings import Settings, Store

_AGENT = "consort-s3/0.1"
# Beyond any object: S3 has none of more than 5 TiB.
_MOST_BYTES = 6 * 1024**4
_CODES = {409: "ABORTED", 412: "FAILED_PRECONDITION", 416: "OUT_OF_RANGE"}


class Body(NamedTuple):
    """What is sent: a file, and its SHA-256 in hexadecimal."""

    upload: Upload
    digest: str


class Bucket:
    """A bucket of a store, on behalf of one call. Every request can be repeated."""

    def __init__(self, call: Call, settings: Settings, store: Store, secret: str) -> None:
        self._store = store
        self._keys = signing.Keys(store.access_key_id, secret, store.region)
        place = place_of(store.endpoint)
        if not store.path_style:
            place = place._replace(host=f"{store.bucket}.{place.host}")
        self._base = f"{place.scheme}://{place.shown}"
        self._host = place.shown
        self._web = partial(
            Web,
            call,
            agent=_AGENT,
            tries=Tries(settings.attempts, settings.timeout_s, settings.pause_s),
            ca_file=store.ca_file,
            hidden=[secret],
        )

    def path(self, key: str = "") -> str:
        """The path of a key, or of the bucket."""
        whole = f"{self._store.prefix}{key}" if key else ""
        return signing.encoded_path(f"{self._store.bucket}/{whole}" if self._store.path_style else whole)

    def presigned(self, method: str, key: str, expires_s: int) -> str:
        """A link for `expires_s` seconds."""
        query = signing.presigned_query(self._keys, method, self._host, self.path(key), expires_s, _now())
        return f"{self._base}{self.path(key)}?{query}"

    def ask(
        self,
        method: str,
        key: str = "",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> Answer:
        """Asks, and reads the whole answer, which must be small."""
        web = self._web(judge=_judge(key))
        return web.ask(self._request(method, key, query or {}, headers or {}, body))

    def download(self, key: str, begun: Callable[[Stream], None]) -> Iterator[bytes]:
        """An object in pieces, as the store has it; `begun` gets what is known of it."""
        web = self._web(judge=_judge(key), most_bytes=_MOST_BYTES)
        return web.download(self._request("GET", key, {}, {}, None), begun, raw=True)

    def _request(
        self, method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str], body: Body | None
    ) -> Request:
        path, text = self.path(key), signing.encoded_query(query)
        digest = body.digest if body else signing.EMPTY

        def sign(place: Place) -> Mapping[str, str]:
            given = {**headers, "host": place.shown}
            return signing.signed_headers(self._keys, method, path, query, given, digest, _now())

        url = f"{self._base}{path}?{text}" if text else f"{self._base}{path}"
        upload = body.upload if body else None
        # As the store has it: what is encoded on the way has another size.
        plain = {"accept-encoding": "identity", **headers}
        return Request(method, url, plain, upload, repeatable=True, accept=299, patient=True, sign=sign)


def _judge(key: str) -> Callable[[Request, str, Answer], Trouble]:
    def judged(request: Request, place: str, answer: Answer) -> Trouble:
        code, message = _words(answer.body)
        trouble = refusal(request, place, answer, f"{code}: {message}" if code else "")
        if trouble.again:
            return trouble
        if answer.status == 404 and key and code in ("", "NoSuchKey"):
            return Trouble("NOT_FOUND", f"no object '{key}'", again=False, reason="NO_OBJECT")
        known = _CODES.get(answer.status, trouble.code)
        return Trouble(known, str(trouble), again=False, reason="STORE_REFUSED")

    return judged


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
