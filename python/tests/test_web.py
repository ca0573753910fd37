"""What plugins ask the web: at servers that answer well, badly, too much, or not at all."""

import asyncio
import gzip
import itertools
import socket
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from google.rpc.error_details_pb2 import RetryInfo

from consort.plugin import Call, Plugin
from consort.plugin.testing import invoke_async
from consort.plugin.web import Request, Tries, Web, told_wait
from web_kit import FakeResolver, asked, failed, got, not_got, post, trusted
from web_servers import Asked, Line, WebServer, raw, reply


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who vouches for the servers."""
    return trustme.CA()


def test_an_answer_is_read() -> None:
    with WebServer(reply(200, {"content-type": "application/json", "X-A": "1", "x-a": "2"}, '{"n": 1}')) as server:
        answer = got(f"{server.url}/a?b=c%20d#e")
        (request,) = server.asked
    assert (answer.status, answer.json(), answer.headers["x-a"]) == (200, {"n": 1}, "1, 2")
    assert (answer.url, answer.peer) == (f"{server.url}/a?b=c%20d", "127.0.0.1")
    assert (request.method, request.path) == ("GET", "/a?b=c%20d")
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert (request.headers["user-agent"], request.headers["connection"]) == ("test/1", "close")


def never(line: Line, _asked: Asked) -> None:
    """Says nothing until the other side leaves."""
    line.recv(1)


def trickles(line: Line, _asked: Asked) -> None:
    """A byte now and then, for ever."""
    line.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while not threading.Event().wait(0.01):
        line.sendall(b"x")


def floods_body(line: Line, _asked: Asked) -> None:
    """A body without an end."""
    line.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        line.sendall(b"x" * 65_536)


def floods_head(line: Line, _asked: Asked) -> None:
    """A head without an end."""
    line.sendall(b"HTTP/1.1 200 OK\r\n")
    for number in itertools.count():
        line.sendall(f"x-{number}: {'y' * 10_000}\r\n".encode())


def interim_for_ever(line: Line, _asked: Asked) -> None:
    """Says without an end that it goes on."""
    while True:
        line.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def hangs_up(_line: Line, _asked: Asked) -> None:
    """Says nothing."""


def bomb() -> bytes:
    """256 MiB of nothing, made small."""
    squeeze = zlib.compressobj(9, wbits=31)
    return b"".join([squeeze.compress(bytes(1 << 20)) for _ in range(256)]) + squeeze.flush()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (never, "BROKEN_ANSWER"),
        (trickles, "BROKEN_ANSWER"),
        (floods_body, "ANSWER_TOO_LARGE"),
        (floods_head, "BROKEN_ANSWER"),
        (interim_for_ever, "BROKEN_ANSWER"),
        (hangs_up, "BROKEN_ANSWER"),
        (raw(b"\x00\xff not http at all\r\n\r\n"), "BROKEN_ANSWER"),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000), "BROKEN_ANSWER"),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 101 + b"\r\n"), "BROKEN_ANSWER"),
        (raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"), "BROKEN_ANSWER"),
        (raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n"), "BROKEN_ANSWER"),
        (raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab"), "BROKEN_ANSWER"),
        (raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n"), "BROKEN_ANSWER"),
        (reply(200, {"content-encoding": "gzip"}, gzip.compress(b"x" * 100)[:-9]), "BROKEN_ANSWER"),
        (reply(200, {"content-encoding": "gzip"}, b"not gzip"), "BROKEN_ANSWER"),
        (reply(200, {"content-encoding": "br"}, b"x"), "BROKEN_ANSWER"),
        (reply(200, {"content-encoding": "gzip, gzip"}, b"x"), "BROKEN_ANSWER"),
    ],
)
def test_bad_answers_end_in_time_and_in_bounds(said: Any, reason: str) -> None:
    is_endless = said in (never, trickles)
    tries = Tries(attempts=2, timeout_s=0.4 if is_endless else 10.0, pause_s=0.001)
    with WebServer(said) as server:
        began = time.monotonic()
        error = not_got(server.url, tries=tries, most_bytes=1 << 20)
        assert time.monotonic() - began < 8.0
        assert error.reason == reason
        assert server.connections == (2 if reason == "BROKEN_ANSWER" else 1)
        # What is not to be repeated is not, and nobody says that it was not done.
        lost = failed(post(server.url), tries=tries, most_bytes=1 << 20)
        assert (lost.code, lost.reason) == (grpc.StatusCode.ABORTED, "OUTCOME_UNKNOWN")
        assert server.connections == (3 if reason == "BROKEN_ANSWER" else 2)


def test_a_bomb_is_not_unfolded() -> None:
    small = bomb()
    assert len(small) < 1 << 19
    with WebServer(reply(200, {"content-encoding": "gzip"}, small)) as server:
        began = time.monotonic()
        error = not_got(server.url, most_bytes=1 << 20)
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "ANSWER_TOO_LARGE")
        assert error.message == "the answer has more than 1 MiB"
        assert len(got(server.url, most_bytes=1 << 20, cut=True).body) == 1 << 20
        assert time.monotonic() - began < 8.0


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 300_000])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "members"])
def test_what_is_compressed_is_whole(size: int, coding: str) -> None:
    content = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    half = size // 2
    folded = {
        "gzip": gzip.compress(content),
        "deflate": zlib.compress(content),
        "members": gzip.compress(content[:half]) + gzip.compress(content[half:]),
    }[coding]
    headers = {"content-encoding": "deflate" if coding == "deflate" else "gzip"}
    with WebServer(reply(200, headers, folded)) as server:
        assert got(server.url, most_bytes=300_000).body == content
        assert server.asked[0].headers["accept-encoding"] == "gzip"


def test_chunks_and_ends_of_connections_are_read(authority: trustme.CA, tmp_path: Path) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nt: u\r\n\r\n"
    until_end = reply(200, {"x-no-length": ""}, "abcde")
    with WebServer(raw(chunked), until_end) as server:
        assert [got(server.url).body for _ in range(2)] == [b"abcde"] * 2

    def cut_off(line: Line, asked: Asked) -> None:
        until_end(line, asked)
        line.shutdown(socket.SHUT_RDWR)

    with WebServer(until_end, cut_off, authority=authority) as server:
        ca_file = trusted(authority, tmp_path)
        assert got(server.url, ca_file=ca_file).body == b"abcde"
        # Over TLS an end that was not said is no end.
        assert not_got(server.url, ca_file=ca_file, tries=Tries(attempts=1)).reason == "BROKEN_ANSWER"


@pytest.mark.parametrize("is_safe", [False, True])
def test_what_is_sent_waits_for_a_slow_reader(authority: trustme.CA, tmp_path: Path, is_safe: bool) -> None:
    body = bytes(range(256)) * (8 << 12)  # More than lies between two sockets.
    ca_file = trusted(authority, tmp_path)
    with WebServer(authority=authority if is_safe else None, pause_s=0.6) as server:
        request = Request("PUT", server.url, body=body)
        assert asked(request, ca_file=ca_file, tries=Tries(timeout_s=5.0)).status == 200
        assert server.asked[0].body == body
        began = time.monotonic()
        lost = failed(request, ca_file=ca_file, tries=Tries(timeout_s=0.3))
        assert time.monotonic() - began < 8.0
        assert (lost.code, lost.reason) == (grpc.StatusCode.ABORTED, "OUTCOME_UNKNOWN")


def test_who_is_cancelled_hangs_up() -> None:
    asyncio.run(_cancelled())


async def _cancelled() -> None:
    plugin = Plugin("web", version="0.1.0")
    reached, ended = threading.Event(), threading.Event()

    def waits(line: Line, _asked: Asked) -> None:
        """Says nothing, and sees whether the other side leaves."""
        reached.set()
        if line.recv(1) == b"":
            ended.set()

    with WebServer(waits) as server:

        @plugin.operation(effect="read")
        def wait(call: Call) -> None:
            Web(call, agent="test/1", tries=Tries(timeout_s=60.0)).ask(Request("GET", server.url, repeatable=True))

        task = asyncio.create_task(invoke_async(plugin, "wait", timeout=60.0))
        await asyncio.to_thread(reached.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(ended.wait, 3)


def test_certificates_are_checked(authority: trustme.CA, tmp_path: Path) -> None:
    ca_file = trusted(authority, tmp_path)
    with WebServer(authority=authority) as server, WebServer(authority=authority, name="other.test") as other:
        assert got(server.url, ca_file=ca_file).status == 200
        for url in (server.url, other.url):
            error = not_got(url, ca_file="" if url == server.url else ca_file)
            assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_TRUSTED")
        # The name is the one that was asked for, wherever it leads.
        resolver = FakeResolver(["127.0.0.1"])
        assert got(f"https://other.test:{other.port}/", ca_file=ca_file, resolve=resolver).status == 200
        assert (len(server.asked), len(other.asked)) == (1, 1)


def test_what_passes_is_tried_again() -> None:
    with WebServer(reply(503), hangs_up, reply(429, {"retry-after": "0"}), reply(200, {}, "ok")) as server:
        assert got(server.url, tries=Tries(attempts=4, pause_s=0.001)).text == "ok"
        assert server.connections == 4
    with WebServer(reply(429), reply(200)) as server:
        assert asked(post(server.url)).status == 200  # It was not done.
        assert server.connections == 2


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_what_may_have_been_done_is_not_done_again(status: int) -> None:
    with WebServer(reply(status, {"retry-after": "0"}, "oops")) as server:
        error = failed(post(server.url))
        assert server.connections == 1
        assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "OUTCOME_UNKNOWN")
        assert failed(post(server.url, repeatable=True)).code is grpc.StatusCode.UNAVAILABLE
        assert server.connections == 4


def test_nobody_is_waited_for_longer_than_agreed() -> None:
    with WebServer(reply(429, {"retry-after": "3600"})) as server:
        error = not_got(server.url)
        assert server.connections == 1
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    (retry,) = [each for each in error.details if isinstance(each, RetryInfo)]
    assert retry.retry_delay.seconds == 3600


def test_waits_are_read() -> None:
    now = time.time()
    later = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now + 30))
    assert told_wait({"retry-after": "7"}) == 7.0
    assert 28 < (told_wait({"retry-after": later}) or 0) < 31
    assert told_wait({"retry-after": "soon"}) is None
    assert told_wait({"retry-after": "9" * 20}) is None
    assert 28 < (told_wait({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(now) + 30)}) or 0) < 31
    assert told_wait({"x-ratelimit-remaining": "0"}) == 60.0
    assert told_wait({"x-ratelimit-remaining": "12", "x-ratelimit-reset": str(int(now) + 30)}) is None


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, grpc.StatusCode.INVALID_ARGUMENT),
        (401, grpc.StatusCode.PERMISSION_DENIED),
        (403, grpc.StatusCode.PERMISSION_DENIED),
        (404, grpc.StatusCode.NOT_FOUND),
        (409, grpc.StatusCode.FAILED_PRECONDITION),
        (418, grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
def test_refusals_are_told_without_what_is_hidden(status: int, code: grpc.StatusCode) -> None:
    with WebServer(reply(status, {}, "no  s3cret\nhere")) as server:
        error = failed(post(server.url), hidden=["s3cret"])
        assert server.connections == 1
    assert (error.code, error.reason) == (code, "SERVICE_REFUSED")
    assert error.message == f"127.0.0.1:{server.port} answered {status}: no *** here"


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ({"x\r\ny": "z"}, "headers.x\r\ny"),
        ({"x": "y\r\nz: 1"}, "headers.x"),
        ({"x": "€"}, "headers.x"),
        ({"x": "y" * 20_000}, "headers.x"),
        ({"Host": "other"}, "headers.Host"),
        ({"Content-Length": "0"}, "headers.Content-Length"),
        ({"transfer-encoding": "chunked"}, "headers.transfer-encoding"),
    ],
)
def test_headers_that_cannot_be_sent_are_named(headers: dict[str, str], field: str) -> None:
    with WebServer() as server:
        error = failed(Request("GET", server.url, headers, repeatable=True))
        assert server.connections == 0
    assert (error.code, list(error.violations)) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


def test_nobody_waits_any_more() -> None:
    with WebServer(never) as server:
        began = time.monotonic()
        error = not_got(server.url, tries=Tries(timeout_s=30.0), timeout=0.3)
        assert time.monotonic() - began < 8.0
    assert error.code in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
