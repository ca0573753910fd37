"""Plugins as processes: the handshake, and all that a mesh asks of them."""

import asyncio
import hashlib
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2

from consort import RpcError
from consort._gen.blob.v1.payload_pb2 import BlobRef, Payload
from consort._gen.plugin.v1 import plugin_service_pb2 as pb
from consort.plugin.testing import PluginProcess

CONFORMANCE = Path(__file__).parent / "conformance_plugin"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
MANIFEST = """
id = "made"
version = "0.1.0"
command = ["python", "main.py"]
protocol = 1

[permissions]
secrets = ["key"]
mesh = ["state", "events", "blobs"]
"""


def folder(tmp_path: Path, code: str) -> Path:
    """A plugin of a test's own; its code begins with the usual lines."""
    (tmp_path / "consort-plugin.toml").write_text(MANIFEST, encoding="utf-8")
    head = "from consort.plugin import Call, Plugin\nplugin = Plugin('made', version='0.1.0')\n"
    (tmp_path / "main.py").write_text(head + code + "\nplugin.serve()\n", encoding="utf-8")
    return tmp_path


def peak_of(process: int) -> int:
    """The most memory that a process had, in bytes."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024


def read(path: str) -> str | None:
    """What is in a file, None if there is none."""
    return Path(path).read_text(encoding="utf-8") if Path(path).exists() else None


def watching(plugin: PluginProcess) -> Any:
    """A watch of its health."""
    watch: Any = plugin._channel.unary_stream("/grpc.health.v1.Health/Watch", None, None)
    return watch(b"", timeout=10.0)


async def health_until(plugin: PluginProcess, wanted: int) -> int:
    """Its health, once it is as wanted, or after 2 s."""
    for _ in range(200):
        if await plugin.health() == wanted:
            break
        await asyncio.sleep(0.01)
    return await plugin.health()


async def logged(plugin: PluginProcess, words: str) -> str:
    """The line with these words, as soon as there is one."""
    while True:
        for line in list(plugin.logs):
            if words in line:
                return line
        await asyncio.sleep(0.01)


async def test_the_operations_of_the_conformance_plugin() -> None:
    async with PluginProcess(CONFORMANCE) as plugin:
        names = [operation.name for operation in plugin.hello.operations]
        assert names == ["echo", "count", "sleep", "large", "fail", "crash", "write"]
        assert (await plugin.invoke("echo", {"text": "hé"})).output == {"text": "hé"}
        counted = await plugin.invoke("count", {"to": 3, "delay_ms": 1})
        assert counted.output == {"total": 3}
        assert counted.progress == [(1 / 3, "1 of 3"), (2 / 3, "2 of 3"), (1.0, "3 of 3")]
        assert counted.logs == [("info", f"counted {number}") for number in (1, 2, 3)]
        assert (await plugin.invoke("sleep", {"ms": 5})).output == {"slept_ms": 5}
        path = str(plugin.data / "note.txt")
        planned = await plugin.invoke("write", {"path": path, "text": "hi"}, dry_run=True)
        assert (planned.would, planned.actions) == ([f"write 2 bytes to {path}"], [])
        assert read(path) is None
        done = await plugin.invoke("write", {"path": path, "text": "hi"})
        assert (done.would, done.actions, read(path)) == (
            [],
            [f"wrote 2 bytes to {path}"],
            "hi",
        )


async def test_failures_reach_the_caller_with_their_details() -> None:
    async with PluginProcess(CONFORMANCE) as plugin:
        with pytest.raises(RpcError) as caught:
            await plugin.invoke("fail", {"code": "RESOURCE_EXHAUSTED", "message": "nö more"})
        assert (caught.value.code, caught.value.message) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "nö more")
        with pytest.raises(RpcError) as caught:
            await plugin.invoke("count", {"to": "x", "times": 1})
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INPUT_INVALID")
        assert list(caught.value.violations) == ["to", "times"]
        with pytest.raises(RpcError) as caught:
            await plugin.invoke("fail", {"code": "NO_SUCH_CODE", "message": ""})
        assert caught.value.code is grpc.StatusCode.INTERNAL
        assert caught.value.message.startswith("ValueError: code: 'NO_SUCH_CODE'")
        with pytest.raises(RpcError) as caught:
            await plugin.invoke("nothing")
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.NOT_FOUND, "NO_OPERATION")
        with pytest.raises(RpcError) as caught:
            await plugin.invoke("crash", {"\0 é": 1, "x" * 10_000: "y" * 100_000})
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(RpcError) as caught:
            await plugin.invoke("echo", {"text": "x"}, dry_run=True)
        assert caught.value.reason == "NO_DRY_RUN"


async def test_a_call_ends_when_its_caller_goes_or_its_deadline_comes() -> None:
    async with PluginProcess(CONFORMANCE) as plugin:
        with pytest.raises(RpcError) as caught:
            await plugin.invoke("sleep", {"ms": 60_000}, timeout=0.2)
        assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
        call = plugin.call("count", {"to": 1000, "delay_ms": 50})
        await call.read()
        call.cancel()
        plain = plugin.call("sleep", {"ms": 60_000})
        await asyncio.sleep(0.1)
        plain.cancel()
        # All have ended: there is nothing to wait for, or to cancel.
        assert await plugin.drain(5.0) == 0


async def test_a_large_result_takes_little_memory() -> None:
    async with PluginProcess(CONFORMANCE) as plugin:
        call = plugin.call("large", {"mib": 256}, timeout=60.0)
        size, media_type = 0, ""
        async for message in call:
            size += len(message.chunk)
            media_type = message.result.media_type or media_type
        assert (size, media_type) == (256 * 1024 * 1024, "application/octet-stream")
        assert peak_of(plugin.process.pid) < 160 * 1024 * 1024


async def test_an_empty_stream_is_one() -> None:
    async with PluginProcess(CONFORMANCE) as plugin:
        outcome = await plugin.invoke("large", {"mib": 0})
        assert (outcome.chunks, outcome.data, outcome.media_type) == (1, b"", "application/octet-stream")


async def test_a_reader_that_stops_stops_the_plugin() -> None:
    async with PluginProcess(CONFORMANCE) as plugin:
        call = plugin.call("large", {"mib": 2048}, timeout=60.0)
        await call.read()
        await asyncio.sleep(0.3)
        assert peak_of(plugin.process.pid) < 160 * 1024 * 1024
        call.cancel()


async def test_a_crash_is_seen_as_one() -> None:
    async with PluginProcess(CONFORMANCE) as plugin:
        with pytest.raises(RpcError) as caught:
            await plugin.invoke("crash")
        assert caught.value.code is grpc.StatusCode.UNAVAILABLE
        assert await plugin.process.wait() == 7


async def test_drain_waits_for_what_is_in_work_and_cancels_the_rest() -> None:
    async with PluginProcess(CONFORMANCE) as plugin:
        quick = asyncio.create_task(plugin.invoke("count", {"to": 10, "delay_ms": 20}))
        slow = asyncio.create_task(plugin.invoke("sleep", {"ms": 60_000}, timeout=30))
        watch = watching(plugin)
        assert await watch.read() == SERVING
        await asyncio.sleep(0.1)
        draining = asyncio.create_task(plugin.drain(1.0))
        assert await watch.read() == NOT_SERVING
        with pytest.raises(RpcError) as caught:
            await plugin.invoke("echo", {"text": "late"})
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.UNAVAILABLE, "PLUGIN_DRAINING")
        assert (await quick).output == {"total": 10}
        assert await draining == 1
        with pytest.raises(RpcError) as caught:
            await slow
        assert caught.value.code is grpc.StatusCode.CANCELLED
        assert await plugin.terminate() == 0


@pytest.mark.parametrize("how", ["stdin", "SIGTERM", "SIGINT"])
async def test_it_ends_with_its_mesh_whatever_its_functions_do(tmp_path: Path, how: str) -> None:
    code = "import time\n@plugin.operation()\ndef hang(call: Call) -> None:\n    call.progress(0.0)\n    time.sleep(60)"
    async with PluginProcess(folder(tmp_path, code)) as plugin:
        if how == "stdin":
            call = plugin.call("hang")
            await call.read()
            assert plugin.process.stdin is not None
            plugin.process.stdin.close()
        else:
            plugin.process.send_signal(getattr(signal, how))
        assert await asyncio.wait_for(plugin.process.wait(), 8) == 0


async def test_it_ends_with_its_mesh_though_its_loop_is_blocked(tmp_path: Path) -> None:
    code = "import time\n@plugin.operation()\nasync def block(call: Call) -> None:\n    time.sleep(60)"
    async with PluginProcess(folder(tmp_path, code)) as plugin:
        call = plugin.call("block")
        await asyncio.sleep(0.2)
        assert plugin.process.stdin is not None
        plugin.process.stdin.close()
        assert await asyncio.wait_for(plugin.process.wait(), 8) == 0
        call.cancel()


async def test_functions_that_do_not_stop_are_told_of(tmp_path: Path) -> None:
    code = """
