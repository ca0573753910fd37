"""The operations of the plugin."""

import base64
import binascii
import hashlib
import tempfile
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypedDict

from consort.plugin import Call, Limits, Plugin, PluginError
from consort.plugin.web import Stream, Upload
from objectstore.bucket import Body, Bucket, elements
from objectstore.settings import Settings, Store, check

plugin = Plugin(
    "s3",
    version="0.1.0",
    description="Puts, gets, lists and deletes objects of any store that speaks S3, and signs links to them.",
    config=Settings,
)
plugin.on_configure(check)

Key = Annotated[str, Limits(minLength=1, maxLength=1024)]
_IN_MEMORY = 8 * 1024 * 1024
# What one request can put, by S3's own limit.
_MOST_BYTES = 5 * 1024**3
_MOST_KEY = 1024


class Blob(TypedDict):
    """A blob of the mesh, as operations that yield bytes name it."""

    sha256: Annotated[str, Limits(pattern="^[0-9a-f]{64}$")]
    size_bytes: Annotated[int, Limits(minimum=0, maximum=_MOST_BYTES)]
    media_type: str


class Stored(TypedDict):
    """An object that is in the store."""

    key: str
    etag: str
    size_bytes: int


class Listed(TypedDict):
    """An object of a list."""

    key: str
    etag: str
    size_bytes: int
    modified: str


class Page(TypedDict):
    """Objects by key. `next` asks for those after them; empty on the last page."""

    objects: list[Listed]
    next: str


class Head(TypedDict):
    """What is known of an object."""

    key: str
    etag: str
    size_bytes: int
    media_type: str
    modified: str


class Link(TypedDict):
    """A link that works without a key, for a time."""

    url: str
    expires_s: int


@plugin.operation(effect="idempotent_write", dry_run=True, timeout=600)
def put(
    call: Call,
    key: Key,
    text: str | None = None,
    content_base64: str | None = None,
    blob: Blob | None = None,
    media_type: str = "",
    store: str = "default",
) -> Stored | None:
    """Puts an object, in place of one that has its key.

    Args:
        key: Its name, with `/` between its parts.
        text: The object, as text. One of text, content_base64 and blob is given.
        content_base64: The object, as bytes.
        blob: The object, as a blob of the mesh.
        media_type: Left out, that of the blob, or of plain text, or of bytes.
        store: Name of the store in the configuration.

    """
    given = sum(each is not None for each in (text, content_base64, blob))
    if given != 1:
        raise PluginError("INVALID_ARGUMENT", f"give one of text, content_base64 and blob, not {given}", field="text")
    place = _place(call, store, key)
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
        kind = "text/plain; charset=utf-8"
        if blob is not None:
            kind = blob["media_type"] or "application/octet-stream"
            body = Body(Upload(file, blob["size_bytes"]), blob["sha256"])
        else:
            data = _decoded(content_base64) if text is None else text.encode()
            kind = kind if content_base64 is None else "application/octet-stream"
            file.write(data)
            body = Body(Upload(file, len(data)), hashlib.sha256(data).hexdigest())
        size = body.upload.size
        if call.dry_run:
            call.would(f"put {size} bytes into '{key}' of store '{store}' ({place.bucket})")
            return None
        if blob is not None:
            _fetch(call, blob, file)
        bucket = _bucket(call, place)
        headers = bucket.ask("PUT", key, headers={"content-type": media_type or kind}, body=body).headers
    call.did(f"put {size} bytes into '{key}' of store '{store}' ({place.bucket})")
    return {"key": key, "etag": headers.get("etag", "").strip('"'), "size_bytes": size}


@plugin.operation(effect="read", timeout=600)
def get(call: Call, key: Key, store: str = "default") -> Iterator[bytes]:
    """Gets an object. A download that breaks goes on where it broke, unless the object has changed.

    Args:
        store: Name of the store in the configuration.

    """

    def begun(stream: Stream) -> None:
        kind = stream.headers.get("content-type") or "application/octet-stream"
        # Bare, it would say that the result is a value, and no blob.
        call.media_type = f"{kind}; charset=utf-8" if kind == "application/json" else kind

    yield from _bucket(call, _place(call, store, key)).download(key, begun)


