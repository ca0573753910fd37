"""Engines that are not there, hang, break off or send garbage; and callers that do not wait."""

import json
import os
import ssl
import threading
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import trustme

from consort._gen.plugin.v1.plugin_service_pb2 import Permissions
from consort.plugin import PluginError
from consort.plugin.testing import invoke
from docker_calls import ALL, OWN, Caller
from engine import transport
from engine.operations import plugin
from fake_engine import Answered, FakeEngine, endless, frame, silent, stream, waiting


def test_an_engine_that_is_not_there_is_told(caller: Caller, tmp_path: Path) -> None:
    for path, make in ((tmp_path / "none.sock", False), (tmp_path / "file.sock", True)):
        if make:
            path.write_text("x", encoding="utf-8")
        caller.config["host"] = f"unix://{path}"
        caller.granted.fs_write.append(str(path))
        error = caller.refused("info")
        assert (error.code.name, error.reason) == ("UNAVAILABLE", "NO_ENGINE")
        assert str(path) in error.message


def test_a_socket_without_permission_is_told(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever runs the tests may be root, whom no mode of a file stops.
    def refuses(*_what: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(transport._Socket, "connect", refuses)
    error = caller.refused("info")
    assert (error.code.name, error.reason) == ("FAILED_PRECONDITION", "NO_ACCESS")
    assert "group" in error.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may connect to any socket")
def test_a_socket_of_somebody_else_is_told(engine: FakeEngine, caller: Caller) -> None:
    engine.path.chmod(0)
    assert caller.code("info") == ("FAILED_PRECONDITION", "NO_ACCESS")


def test_an_engine_that_hangs_is_given_up(caller: Caller, tmp_path: Path) -> None:
    path = tmp_path / "silent.sock"
    caller.config |= {"host": f"unix://{path}", "timeout_s": 0.3}
    caller.granted.fs_write.append(str(path))
    with silent(path):
        began = time.monotonic()
        assert caller.code("info") == ("UNAVAILABLE", "ENGINE_LATE")
        assert caller.code("info", _timeout=0.1)[0] == "DEADLINE_EXCEEDED"
        assert time.monotonic() - began < 20


def test_an_engine_that_drips_is_given_up(engine: FakeEngine, caller: Caller) -> None:
    def drips() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
        while True:
            time.sleep(0.02)
            yield b" "

    caller("version")
    caller.config["timeout_s"] = 0.3
    engine.troubles["GET /info"] = lambda _: Answered(raw=drips())
    began = time.monotonic()
    assert caller.code("info") == ("UNAVAILABLE", "ENGINE_LATE")
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "ENGINE_LOST"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "ENGINE_LOST"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", "ENGINE_LOST"),
        (b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a', "ENGINE_LOST"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "ENGINE_LOST"),
        (b"SSH-2.0-OpenSSH_9.7\r\n", "ENGINE_LOST"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", "ENGINE_LOST"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<html>...", "ENGINE_GARBLED"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"[" * 200_000, "ENGINE_GARBLED"),
    ],
)
def test_half_answers_and_garbage_are_told(engine: FakeEngine, caller: Caller, raw: bytes, reason: str) -> None:
    engine.container("c", OWN)
    caller("version")
    engine.troubles["GET /info"] = lambda _: Answered(raw=iter([raw]))
    assert caller.code("info") == ("UNAVAILABLE", reason)
    # What may have been done, and must not be done twice, is not known.
    name = next(iter(engine.containers))
    engine.troubles[f"POST /containers/{name}/restart"] = lambda _: Answered(raw=iter([raw]))
    assert caller.code("restart", container="c") == ("ABORTED", "OUTCOME_UNKNOWN")


@pytest.mark.parametrize("value", [[], {}, None, 7, {"Id": 5, "State": [], "Config": "x", "Mounts": [1, {}]}])
def test_answers_of_another_shape_are_empty(engine: FakeEngine, caller: Caller, value: Any) -> None:
    for path in ("/info", "/images/json", "/containers/json", "/volumes", "/networks"):
        engine.troubles[f"GET {path}"] = lambda _: Answered(200, value)
    for operation in ("info", "images", "containers", "volumes", "networks"):
        caller(operation)
    engine.troubles["GET /images/docker.io/library/alpine:latest/json"] = lambda _: Answered(200, value)
    assert caller("image", image="alpine")["tags"] == []
    caller.config["containers"] = ["*"]
    engine.troubles["GET /containers/c/json"] = lambda _: Answered(200, value)
    assert caller("container", container="c")["name"] == ""


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (400, "bad parameter", "INVALID_ARGUMENT"),
        (401, "unauthorized", "PERMISSION_DENIED"),
        (404, "No such thing", "NOT_FOUND"),
        (409, "You cannot do that now", "FAILED_PRECONDITION"),
        (409, "name is already in use", "ALREADY_EXISTS"),
        (418, "I am a teapot", "FAILED_PRECONDITION"),
        (429, "too many", "RESOURCE_EXHAUSTED"),
        (500, "driver failed", "INTERNAL"),
        (501, "not here", "UNIMPLEMENTED"),
        (503, "starting up", "UNAVAILABLE"),
    ],
)
def test_errors_of_the_engine_are_mapped(
    engine: FakeEngine, caller: Caller, status: int, message: str, code: str
) -> None:
    engine.troubles["GET /info"] = lambda _: Answered(status, {"message": message})
    error = caller.refused("info")
    assert (error.code.name, error.message) == (code, f"the engine answered {status}: {message}")
    html = f"HTTP/1.1 {status} X\r\nContent-Length: 15\r\n\r\n<h1>\n{' ' * 5}oops\n".encode()
    engine.troubles["GET /info"] = lambda _: Answered(raw=iter([html]))
    assert caller.refused("info").message == f"the engine answered {status}: <h1> oops"