import threading
plugin = Plugin("made", version="0.1.0", threads=2)
go_on = threading.Event()
@plugin.operation()
def hang(call: Call) -> None:
    call.progress(0.0)
    go_on.wait()
@plugin.operation()
def plain() -> int:
    return 1
@plugin.operation()
async def free(call: Call) -> int:
    go_on.set()
    return 2
"""
    async with PluginProcess(folder(tmp_path, code)) as plugin:
        for _ in range(2):
            assert await plugin.health() == 1
            call = plugin.call("hang")
            await call.read()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call.read()
        assert await health_until(plugin, 2) == 2
        with pytest.raises(RpcError) as caught:
            await plugin.invoke("plain", timeout=5)
        assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "PLUGIN_STUCK")
        assert (await plugin.invoke("free")).output == 2
        assert await health_until(plugin, 1) == 1
        assert (await plugin.invoke("plain")).output == 1


async def test_what_is_printed_is_logged_and_never_in_the_way(tmp_path: Path) -> None:
    code = """
import subprocess, sys, os
print("while loading")
@plugin.operation()
def talk() -> str:
    print("to standard output")
    print("to standard error", file=sys.stderr)
    said = subprocess.run(["cat"], capture_output=True, check=True, timeout=5).stdout
    return f"{said!r} {'CONSORT_PLUGIN_TOKEN' in os.environ}"
