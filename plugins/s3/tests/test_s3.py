"""Objects in a store that checks every signature, and downloads that break."""

import asyncio
import base64
import hashlib
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest

from consort import RpcError
from consort.plugin import PluginError
from consort.plugin.testing import FakeHost, Outcome, PluginProcess, invoke, invoke_async
from objectstore.operations import plugin
from s3_server import BUCKET, S3Server

FOLDER = Path(__file__).resolve().parent.parent
KEYS = ["a b/ü+&=?#%.txt", "plain.txt", "~tilde_-.!*'()", "日本語/1"]


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    """The store."""
    with S3Server() as found:
        yield found


def config(server: S3Server, **more: Any) -> dict[str, Any]:
    store = {"bucket": BUCKET, "endpoint": server.url, "access_key_id": server.access_key_id, **more}
    return {"stores": {"default": store}, "pause_s": 0.001}


def done(server: S3Server, operation: str, given: dict[str, Any], place: dict[str, Any] | None = None) -> Outcome:
    secrets = {"s3-secret-key": server.secret}
    return invoke(plugin, operation, given, config=config(server, **(place or {})), secrets=secrets)


def failed(server: S3Server, operation: str, given: dict[str, Any], place: dict[str, Any] | None = None) -> PluginError:
    with pytest.raises(PluginError) as caught:
        done(server, operation, given, place)
    assert server.secret not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("key", KEYS)
def test_an_object_is_put_seen_by_others_got_and_deleted(server: S3Server, key: str) -> None:
    stored = done(server, "put", {"key": key, "text": "héllo"})
    assert stored.output == {"key": key, "etag": hashlib.md5(b"h\xc3\xa9llo").hexdigest(), "size_bytes": 6}  # noqa: S324
    assert stored.actions == [f"put 6 bytes into '{key}' of store 'default' (reports)"]
    seen = server.client().get_object(Bucket=BUCKET, Key=key)
    assert (seen["Body"].read(), seen["ContentType"]) == (b"h\xc3\xa9llo", "text/plain; charset=utf-8")
    got = done(server, "get", {"key": key})
    assert (got.data, got.media_type) == (b"h\xc3\xa9llo", "text/plain; charset=utf-8")
    known = done(server, "head", {"key": key}).output
    assert (known["size_bytes"], known["etag"]) == (6, stored.output["etag"])
    done(server, "delete", {"key": key})
    done(server, "delete", {"key": key})
    for operation in ("get", "head"):
        error = failed(server, operation, {"key": key})
        assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "NO_OBJECT")


def test_a_blob_of_the_mesh_is_put(server: S3Server) -> None:
    data = bytes(range(256)) * 40_000
    asyncio.run(_blob(server, data))
    got = done(server, "get", {"key": "large"})
    assert (got.data, got.media_type, got.chunks) == (data, "image/x-test", 10)
    encoded = base64.b64encode(data[:1000]).decode()
    done(server, "put", {"key": "bytes", "content_base64": encoded, "media_type": "image/png"})
    got = done(server, "get", {"key": "bytes"})
    assert (got.data, got.media_type) == (data[:1000], "image/png")
    # What is JSON stays a blob, and does not become a value.
    done(server, "put", {"key": "json", "text": "[1]", "media_type": "application/json"})
    got = done(server, "get", {"key": "json"})
    assert (got.data, got.output, got.media_type) == (b"[1]", None, "application/json; charset=utf-8")


async def _blob(server: S3Server, data: bytes) -> None:
    host = FakeHost({"s3-secret-key": server.secret}, blobs=[data])
    blob = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data), "media_type": "image/x-test"}
    await invoke_async(plugin, "put", {"key": "large", "blob": blob}, config=config(server), host=host)
    with pytest.raises(PluginError, match="has 10240000 bytes"):
        await invoke_async(
            plugin, "put", {"key": "large", "blob": {**blob, "size_bytes": 1}}, config=config(server), host=host
        )


def test_lists_have_pages_and_stay_in_their_prefix(server: S3Server) -> None:
    inside = {"prefix": "team/"}
    for number in range(5):
        done(server, "put", {"key": f"n/{number}", "text": str(number)}, inside)
    done(server, "put", {"key": "team-other", "text": "x"})
    assert server.client().get_object(Bucket=BUCKET, Key="team/n/3")["Body"].read() == b"3"
    first = done(server, "list", {"prefix": "n/", "limit": 3}, inside).output
    second = done(server, "list", {"prefix": "n/", "limit": 3, "after": first["next"]}, inside).output
    assert [each["key"] for each in first["objects"] + second["objects"]] == [f"n/{number}" for number in range(5)]
    assert (second["next"], first["objects"][0]["size_bytes"]) == ("", 1)
    assert [each["key"] for each in done(server, "list", {}, inside).output["objects"]] == [f"n/{n}" for n in range(5)]


def test_links_work_without_a_key() -> None:
    with S3Server(checks=False) as server:  # That the signatures are right is shown beside, in test_signing.
        put = done(server, "presign", {"key": "by link/ü", "method": "PUT"}).output
        assert put["expires_s"] == 3600
        headers = {"content-type": "text/plain"}
        request = urllib.request.Request(put["url"], b"from outside", headers, method="PUT")  # noqa: S310 - ours.
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            assert answer.status == 200
        link = done(server, "presign", {"key": "by link/ü", "expires_s": 60}).output["url"]
        assert link.startswith(f"{server.url}/{BUCKET}/by%20link/%C3%BC?X-Amz-Algorithm=AWS4-HMAC-SHA256&")
        with urllib.request.urlopen(link) as answer:  # noqa: S310
            assert answer.read() == b"from outside"