@pytest.mark.parametrize(
    ("low", "high", "spoken"), [("1.24", "1.51", "1.47"), ("1.24", "1.43", "1.43"), ("1.44", "1.52", "1.47")]
)
def test_versions_are_negotiated(engine: FakeEngine, caller: Caller, low: str, high: str, spoken: str) -> None:
    engine.versions = (low, high)
    found = caller("version")
    assert (found["api"], found["api_lowest"], found["api_highest"]) == (spoken, low, high)
    assert caller("info")["rootless"] is True
    assert engine.asked[-1].version == spoken
    before = len(engine.asked)
    caller("info")
    assert len(engine.asked) == before + 1  # It is asked for once.


@pytest.mark.parametrize(("low", "high"), [("1.12", "1.40"), ("1.60", "1.70"), ("x", "y"), ("", "")])
def test_an_engine_of_another_age_is_told(engine: FakeEngine, caller: Caller, low: str, high: str) -> None:
    engine.versions = (low, high)
    assert caller.code("info")[1] in ("ENGINE_VERSION", "ENGINE_GARBLED")


def test_an_engine_that_was_changed_is_asked_anew(engine: FakeEngine, caller: Caller) -> None:
    caller("info")
    engine.versions = ("1.24", "1.43")
    told = "client version 1.47 is too new. Maximum supported API version is 1.43"
    engine.troubles["GET /info"] = lambda asked: (
        Answered(400, {"message": told}) if asked.version != "1.43" else Answered(200, {"Name": "older"})
    )
    assert caller("info")["name"] == "older"


def test_endless_logs_end(engine: FakeEngine, caller: Caller) -> None:
    name = engine.container("c", OWN)
    path = f"GET /containers/{name}/logs"
    caller.config |= {"timeout_s": 0.5, "output_kib": 16}
    engine.troubles[path] = lambda _: Answered(raw=endless(frame(1, "x" * 4000)))
    began = time.monotonic()
    found = caller("logs", container="c")
    assert time.monotonic() - began < 20
    assert (found["truncated"], len(found["stdout"])) == (True, 16 * 1024)
    engine.troubles[path] = lambda _: Answered(raw=chain(stream(frame(1, "x")), waiting()))
    followed = caller("logs", container="c", follow_s=0.3)
    assert (followed["truncated"], followed["ended"], followed["stdout"]) == (False, False, "x")
    # The end of a piece that was cut off by the clock is not missed.
    engine.troubles[path] = lambda _: Answered(raw=chain(stream(frame(1, "half")[:10]), waiting()))
    assert caller("logs", container="c", follow_s=0.3)["stdout"] == "ha"
    assert caller.code("logs", container="c", follow_s=60, _timeout=0.3)[0] == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize(
    "pieces",
    [
        [b"plain text that is no frame\n"],
        [frame(1, "ok"), b"\x01\x00\x00\x01\x00\x00\x00\x01x"],
        [frame(1, "ok"), b"\x07\x00\x00\x00\x00\x00\x00\x01x"],
        [frame(1, "ok")[:5]],
        [frame(1, "cut off")[:-1]],
        [frame(3, "the log driver failed")],
        [b"\x01\x00\x00\x00\xff\xff\xff\xffnot that much"],
    ],
)
def test_garbage_in_a_stream_is_told(engine: FakeEngine, caller: Caller, pieces: list[bytes]) -> None:
    engine.container("c", OWN)
    engine.logs = pieces
    assert caller.code("logs", container="c") == ("UNAVAILABLE", "ENGINE_GARBLED")
    # Of a program it is known that it was begun, and not how it went.
    assert caller.code("exec", container="c", command=["id"]) == ("ABORTED", "OUTCOME_UNKNOWN")


def test_frames_may_be_cut_anywhere(engine: FakeEngine, caller: Caller) -> None:
    whole = frame(1, "one\n") + frame(2, "") + frame(2, "two\n") + frame(0, "three\n")
    name = engine.container("c", OWN)

    def drips() -> Iterator[bytes]:
        yield from stream()
        for index in range(len(whole)):
            yield whole[index : index + 1]

    engine.troubles[f"GET /containers/{name}/logs"] = lambda _: Answered(raw=drips())
    found = caller("logs", container="c")
    assert (found["stdout"], found["stderr"]) == ("one\nthree\n", "two\n")


