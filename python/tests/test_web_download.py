"""What is large: read in pieces, taken up again where it broke off, and sent from files."""

import gzip
import tempfile
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from consort.plugin import Call, PluginError
from consort.plugin.testing import Outcome
from consort.plugin.web import Place, Request, Stream, Tries, Upload, Web
from web_kit import QUICK, asked, failed, within
from web_servers import Asked, Line, Reply, WebServer, reply

CONTENT = bytes(range(251)) * 12_000


def streamed(url: str, **options: Any) -> bytes:
    """Reads an answer in pieces."""
    found: list[bytes] = []

    def read(call: Call) -> None:
        web = Web(call, agent="test/1", **{"tries": QUICK, **options})
        with web.opened(Request("GET", url, repeatable=True)) as stream:
            found.extend(stream.pieces())

    within(read)
    assert all(len(each) <= 65_536 for each in found)
    return b"".join(found)


@pytest.fixture
def large() -> Iterator[tuple[WebServer, bytes]]:
    """A server with 3 MiB."""
    content = bytes(range(256)) * (3 << 12)
    with WebServer(reply(503), reply(200, {}, content)) as server:
        yield server, content


def test_what_is_large_is_read_in_pieces(large: tuple[WebServer, bytes]) -> None:
    server, content = large
    assert streamed(server.url) == content
    with pytest.raises(PluginError, match="more than 1 MiB"):
        streamed(server.url, most_bytes=1 << 20)
    server.replies = [reply(200, {"content-length": "10"}, "half")]
    with pytest.raises(PluginError) as caught:
        streamed(server.url)
    assert caught.value.reason == "BROKEN_ANSWER"


def parts(*ends: int, etag: str = '"a"', **more: str) -> list[Reply]:
    """Answers that break off at these places, and one that does not; each says where it begins."""

    def part(end: int | None) -> Reply:
        def answer(line: Line, given: Asked) -> None:
            start = int(given.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
            rest = CONTENT[start:]
            head = {"etag": etag, "content-length": str(len(rest)), **more}
            if "range" in given.headers:
                head["content-range"] = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
            status = 206 if "range" in given.headers else 200
            reply(status, head, rest if end is None else CONTENT[start:end])(line, given)

        return answer

    return [*(part(end) for end in ends), part(None)]


def downloaded(url: str, headers: dict[str, str] | None = None, **options: Any) -> tuple[bytes, Outcome, list[str]]:
    """The body of a download, what was said about it, and the media types it was said to have."""
    found: list[bytes] = []
    kinds: list[str] = []

    def begun(stream: Stream) -> None:
        kinds.append(stream.headers.get("content-type", ""))

    def read(call: Call) -> None:
        web = Web(call, agent="test/1", **{"tries": QUICK, **options})
        found.extend(web.download(Request("GET", url, headers or {}, repeatable=True), begun))

    outcome = within(read)
    return b"".join(found), outcome, kinds


def test_a_download_goes_on_where_it_broke() -> None:
    with WebServer(reply(503), *parts(700_000, 2_000_000)) as server:
        body, outcome, kinds = downloaded(server.url, {"Authorization": "x"})
        assert body == CONTENT
        assert [each.headers.get("range") for each in server.asked] == [
            None,
            None,
            "bytes=700000-",
            "bytes=2000000-",
        ]
        assert [each.headers.get("if-match") for each in server.asked] == [None, None, '"a"', '"a"']
        assert {each.headers["authorization"] for each in server.asked} == {"x"}
        assert {each.headers["accept-encoding"] for each in server.asked} == {"identity"}
        assert (len(outcome.logs), kinds) == (3, [""])
        assert outcome.logs[1][1].endswith("it goes on at 700000 bytes")


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        (reply(412), "SERVICE_REFUSED"),
        (reply(200, {"etag": '"a"'}, CONTENT), "NOT_RESUMED"),
        (reply(206, {"etag": '"b"'}, CONTENT[700_000:]), "NOT_RESUMED"),
        (reply(206, {"etag": '"a"', "content-range": "bytes 0-1/2"}, b"xx"), "NOT_RESUMED"),
    ],
)
def test_what_changed_meanwhile_is_not_mixed(second: Reply, reason: str) -> None:
    with WebServer(parts(700_000)[0], second) as server:
        with pytest.raises(PluginError) as caught:
            downloaded(server.url)
        assert (caught.value.reason, server.connections) == (reason, 2)


@pytest.mark.parametrize(
    ("headers", "options"),
    [({}, {"etag": 'W/"a"'}), ({}, {"etag": ""}), ({"Range": "bytes=5-"}, {})],
)
def test_what_cannot_be_taken_up_again_is_not(headers: dict[str, str], options: dict[str, str]) -> None:
    with WebServer(*parts(700_000, **options)) as server:
        with pytest.raises(PluginError) as caught:
            downloaded(server.url, headers)
        assert (caught.value.reason, server.connections) == ("BROKEN_ANSWER", 1)


def test_what_is_encoded_is_not_taken_up_again() -> None:
    folded = gzip.compress(CONTENT)
    headers = {"etag": '"a"', "content-encoding": "gzip", "content-length": str(len(folded))}
    with WebServer(reply(200, headers, folded[:-100]), reply(200, headers, folded)) as server:
        with pytest.raises(PluginError) as caught:
            downloaded(server.url)
        assert (caught.value.reason, server.connections) == ("BROKEN_ANSWER", 1)
        assert downloaded(server.url)[0] == CONTENT


def test_a_download_that_breaks_again_and_again_is_left() -> None:
    with WebServer(*parts(1, 2, 3, 4, 5, 6)) as server:
        with pytest.raises(PluginError) as caught:
            downloaded(server.url)
        assert (caught.value.reason, server.connections) == ("BROKEN_ANSWER", 3)
        server.replies = parts(700_000)
        with pytest.raises(PluginError) as caught:
            downloaded(server.url, most_bytes=1 << 20)
        assert caught.value.reason == "ANSWER_TOO_LARGE"


def test_files_are_sent_from_their_beginning_each_time() -> None:
    signed: list[str] = []

    def sign(place: Place) -> dict[str, str]:
        signed.append(place.path)
        return {"x-signature": str(len(signed))}

    with WebServer(reply(503), reply(201)) as server, tempfile.TemporaryFile() as file:
        file.write(CONTENT)
        upload = Upload(file, len(CONTENT))
        request = Request("PUT", f"{server.url}/x", body=upload, repeatable=True, patient=True, sign=sign)
        assert asked(request).status == 201
        assert [each.body == CONTENT for each in server.asked] == [True, True]
        assert [each.headers["x-signature"] for each in server.asked] == ["1", "2"]
        assert {each.headers["content-length"] for each in server.asked} == {str(len(CONTENT))}


def test_the_patient_wait_for_each_piece_only() -> None:
    def slow(line: Line, _asked: Asked) -> None:
        """Takes longer than a try, but not at once."""
        for piece in (b"HTTP/1.1 200 OK\r\n", b"content-length: 3\r\n\r\n", b"a", b"b", b"c"):
            server.stopped.wait(0.15)
            line.sendall(piece)

    with WebServer(slow) as server:
        tries = Tries(attempts=1, timeout_s=0.5)
        assert asked(Request("GET", server.url, repeatable=True, patient=True), tries=tries).body == b"abc"
        error = failed(Request("GET", server.url, repeatable=True), tries=tries)
        assert error.code is grpc.StatusCode.UNAVAILABLE
