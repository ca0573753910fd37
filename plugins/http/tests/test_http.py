"""Calls of web services that answer well or badly, and of places where nobody shall get."""

import asyncio
import gzip
import json
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from consort import RpcError
from consort._gen.plugin.v1 import plugin_service_pb2 as pb
from consort.plugin import PluginError
from consort.plugin.testing import Outcome, PluginProcess, invoke
from web_servers import Asked, Line, WebServer, raw, reply
from webcalls.operations import plugin

FOLDER = Path(__file__).resolve().parent.parent
SECRETS = {"token": 't0k"en-5f2c', "other": "0ther-secret"}
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who vouches for the servers."""
    return trustme.CA()


@pytest.fixture
def server() -> Iterator[WebServer]:
    """A server that is granted."""
    with WebServer(reply(200, JSON, '{"a": [1, 2.5, null]}')) as found:
        yield found


def done(
    operation: str,
    given: dict[str, Any],
    *,
    net: tuple[str, ...] = ("*",),
    config: dict[str, Any] | None = None,
    **options: Any,
) -> Outcome:
    """Calls an operation; this machine is granted unless the configuration says otherwise."""
    settings = {"networks": ["127.0.0.0/8"], "pause_s": 0.001, "timeout_s": 5.0, **(config or {})}
    options = {"secrets": SECRETS, "permissions": pb.Permissions(net=net), **options}
    return invoke(plugin, operation, given, config=settings, **options)


def failed(operation: str, given: dict[str, Any], **options: Any) -> PluginError:
    """How a call fails; its words hold no secret."""
    with pytest.raises(PluginError) as caught:
        done(operation, given, **options)
    for secret in SECRETS.values():
        assert secret not in str(caught.value)
    return caught.value


def test_something_is_got(server: WebServer) -> None:
    given = {"url": f"{server.url}/a?x=1#end", "query": {"q": "a b&c", "n": ["1", "2"]}, "headers": {"X-Team": "ops"}}
    outcome = done("get", given)
    (request,) = server.asked
    assert (request.method, request.path) == ("GET", "/a?x=1&q=a+b%26c&n=1&n=2")
    assert (request.headers["x-team"], request.headers["user-agent"]) == ("ops", "consort-http/0.1")
    assert "idempotency-key" not in request.headers
    assert outcome.output == {
        "status": 200,
        "headers": {**JSON, "content-length": "21"},
        "json": {"a": [1, 2.5, None]},
        "text": None,
        "base64": None,
        "url": f"{server.url}/a?x=1&q=a+b%26c&n=1&n=2",
    }


@pytest.mark.parametrize(
    ("kind", "body", "field", "value"),
    [
        ("application/problem+json; charset=utf-8", '{"a":1}', "json", {"a": 1}),
        ("application/json", "{broken", "text", "{broken"),
        ("application/json", "NaN", "text", "NaN"),
        ("application/json", "1e999", "text", "1e999"),
        ("application/json", "[" * 100_000, "text", "[" * 100_000),
        ("text/plain; charset=latin-1", b"\xe9", "text", "é"),
        ("text/plain; charset=none-such", b"x", "base64", "eA=="),
        ("text/plain", b"\xff\xfe", "base64", "//4="),
        ("image/png", b"\x89PNG\0", "base64", "iVBORwA="),
        ("text/html", "", "text", ""),
    ],
)
def test_bodies_are_what_they_are(kind: str, body: Any, field: str, value: Any) -> None:
    with WebServer(reply(200, {"content-type": kind}, body)) as server:
        output = done("get", {"url": server.url}).output
    assert {name: output[name] for name in ("json", "text", "base64") if output[name] is not None} == {field: value}


@pytest.mark.parametrize(
    ("given", "kind", "body"),
    [
        ({"json": {"n": "é"}}, "application/json", '{"n":"é"}'.encode()),
        ({"json": []}, "application/json", b"[]"),
        ({"text": "hällo"}, "text/plain; charset=utf-8", "hällo".encode()),
        ({"form": {"a": "b c", "d": "&"}}, "application/x-www-form-urlencoded", b"a=b+c&d=%26"),
        ({"json": 1, "headers": {"Content-Type": "application/vnd.x+json"}}, "application/vnd.x+json", b"1"),
        ({}, None, b""),
    ],
)
@pytest.mark.parametrize("operation", ["request", "request_idempotent"])
def test_something_is_sent(server: WebServer, operation: str, given: dict[str, Any], kind: Any, body: bytes) -> None:
    given = {"url": f"{server.url}/in?key=private", "method": "PATCH", **given}
    outcome = done(operation, given, idempotency_key="k-1")
    (request,) = server.asked
    assert (request.method, request.headers.get("content-type"), request.body) == ("PATCH", kind, body)
    assert request.headers["idempotency-key"] == "k-1"
    assert outcome.output["status"] == 200
    assert outcome.actions == [f"PATCH {server.url}/in: 200"]


def test_a_write_is_sent_again_only_if_that_is_the_same(server: WebServer) -> None:
    ok = reply(201, {}, "made")

    def hangs_up(_line: Line, _asked: Asked) -> None:
        """It may have been done."""

    server.replies = [reply(503), hangs_up, ok]
    outcome = done("request_idempotent", {"url": server.url, "method": "POST", "json": 1}, idempotency_key="k-2")
    assert (outcome.output["status"], len(outcome.logs)) == (201, 2)
    assert {each.headers["idempotency-key"] for each in server.asked} == {"k-2"}
    for said in (reply(500), reply(504), hangs_up, raw(b"HTTP/1.1 201 Made\r\ncontent-length: 9\r\n\r\nhalf")):
        server.replies, before = [said, ok], server.connections
        error = failed("request", {"url": server.url, "json": 1})
        assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "OUTCOME_UNKNOWN")
        assert server.connections == before + 1
    server.replies = [reply(429, {"retry-after": "0"}), ok]
    assert done("request", {"url": server.url, "json": 1}).output["status"] == 201


def test_nobody_there_was_not_told_anything() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        error = failed("request", {"url": url, "json": 1}, config={"attempts": 2})
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "NOT_REACHED")
    assert error.message.endswith("(attempt 2 of 2)")


def test_a_refusal_is_a_failure_or_an_answer(server: WebServer) -> None:
    server.replies = [reply(404, JSON, '{"message": "no such word"}')]
    error = failed("get", {"url": server.url})
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "SERVICE_REFUSED")
    assert error.message.endswith("answered 404: no such word")
    output = done("get", {"url": server.url, "expect": "any"}).output
    assert (output["status"], output["json"]) == (404, {"message": "no such word"})
    server.replies = [reply(500, {}, "oops")]
    assert done("request", {"url": server.url, "expect": "any"}).output["status"] == 500


@pytest.mark.parametrize(
    ("url", "net", "reason"),
    [
        ("https://example.com/", (), "HOST_NOT_GRANTED"),
        ("https://example.com:8443/", ("example.com:443",), "HOST_NOT_GRANTED"),
        ("https://example.com.evil.test/", ("example.com:443",), "HOST_NOT_GRANTED"),
        ("http://169.254.169.254/latest/meta-data/", ("*",), "ADDRESS_REFUSED"),
        ("http://[fd00:ec2::254]/", ("*",), "ADDRESS_REFUSED"),
        ("http://[::ffff:127.0.0.1]/", ("*",), "ADDRESS_REFUSED"),
        ("http://10.0.0.1/", ("*",), "ADDRESS_REFUSED"),
        ("http://localhost/", ("*",), "ADDRESS_REFUSED"),
        ("http://0/", ("*",), "ADDRESS_REFUSED"),
        ("http://user:pass@example.com/", ("*",), "URL_INVALID"),
        ("file:///etc/passwd", ("*",), "URL_INVALID"),
        ("http://example.com/\r\nX: y", ("*",), "URL_INVALID"),
    ],
)
@pytest.mark.parametrize("operation", ["get", "request", "request_idempotent", "download"])
def test_places_that_are_not_granted_are_not_asked(operation: str, url: str, net: tuple[str, ...], reason: str) -> None:
    error = failed(operation, {"url": url}, net=net, config={"networks": []})
    assert error.reason == reason
    if reason == "HOST_NOT_GRANTED" or "[" in url:
        assert list(error.violations) == ["url"]


def test_an_address_that_is_granted_as_such_is_asked(server: WebServer) -> None:
    exact = (f"127.0.0.1:{server.port}",)
    assert done("get", {"url": server.url}, net=exact, config={"networks": []}).output["status"] == 200
    error = failed("get", {"url": server.url.replace("127.0.0.1", "127.1")}, net=("127.1:*",), config={"networks": []})
    assert error.reason == "ADDRESS_REFUSED"


def test_a_name_is_resolved_once(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = ["127.0.0.2", "127.0.0.1"]
    asked: list[str] = []

    def fake_resolver(host: str, port: int, **_more: Any) -> list[Any]:
        """Says an address where nobody listens first, and then the server's."""
        asked.append(host)
        address = answers[min(len(asked), 2) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", fake_resolver)
    config = {"networks": ["127.0.0.2/32"], "attempts": 1}
    given = {"url": f"http://rebind.test:{server.port}/"}
    assert failed("get", given, config=config).reason == "NOT_REACHED"
    assert asked == ["rebind.test"]
    assert failed("get", given, config=config).reason == "ADDRESS_REFUSED"
    assert server.connections == 0


def test_redirects_are_held_to_the_same_rules(server: WebServer) -> None:
    secrets = {"token": [f"http://127.0.0.1:{server.port}"]}
    given = {"url": server.url, "headers": {"authorization": "Bearer ${secret:token}", "cookie": "a=b"}}
    with WebServer(reply(200, {}, "there")) as other:
        server.replies = [reply(302, {"location": "/next"}), reply(307, {"location": f"{other.url}/x"})]
        output = done("get", given, config={"secrets": secrets}).output
        assert (output["text"], output["url"]) == ("there", f"{other.url}/x")
        assert [each.headers["authorization"] for each in server.asked] == [f"Bearer {SECRETS['token']}"] * 2
        assert not {"authorization", "cookie"} & set(other.asked[0].headers)
    for location, reason in (
        ("http://169.254.169.254/latest/", "ADDRESS_REFUSED"),
        ("http://localhost:1/", "HOST_NOT_GRANTED"),
        ("gopher://127.0.0.1/", "REDIRECT_REFUSED"),
        ("/for-ever", "TOO_MANY_REDIRECTS"),
    ):
        server.replies = [reply(302, {"location": location})]
        net: tuple[str, ...] = ("127.0.0.1:*", "169.254.169.254:*")
        if reason == "ADDRESS_REFUSED":
            net = ("*",)
        assert failed("get", {"url": server.url}, net=net).reason == reason


def test_secrets_go_only_where_they_may(server: WebServer, authority: trustme.CA, tmp_path: Path) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    given = {"headers": {"X-Key": "${secret:token}", "Authorization": "Basic ${secret:other}"}}
    with WebServer(authority=authority) as safe:
        echo = f"you said {SECRETS['token']}, or {json.dumps(SECRETS['token'])}"
        safe.replies = [reply(200, {"set-cookie": "sid=1", "x-echo": SECRETS["other"]}, echo)]
        hosts = [f"127.0.0.1:{safe.port}"]
        config = {"ca_file": str(tmp_path / "ca.pem"), "secrets": {"token": hosts, "other": hosts}}
        output = done("get", {"url": safe.url, **given}, config=config).output
        (request,) = safe.asked
        assert (request.headers["x-key"], request.headers["authorization"]) == (
            SECRETS["token"],
            f"Basic {SECRETS['other']}",
        )
        assert output["text"] == 'you said ***, or "***"'
        assert (output["headers"]["set-cookie"], output["headers"]["x-echo"]) == ("***", "***")
        safe.replies = [reply(401, {}, f"bad key {SECRETS['token']}")]
        assert failed("get", {"url": safe.url, **given}, config=config).message.endswith("answered 401: bad key ***")
    hosts = [f"127.0.0.1:{server.port}", "example.com:443"]
    for bound in ({}, {"token": hosts}, {"token": hosts, "other": ["http://127.0.0.1:1"]}):
        error = failed("get", {"url": server.url, **given}, config={"secrets": bound})
        assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SECRET_NOT_GRANTED")
        assert list(error.violations) == ["headers.X-Key"]
    assert server.connections == 0
    error = failed("get", {"url": server.url, "headers": {"x": "${secret:no name}"}})
    assert list(error.violations) == ["headers.x"]


def test_a_dry_run_sends_nothing(server: WebServer) -> None:
    config = {"secrets": {"token": [f"http://127.0.0.1:{server.port}"]}}
    given = {"url": f"{server.url}/in?key=x", "json": {"a": 1}, "headers": {"authorization": "${secret:token}"}}
    for operation, method in (("request", "POST"), ("request_idempotent", "PUT")):
        outcome = done(operation, given, dry_run=True, secrets={}, config=config)
        assert (outcome.output, outcome.actions) == (None, [])
        would = f"{method} {server.url}/in with 7 bytes of application/json, with the secret token"
        assert outcome.would == [would]
        assert failed(operation, given, dry_run=True, net=(), config=config).reason == "HOST_NOT_GRANTED"
        assert failed(operation, given, dry_run=True).reason == "SECRET_NOT_GRANTED"
    assert server.connections == 0


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"json": 1, "text": "x"}, "json"),
        ({"text": "x", "form": {}}, "text"),
        ({"headers": {"host": "x"}}, "headers.host"),
        ({"headers": {"x": "a\nb"}}, "headers.x"),
        ({"method": "TRACE"}, "method"),
        ({"timeout_s": 0}, "timeout_s"),
    ],
)
def test_bad_input_is_named(server: WebServer, given: dict[str, Any], field: str) -> None:
    error = failed("request", {"url": server.url, **given})
    assert (error.code, list(error.violations)) == (grpc.StatusCode.INVALID_ARGUMENT, [field])
    assert server.connections == 0