def test_a_program_that_goes_on_is_left(engine: FakeEngine, caller: Caller) -> None:
    engine.container("c", OWN)
    engine.endless_exec = True
    found = caller("exec", container="c", command=["sleep", "60"], seconds=0.3)
    assert (found["exit_code"], set(found["stdout"])) == (None, {"."})


def test_garbage_in_a_pull_is_told(engine: FakeEngine, caller: Caller) -> None:
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    for body in (b"not json\n", b"[1]\n", b"{" * 100, b"x" * (2 << 20), b'{"a":' * 50_000 + b"\n"):
        engine.troubles["POST /images/create"] = lambda _, body=body: Answered(raw=iter([head, body]))  # type: ignore[misc]
        assert caller.code("pull", image="alpine:3.20") == ("UNAVAILABLE", "ENGINE_GARBLED")
    caller.config["idle_s"] = 0.3
    engine.troubles["POST /images/create"] = lambda _: Answered(raw=iter([head, b'{"status": "x"}\n']))
    assert caller.code("pull", image="alpine:3.20") == ("UNAVAILABLE", "ENGINE_GARBLED")  # And no image is there.
    engine.troubles["POST /images/create"] = lambda _: Answered(raw=chain([head], waiting()))
    assert caller.code("pull", image="alpine:3.20") == ("UNAVAILABLE", "ENGINE_LATE")


def test_answers_have_a_most(engine: FakeEngine, caller: Caller) -> None:
    def floods() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n\r\n["
        while True:
            yield b"1," * 50_000

    engine.troubles["GET /images/json"] = lambda _: Answered(raw=floods())
    caller.config["timeout_s"] = 60.0
    assert caller.code("images")[0] == "RESOURCE_EXHAUSTED"


def test_who_does_not_wait_ends_the_stream(engine: FakeEngine, caller: Caller) -> None:
    name = engine.container("c", OWN)
    gone = threading.Event()

    def watched() -> Iterator[bytes]:
        try:
            yield from endless(frame(1, "x"), *[b""] * 3)
        finally:
            gone.set()

    engine.troubles[f"GET /containers/{name}/logs"] = lambda _: Answered(raw=watched())
    began = time.monotonic()
    with pytest.raises(PluginError, match="DEADLINE_EXCEEDED"):
        caller("logs", container="c", follow_s=60, _timeout=0.5)
    assert gone.wait(5)
    assert time.monotonic() - began < 20


def test_a_wait_is_taken_up_again(engine: FakeEngine, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.operations.containers._ROUND_S", 0.2)
    name = engine.container("c", OWN)
    rounds: list[int] = []

    def answer(_asked: Any) -> Answered:
        rounds.append(1)
        return Answered(200, {"StatusCode": 9}) if len(rounds) == 3 else Answered(raw=waiting())

    engine.troubles[f"POST /containers/{name}/wait"] = answer
    assert caller("wait", container="c") == {"exit_code": 9, "error": ""}
    engine.troubles[f"POST /containers/{name}/wait"] = lambda _: Answered(raw=waiting())
    assert caller.code("wait", container="c", _timeout=0.5)[0] == "DEADLINE_EXCEEDED"


def test_an_engine_elsewhere_is_asked_over_tls(tmp_path: Path) -> None:
    transport._versions.clear()
    authority, stranger = trustme.CA(), trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    client = authority.issue_cert("robot@example.com")
    (tmp_path / "cert.pem").write_bytes(b"".join(each.bytes() for each in client.cert_chain_pems))
    (tmp_path / "key.pem").write_bytes(client.private_key_pem.bytes())
    with FakeEngine(tmp_path / "unused", server) as engine:
        config = {"host": f"tcp://127.0.0.1:{engine.port}", "certificates": str(tmp_path), "timeout_s": 5.0}

        def info() -> Any:
            permissions = Permissions(capabilities=ALL)
            return invoke(plugin, "info", config=config, permissions=permissions, data=tmp_path).output

        with pytest.raises(PluginError) as caught:
            info()
        assert caught.value.reason == "NO_CERTIFICATES"
        stranger.cert_pem.write_to_path(tmp_path / "ca.pem")
        with pytest.raises(PluginError, match=r"FAILED_PRECONDITION: .*(self-signed|unable to get local issuer)"):
            info()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        assert info()["name"] == "box"


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"host": "http://127.0.0.1:2375"}, "host"),
        ({"host": "tcp://127.0.0.1"}, "host"),
        ({"host": "unix://relative"}, "host"),
        ({"host": "tcp://127.0.0.1:2376"}, "certificates"),
        ({"mounts": ["srv"]}, "mounts[0]"),
        ({"mounts": ["/srv/../etc"]}, "mounts[0]"),
        ({"owner": "Nobody!"}, "owner"),
        ({"image": []}, "image"),
    ],
)
def test_settings_that_cannot_work_are_named(caller: Caller, config: dict[str, Any], field: str) -> None:
    caller.config = config
    error = caller.refused("info")
    assert list((error.__cause__ or error).violations) == [field]  # type: ignore[attr-defined]
    assert json.dumps(config)