def test_a_wrong_key_is_refused_by_the_store(server: S3Server) -> None:
    with pytest.raises(PluginError) as caught:
        invoke(plugin, "put", {"key": "x", "text": "x"}, config=config(server), secrets={"s3-secret-key": "wrong"})
    assert caught.value.code is grpc.StatusCode.PERMISSION_DENIED
    assert "SignatureDoesNotMatch" in caught.value.message
    assert failed(server, "get", {"key": "x"}, {"bucket": "not-there"}).code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("operation", "given", "field"),
    [
        ("put", {"key": "x"}, "text"),
        ("put", {"key": "x", "text": "a", "content_base64": "YQ=="}, "text"),
        ("put", {"key": "x", "content_base64": "?"}, "content_base64"),
        ("put", {"key": "", "text": "a"}, "key"),
        ("get", {"key": "a/../b"}, "key"),
        ("get", {"key": "ü" * 600}, "key"),
        ("get", {"key": "x", "store": "other"}, "store"),
        ("list", {"limit": 0}, "limit"),
        ("list", {"prefix": "../"}, "key"),
        ("presign", {"key": "x", "expires_s": 700_000}, "expires_s"),
    ],
)
def test_bad_input_is_named(server: S3Server, operation: str, given: dict[str, Any], field: str) -> None:
    assert list(failed(server, operation, given).violations) == [field]


def test_a_dry_run_does_nothing(server: S3Server) -> None:
    for operation, given in (("put", {"key": "dry", "text": "abc"}), ("delete", {"key": "plain"})):
        outcome = invoke(plugin, operation, given, config=config(server), dry_run=True)  # No secret is asked for.
        assert outcome.would[0].startswith(f"{operation} ")
    assert failed(server, "head", {"key": "dry"}).code is grpc.StatusCode.NOT_FOUND


def test_settings_that_cannot_work_are_named(server: S3Server) -> None:
    assert list(failed(server, "list", {}, {"endpoint": "http://x/path"}).violations) == ["stores.default.endpoint"]
    assert list(failed(server, "list", {}, {"bucket": "No Bucket"}).violations) == ["stores.default.bucket"]


class Flaky(ThreadingHTTPServer):
    """A store that answers 503 first, then breaks off twice within an object; `ranges` are what it was asked for."""

    def __init__(self, etags: list[str]) -> None:
        self.content = bytes(range(251)) * 5000
        self.ranges: list[str | None] = []
        self.etags = etags
        super().__init__(("127.0.0.1", 0), _FlakyHandler)


class _FlakyHandler(BaseHTTPRequestHandler):
    server: Flaky

    def do_GET(self) -> None:
        mine = self.server
        asked = self.headers.get("range")
        mine.ranges.append(asked)
        if len(mine.ranges) == 1:
            self.send_error(503)
            return
        start = int(re.findall(r"\d+", asked)[0]) if asked else 0
        etag = mine.etags[min(len(mine.ranges), len(mine.etags)) - 1]
        if asked and self.headers["if-match"] != etag:
            self.send_error(412)
            return
        rest = mine.content[start:]
        self.send_response(206 if asked else 200)
        self.send_header("etag", etag)
        self.send_header("content-length", str(len(rest)))
        self.end_headers()
        self.wfile.write(rest if len(mine.ranges) > 3 else rest[:500_000])

    def log_message(self, *_words: Any) -> None:
        """Says nothing."""


def _download(etags: list[str]) -> tuple[Flaky, Any]:
    flaky = Flaky(etags)
    thread = threading.Thread(target=flaky.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    store = {"bucket": "any", "endpoint": f"http://127.0.0.1:{flaky.server_address[1]}", "access_key_id": "x"}
    settings = {"stores": {"default": store}, "pause_s": 0.001}
    try:
        return flaky, invoke(plugin, "get", {"key": "k"}, config=settings, secrets={"s3-secret-key": "y"})
    except PluginError as error:
        return flaky, error
    finally:
        flaky.shutdown()
        flaky.server_close()
        thread.join()


def test_a_download_that_breaks_goes_on_where_it_broke() -> None:
    flaky, outcome = _download(["a"])
    assert outcome.data == flaky.content
    assert flaky.ranges == [None, None, "bytes=500000-", "bytes=1000000-"]
    assert [level for level, _ in outcome.logs] == ["warn"] * 3


def test_an_object_that_changed_meanwhile_is_not_mixed() -> None:
    flaky, error = _download(["a", "a", "b"])
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    assert flaky.ranges == [None, None, "bytes=500000-"]


def test_nobody_there_is_tried_as_often_as_agreed(server: S3Server) -> None:
    began = time.monotonic()
    error = failed(server, "head", {"key": "x"}, {"endpoint": "http://127.0.0.1:1"})
    assert (error.code, error.message[-16:]) == (grpc.StatusCode.UNAVAILABLE, "(attempt 4 of 4)")
    assert time.monotonic() - began < 2.0


def test_the_process_puts_and_gets(server: S3Server) -> None:
    asyncio.run(_in_a_process(server))


async def _in_a_process(server: S3Server) -> None:
    secrets = {"s3-secret-key": server.secret}
    async with PluginProcess(FOLDER, config=config(server), secrets=secrets) as process:
        data = b"z" * 3_000_000
        process.mesh.blobs = {hashlib.sha256(data).hexdigest(): data}
        blob = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data), "media_type": "text/plain"}
        await process.invoke("put", {"key": "p", "blob": blob})
        got = await process.invoke("get", {"key": "p"})
        assert (got.data, got.media_type) == (data, "text/plain")
        with pytest.raises(RpcError) as caught:
            await process.invoke("get", {"key": "none"})
        assert caught.value.reason == "NO_OBJECT"
        assert server.secret not in "".join(process.logs)