def test_bad_settings_are_named() -> None:
    config = {"networks": ["10.0.0.1/8", "all"], "secrets": {"a": ["*", "x.test", "*:443", "*.x.test:443"]}}
    error = failed("get", {"url": "https://example.com"}, config=config)
    fields = ["networks[0]", "networks[1]", "secrets.a[0]", "secrets.a[1]", "secrets.a[2]"]
    assert (error.reason, list(error.violations)) == ("CONFIG_INVALID", fields)


def test_a_service_that_does_not_answer_is_left(server: WebServer) -> None:
    def never(line: Line, _asked: Asked) -> None:
        """Listens, and says nothing."""
        line.recv(1)

    server.replies = [never]
    began = time.monotonic()
    error = failed("get", {"url": server.url, "timeout_s": 0.2}, config={"attempts": 2})
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "BROKEN_ANSWER")
    assert failed("request", {"url": server.url, "timeout_s": 0.2}).reason == "OUTCOME_UNKNOWN"
    assert time.monotonic() - began < 8.0


@pytest.mark.parametrize("operation", ["get", "download"])
def test_floods_and_bombs_end(operation: str) -> None:
    def floods(line: Line, _asked: Asked) -> None:
        """Says more than anybody wants to hear."""
        line.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not threading.Event().is_set():
            line.sendall(bytes(65_536))

    bomb = reply(200, {"content-encoding": "gzip"}, gzip.compress(bytes(64 << 20)))
    for said in (floods, bomb):
        with WebServer(said) as server:
            error = failed(operation, {"url": server.url}, config={"answer_mib": 1, "download_mib": 1})
            assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "ANSWER_TOO_LARGE")