@plugin.operation(effect="read")
def head(call: Call, key: Key, store: str = "default") -> Head:
    """Says what is known of an object, without its content.

    Args:
        store: Name of the store in the configuration.

    """
    headers = _bucket(call, _place(call, store, key)).ask("HEAD", key).headers
    return {
        "key": key,
        "etag": headers.get("etag", "").strip('"'),
        "size_bytes": int(headers.get("content-length") or 0),
        "media_type": headers.get("content-type", ""),
        "modified": headers.get("last-modified", ""),
    }


@plugin.operation("list", effect="read")
def list_objects(
    call: Call,
    prefix: Annotated[str, Limits(maxLength=1024)] = "",
    limit: Annotated[int, Limits(minimum=1, maximum=1000)] = 100,
    after: str = "",
    store: str = "default",
) -> Page:
    """Lists objects by key.

    Args:
        prefix: Only keys that begin so.
        limit: At most so many.
        after: `next` of the page before.
        store: Name of the store in the configuration.

    """
    place = _place(call, store, prefix or "x")
    query = {"list-type": "2", "prefix": f"{place.prefix}{prefix}", "max-keys": str(limit)}
    if after:
        query["continuation-token"] = after
    root = elements(_bucket(call, place).ask("GET", query=query).body)
    objects: list[Listed] = [
        {
            "key": (each.findtext("Key") or "").removeprefix(place.prefix),
            "etag": (each.findtext("ETag") or "").strip('"'),
            "size_bytes": int(each.findtext("Size") or 0),
            "modified": each.findtext("LastModified") or "",
        }
        for each in root.iterfind("Contents")
    ]
    return {"objects": objects, "next": root.findtext("NextContinuationToken") or ""}


@plugin.operation(effect="idempotent_write", dry_run=True)
def delete(call: Call, key: Key, store: str = "default") -> None:
    """Deletes an object; one that is not there is deleted already.

    Args:
        store: Name of the store in the configuration.

    """
    place = _place(call, store, key)
    if call.dry_run:
        call.would(f"delete '{key}' of store '{store}' ({place.bucket})")
        return
    _bucket(call, place).ask("DELETE", key)
    call.did(f"deleted '{key}' of store '{store}' ({place.bucket})")


@plugin.operation(effect="read")
def presign(
    call: Call,
    key: Key,
    method: Literal["GET", "PUT"] = "GET",
    expires_s: Annotated[int, Limits(minimum=1, maximum=604_800)] = 3600,
    store: str = "default",
) -> Link:
    """Signs a link with which anybody can get or put an object for a time.

    Args:
        expires_s: Seconds until it stops working.
        store: Name of the store in the configuration.

    """
    bucket = _bucket(call, _place(call, store, key))
    return {"url": bucket.presigned(method, key, expires_s), "expires_s": expires_s}


def _place(call: Call, name: str, key: str) -> Store:
    stores: dict[str, Store] = call.config.stores
    if name not in stores:
        known = ", ".join(stores) or "none"
        problem = f"no store '{name}'; the configuration has: {known}"
        raise PluginError("NOT_FOUND", problem, field="store", reason="NO_STORE")
    whole = f"{stores[name].prefix}{key}"
    if len(whole.encode()) > _MOST_KEY:
        raise PluginError("INVALID_ARGUMENT", f"has more than {_MOST_KEY} bytes", field="key")
    # Nothing to S3, but stores that keep objects as files might follow them.
    if any(part in (".", "..") for part in key.split("/")) or "\0" in key:
        raise PluginError("INVALID_ARGUMENT", "has a part '.' or '..', or a NUL", field="key")
    return stores[name]


def _bucket(call: Call, place: Store) -> Bucket:
    return Bucket(call, call.config, place, call.host.get_secret(place.secret))


def _fetch(call: Call, blob: Blob, file: Any) -> None:
    try:
        size = call.host.read_blob(blob["sha256"], file)
    except ValueError as error:
        raise PluginError("INVALID_ARGUMENT", str(error), field="blob.sha256") from None
    if size != blob["size_bytes"]:
        raise PluginError("INVALID_ARGUMENT", f"the blob has {size} bytes", field="blob.size_bytes")


def _decoded(text: str | None) -> bytes:
    try:
        return base64.b64decode(text or "", validate=True)
    except binascii.Error as error:
        raise PluginError("INVALID_ARGUMENT", f"is no base64: {error}", field="content_base64") from None