@plugin.operation()
def broken() -> None:
    raise RuntimeError("it broke")
"""
    async with PluginProcess(folder(tmp_path, code)) as plugin:
        assert (await plugin.invoke("talk")).output == "b'' False"
        with pytest.raises(RpcError, match="RuntimeError: it broke"):
            await plugin.invoke("broken")
        for words in ("while loading", "to standard output", "to standard error", 'raise RuntimeError("it broke")'):
            await logged(plugin, words)


async def test_the_mesh_hands_out_what_is_granted(tmp_path: Path) -> None:
    code = """
@plugin.operation()
async def gather(call: Call, secret: str = "key") -> list[str]:
    value = await call.host.get_secret(secret)
    before = await call.host.get_state("n")
    await call.host.put_state("n", b"1")
    event = await call.host.publish_event("DONE", {"secret": len(value)})
    (call.data / "kept").write_text(value)
    return [value, str(before), event, str(call.permissions.secrets), str(call.remaining < 11)]
@plugin.operation()
def plain(call: Call) -> str:
    return call.host.get_secret("key") + str(call.host.get_state("n"))
@plugin.operation()
def blob(call: Call, sha256: str) -> int:
    import io
    return call.host.read_blob(sha256, io.BytesIO())
"""
    async with PluginProcess(folder(tmp_path, code), secrets={"key": "s3cret", "other": "x"}) as plugin:
        assert (await plugin.invoke("gather")).output == ["s3cret", "None", "event-1", "['key']", "True"]
        assert plugin.mesh.events == [("DONE", {"secret": 6})]
        assert read(str(plugin.data / "kept")) == "s3cret"
        assert (await plugin.invoke("plain")).output == "s3cretb'1'"
        data = bytes(200_000)
        digest = hashlib.sha256(data).hexdigest()
        plugin.mesh.blobs = {digest: data, "0" * 64: b"x"}
        assert (await plugin.invoke("blob", {"sha256": digest})).output == 200_000
        with pytest.raises(RpcError, match="other bytes than its name says"):
            await plugin.invoke("blob", {"sha256": "0" * 64})
        with pytest.raises(RpcError) as caught:
            await plugin.invoke("gather", {"secret": "other"})
        assert caught.value.code is grpc.StatusCode.PERMISSION_DENIED
        assert 'secrets = ["other"]' in caught.value.message


async def test_input_comes_in_every_form(tmp_path: Path) -> None:
    code = "@plugin.operation()\ndef size(text: str, n: int = 0) -> list[int]:\n    return [len(text), n]"
    text = json.dumps({"text": "x" * 2_000_000}).encode()
    digest = hashlib.sha256(text).hexdigest()
    value = struct_pb2.Value()
    value.struct_value.update({"text": "abc", "n": 7})
    blob = BlobRef(sha256=digest, size_bytes=len(text), media_type="application/json")
    lost = BlobRef(sha256="0" * 64, size_bytes=1)
    async with PluginProcess(folder(tmp_path, code)) as plugin:
        plugin.mesh.blobs = {digest: text}

        async def sized(given: Payload) -> Any:
            call = plugin._stub.Invoke(pb.InvokeRequest(operation="size", input=given), timeout=10)
            return json.loads([message async for message in call][-1].result.output.json)

        assert await sized(Payload(value=value)) == [3, 7]
        assert await sized(Payload(blob=blob)) == [2_000_000, 0]
        for bad, code in ((Payload(json="{"), "INVALID_ARGUMENT"), (Payload(json="[1]"), "INVALID_ARGUMENT")):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await sized(bad)
            assert caught.value.code().name == code
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await sized(Payload(blob=lost))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await sized(Payload(json="[" * 100_000))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_started_by_hand_it_says_so() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "main.py", cwd=CONFORMANCE, stdout=PIPE, stderr=PIPE, env={"PATH": os.environ["PATH"]}
    )
    out, err = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert b"'conformance' is a plugin of Consort" in err


async def test_a_mesh_of_another_age_is_told(tmp_path: Path) -> None:
    environment = {
        "CONSORT_PLUGIN_COOKIE": "consort-plugin-host",
        "CONSORT_PLUGIN_SOCKET": str(tmp_path / "s"),
        "CONSORT_PLUGIN_PROTOCOLS": "2-3",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "main.py", cwd=CONFORMANCE, stdout=PIPE, stderr=PIPE, env=environment
    )
    out, err = await process.communicate()
    assert (process.returncode, out) == (2, b"")
    assert b"speaks protocol 1, and the mesh speaks 2-3" in err


async def test_calls_at_once_do_not_mix() -> None:
    async with PluginProcess(CONFORMANCE) as plugin:
        outcomes = await asyncio.gather(*(plugin.invoke("echo", {"text": str(number)}) for number in range(64)))
        assert [outcome.output for outcome in outcomes] == [{"text": str(number)} for number in range(64)]


async def test_health_can_be_watched_to_the_end() -> None:
    async with PluginProcess(CONFORMANCE) as plugin:
        watch = watching(plugin)
        assert await watch.read() == SERVING
        await plugin.drain(1.0)
        assert await watch.read() == NOT_SERVING
        watch.cancel()
        check: Any = plugin._channel.unary_unary("/grpc.health.v1.Health/Check", None, None)
        assert await check(b"\x0a\x1fconsort.plugin.v1.PluginService", timeout=5.0) == NOT_SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await check(b"\x0a\x01x", timeout=5.0)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


HIDDEN = """
import ctypes, os, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_DUMPABLE, PR_CAPBSET_DROP = 4, 24
LOOK = '''
import os
for name in ("environ", "mem", "maps", "status"):
    try:
        with open(f"/proc/{os.getppid()}/{name}", "rb") as file:
            print(name, "TOKEN" if b"CONSORT_PLUGIN_TOKEN" in file.read(1 << 16) else "open")
    except PermissionError:
        print(name, "closed")
    except OSError:  # Nothing is mapped at 0.
        print(name, "open")
'''

@plugin.operation(effect="read")
async def look(opened: bool) -> list[str]:
    if os.geteuid() == 0:
        # Root may look at everybody; so neither it nor what it starts has capabilities any more, as in the sandbox.
        for number in range(64):
            libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
        assert libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()) == 0
    if opened:
        assert libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0
    done = subprocess.run([sys.executable, "-I", "-S", "-c", LOOK], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc/PID/environ")
async def test_programs_that_it_starts_cannot_read_it(tmp_path: Path) -> None:
    async with PluginProcess(folder(tmp_path, HIDDEN)) as plugin:
        assert (await plugin.invoke("look", {"opened": False})).output == [
            "environ closed",
            "mem closed",
            "maps closed",
            "status open",
        ]
        # The mesh reads how much memory it takes; so may everybody.
        assert peak_of(plugin.process.pid) > 0
        # Without what the SDK does, the token would be there.
        assert "environ TOKEN" in (await plugin.invoke("look", {"opened": True})).output