def test_what_is_large_is_downloaded(server: WebServer) -> None:
    content = bytes(range(256)) * (6 << 12)
    server.replies = [reply(503), reply(200, {"content-type": "image/x-test"}, content)]
    outcome = done("download", {"url": server.url})
    assert (outcome.data == content, outcome.media_type) == (True, "image/x-test")
    assert outcome.chunks >= 6
    server.replies = [reply(200, {"content-length": "100"}, "half")]
    assert failed("download", {"url": server.url}).reason == "BROKEN_ANSWER"
    server.replies = [reply(200, JSON, "[1]")]
    outcome = done("download", {"url": server.url})
    assert (outcome.data, outcome.media_type) == (b"[1]", "application/json; charset=utf-8")


def test_the_process_asks_and_logs_no_secret(server: WebServer, tmp_path: Path) -> None:
    asyncio.run(_in_a_process(server, tmp_path / "http"))


async def _in_a_process(server: WebServer, folder: Path) -> None:
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns(".venv", "__pycache__", "tests"))
    manifest = (folder / "consort-plugin.toml").read_text()
    granted = manifest.replace("net = []", f'net = ["127.0.0.1:{server.port}"]')
    granted = granted.replace("secrets = []", 'secrets = ["token"]')
    (folder / "consort-plugin.toml").write_text(granted)
    config = {"secrets": {"token": [f"http://127.0.0.1:{server.port}"]}}
    given = {"url": server.url, "headers": {"authorization": "Bearer ${secret:token}"}}
    async with PluginProcess(folder, config=config, secrets=SECRETS) as process:
        assert (await process.invoke("get", given)).output["json"] == {"a": [1, 2.5, None]}
        assert server.asked[0].headers["authorization"] == f"Bearer {SECRETS['token']}"
        server.replies = [reply(400, {}, SECRETS["token"])]
        with pytest.raises(RpcError) as caught:
            await process.invoke("request", given)
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(RpcError) as denied:
            await process.invoke("get", {"url": "http://169.254.169.254/"})
        assert denied.value.reason == "HOST_NOT_GRANTED"
        assert SECRETS["token"] not in "".join(process.logs) + str(caught.value)
