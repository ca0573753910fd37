"""What `consort-pyhost` does beyond what every plugin does. Run by the tests of `crates/consort-pyhost`."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
from test_plugin_process import folder, health_until, logged, peak_of
from under_pyhost import PACKAGES, PYHOST

from consort import RpcError
from consort.plugin.testing import PluginProcess

SERVING, NOT_SERVING = 1, 2


async def eventually(plugin: PluginProcess, wanted: int, seconds: float) -> float:
    """How long its health took to be as wanted; fails after a time."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while await plugin.health() != wanted:
        assert loop.time() - began < seconds, f"it is not {wanted} after {seconds} s"
        await asyncio.sleep(0.05)
    return loop.time() - began


def started(path: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """A start that ends by itself."""
    variables = {
        "CONSORT_PLUGIN_COOKIE": "consort-plugin-host",
        "CONSORT_PLUGIN_SOCKET": str(path / "s"),
        "PYTHONPATH": PACKAGES,
        **environment,
    }
    command = [PYHOST, *(arguments or ["main.py"])]
    return subprocess.run(  # noqa: S603
        command, cwd=path, env=variables, capture_output=True, text=True, check=False, timeout=20
    )


async def test_it_is_the_host_and_a_class_need_not_serve(tmp_path: Path) -> None:
    code = """
from consort.plugin import Adapter
class Shelf(Adapter):
    name, version = "made", "0.1.0"
    async def sdk(self) -> str:
        import sys
        return f"{'_consort_pyhost' in sys.modules} {sys.argv} {__name__}"
"""
    made = folder(tmp_path, "")
    (made / "main.py").write_text(code, encoding="utf-8")
    async with PluginProcess(made) as plugin:
        assert (await plugin.invoke("sdk")).output == "True ['main.py'] __main__"


async def test_no_exception_ends_the_process(tmp_path: Path) -> None:
    code = """
import asyncio, sys
@plugin.operation()
def plain(kind: str) -> None:
    raise {"exit": SystemExit(4), "interrupt": KeyboardInterrupt(), "value": ValueError("half \\ud800")}[kind]
@plugin.operation()
async def loop(kind: str) -> None:
    plain(kind)
@plugin.operation()
async def task() -> int:
    async def leave() -> None:
        sys.exit(5)
    made = asyncio.create_task(leave())
    await asyncio.sleep(0.05)
    return 1 if made.done() else 0
"""
    async with PluginProcess(folder(tmp_path, code)) as plugin:
        for operation in ("plain", "loop"):
            for kind, name in (("exit", "SystemExit"), ("interrupt", "KeyboardInterrupt"), ("value", "ValueError")):
                with pytest.raises(RpcError) as caught:
                    await plugin.invoke(operation, {"kind": kind})
                assert caught.value.code is grpc.StatusCode.INTERNAL
                assert caught.value.message.startswith(name)
        call = plugin.call("plain", {"kind": "exit"})
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call.read()
        trailers: dict[str, Any] = dict(failed.value.trailing_metadata() or ())  # type: ignore[arg-type]
        assert b"main.py" in bytes(trailers["grpc-status-details-bin"]), "the traceback is in the details"
        assert (await plugin.invoke("task")).output == 1
        assert plugin.process.returncode is None


async def test_lines_name_their_operation(tmp_path: Path) -> None:
    code = """
import atexit, os, sys
atexit.register(print, "the end")
os.write(1, b"raw before the handshake\\n")
print("loaded")
@plugin.operation()
def talk(text: str) -> None:
    print(text, end="")
    print("", "more")
    print("error", file=sys.stderr)
    os.write(1, b"raw later\\n")
@plugin.operation()
async def hum(text: str) -> None:
    print(text)
"""
    async with PluginProcess(folder(tmp_path, code)) as plugin:
        await asyncio.gather(*(plugin.invoke("talk", {"text": f"<{number}>"}) for number in range(8)))
        await plugin.invoke("hum", {"text": "mm"})
        for line in ("loaded", "raw before the handshake", "raw later", "[talk] error", "[hum] mm"):
            assert line == await logged(plugin, line)
        for number in range(8):
            assert await logged(plugin, f"<{number}>") == f"[talk] <{number}> more"
    assert await logged(plugin, "the end") == "the end"


async def test_programs_and_threads_are_started_as_ever(tmp_path: Path) -> None:
    code = """
import asyncio, contextvars, subprocess
word = contextvars.ContextVar("word", default="none")
@plugin.operation()
async def run() -> str:
    child = await asyncio.create_subprocess_exec("cat", "/proc/self/comm", stdout=asyncio.subprocess.PIPE)
    out, _ = await child.communicate()
    return out.decode().strip() + str(await asyncio.to_thread(subprocess.call, ["false"]))
@plugin.operation()
def note(text: str) -> str:
    before = word.get()
    word.set(text)
    return before
"""
    async with PluginProcess(folder(tmp_path, code)) as plugin:
        assert (await plugin.invoke("run")).output == "cat1"
        before = [(await plugin.invoke("note", {"text": "x"})).output for _ in range(3)]
        assert before == ["none"] * 3, "calls share no context"


async def test_a_loop_that_hangs_is_not_serving(tmp_path: Path) -> None:
    code = """
import time
@plugin.operation()
async def block(seconds: float) -> int:
    time.sleep(seconds)
    return 1
@plugin.operation()
def plain() -> int:
    return 2
"""
    async with PluginProcess(folder(tmp_path, code)) as plugin:
        call = asyncio.create_task(plugin.invoke("block", {"seconds": 7.0}, timeout=12))
        assert await eventually(plugin, NOT_SERVING, 8.0) > 3.5
        # Threads, and Rust, go on.
        assert (await plugin.invoke("plain", timeout=1)).output == 2
        assert "block (" in await logged(plugin, "the event loop of 'made' has not turned")
        await logged(plugin, "in block")  # The stacks.
        assert (await call).output == 1
        await eventually(plugin, SERVING, 2.0)


async def test_health_is_answered_while_pythons_lock_is_held(tmp_path: Path) -> None:
    code = """
import ctypes
@plugin.operation()
def hold(seconds: int) -> int:
    return ctypes.PyDLL(None).sleep(seconds)  # Unlike CDLL, it keeps the lock.
"""
    async with PluginProcess(folder(tmp_path, code)) as plugin:
        call = asyncio.create_task(plugin.invoke("hold", {"seconds": 7}, timeout=12))
        loop, slowest = asyncio.get_running_loop(), 0.0
        for _ in range(160):
            began = loop.time()
            health = await plugin.health()
            slowest = max(slowest, loop.time() - began)
            if health == NOT_SERVING:
                break
            await asyncio.sleep(0.05)
        assert health == NOT_SERVING
        assert slowest < 1.0
        await logged(plugin, "in hold")
        assert (await call).output == 0
        await eventually(plugin, SERVING, 2.0)


async def test_a_function_that_does_not_stop_is_told_with_its_stack(tmp_path: Path) -> None:
    code = """
import time
@plugin.operation()
def stubborn(call: Call) -> None:
    call.progress(0.0)
    until = time.monotonic() + 8
    while time.monotonic() < until:
        time.sleep(0.05)  # Here it is.
"""
    async with PluginProcess(folder(tmp_path, code)) as plugin:
        call = plugin.call("stubborn")
        await call.read()
        call.cancel()
        line = await asyncio.wait_for(logged(plugin, "stubborn ("), 8.0)
        assert "goes on though it was cancelled" in line
        await asyncio.wait_for(logged(plugin, "# Here it is."), 2.0)
        assert await plugin.health() == SERVING, "other threads are free"


async def test_whoever_leaves_stops_the_work(tmp_path: Path) -> None:
    code = """
import asyncio
from collections.abc import AsyncIterator, Iterator
ended: list[str] = []
@plugin.operation()
async def loop(call: Call) -> None:
    call.progress(0.0)
    try:
        await asyncio.sleep(60)
    finally:
        ended.append("loop")
@plugin.operation()
def plain(call: Call) -> None:
    call.progress(0.0)
    try:
        call.sleep(60)
    finally:
        ended.append("plain")
@plugin.operation()
def pieces() -> Iterator[bytes]:
    try:
        while True:
            yield bytes(1 << 20)
    finally:
        ended.append("pieces")
@plugin.operation()
async def parts() -> AsyncIterator[bytes]:
    try:
        while True:
            yield bytes(1 << 20)
    finally:
        ended.append("parts")
@plugin.operation()
async def all() -> list[str]:
    return sorted(ended)
"""
    async with PluginProcess(folder(tmp_path, code)) as plugin:
        calls: list[Any] = [plugin.call(name) for name in ("loop", "plain", "pieces", "parts")]
        for call in calls:
            await call.read()
        await asyncio.sleep(0.2)  # The streams are full.
        assert (await plugin.invoke("all")).output == []
        for call in calls:
            call.cancel()
        for _ in range(200):
            if len(ended := (await plugin.invoke("all")).output) == 4:
                break
            await asyncio.sleep(0.02)
        assert ended == ["loop", "parts", "pieces", "plain"]
        assert await plugin.drain(1.0) == 0


async def test_slow_readers_of_streams_hold_no_thread(tmp_path: Path) -> None:
    code = """
from collections.abc import Iterator
plugin = Plugin("made", version="0.1.0", threads=1)
@plugin.operation()
def pieces(mib: int) -> Iterator[bytes]:
    for _ in range(mib):
        yield bytes(1 << 20)
@plugin.operation()
def plain() -> int:
    return 1
"""
    async with PluginProcess(folder(tmp_path, code)) as plugin:
        call = plugin.call("pieces", {"mib": 64})
        await call.read()
        assert (await plugin.invoke("plain", timeout=2)).output == 1
        size = 1 << 20
        while message := await call.read():
            size += len(message.chunk)
        assert size == 64 << 20


async def test_a_result_of_64_mib_takes_little_memory(tmp_path: Path) -> None:
    code = """
@plugin.operation()
def data(mib: int) -> bytes:
    return bytes(mib << 20)
@plugin.operation()
def text(mib: int) -> str:
    return "x" * (mib << 20)
"""
    async with PluginProcess(folder(tmp_path, code)) as plugin:
        before = peak_of(plugin.process.pid)
        outcome = await plugin.invoke("data", {"mib": 64}, timeout=14)
        assert (outcome.chunks, len(outcome.data)) == (64, 64 << 20)
        assert peak_of(plugin.process.pid) - before < 96 << 20, "once, and what is on its way"
        outcome = await plugin.invoke("text", {"mib": 16}, timeout=14)
        assert (outcome.chunks, len(outcome.output)) == (17, 16 << 20)


async def test_the_virtual_environment_of_the_folder_is_used(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True, timeout=60)  # noqa: ASYNC221, S603
    packages = next((tmp_path / ".venv/lib").glob("python3.*/site-packages"))
    (packages / "only_there.py").write_text("VALUE = 7\n", encoding="utf-8")
    code = """
import only_there, subprocess, sys
@plugin.operation()
def where() -> list[str]:
    child = subprocess.run([sys.executable, "-c", "import only_there; print(only_there.VALUE)"],
                           capture_output=True, text=True, check=True).stdout
    return [sys.executable, sys.prefix, child.strip()]
"""
    async with PluginProcess(folder(tmp_path, code)) as plugin:
        venv = tmp_path / ".venv"
        assert (await plugin.invoke("where")).output == [str(venv / "bin/python"), str(venv), "7"]


def test_an_environment_of_another_python_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.8.1\n", encoding="utf-8")
    ended = started(folder(tmp_path, ""))
    assert (ended.returncode, ended.stdout) == (1, "")
    ours = ".".join(map(str, sys.version_info[:2]))
    for part in (str(tmp_path / ".venv"), "is of Python 3.8.1", f"holds Python {ours}", f"python{ours} -m venv"):
        assert part in ended.stderr


def test_what_cannot_be_served_is_told(tmp_path: Path) -> None:
    for code, words in (
        ("print('nothing here')\n", "'main.py' has 0 plugins and adapters"),
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def f(:\n", "SyntaxError"),
    ):
        (tmp_path / "main.py").write_text(code, encoding="utf-8")
        ended = started(tmp_path)
        assert (ended.returncode, ended.stdout) == (1, ""), ended.stderr
        assert words in ended.stderr
    ended = started(tmp_path, PYTHONPATH="")
    assert ended.returncode == 1
    assert "install consort-sdk" in ended.stderr
    assert started(tmp_path, "none/main.py").returncode == 1
    ended = started(tmp_path, CONSORT_PLUGIN_COOKIE="")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "`main.py` is a plugin of Consort" in ended.stderr


async def test_with_watch_it_ends_when_its_code_changes(tmp_path: Path) -> None:
    made = folder(
        tmp_path,
        "@plugin.operation()\nasync def nap() -> int:\n    import asyncio\n    await asyncio.sleep(1)\n    return 1",
    )
    manifest = made / "consort-plugin.toml"
    text = manifest.read_text(encoding="utf-8").replace('["python", ', '["consort-pyhost", "--watch", ')
    manifest.write_text(text, encoding="utf-8")
    async with PluginProcess(made) as plugin:
        (made / "notes.txt").write_text("no code", encoding="utf-8")
        await asyncio.sleep(0.6)
        nap = asyncio.create_task(plugin.invoke("nap"))
        await asyncio.sleep(0.1)
        (made / "more.py").write_text("", encoding="utf-8")
        assert (await nap).output == 1, "what is in work is finished"
        assert await asyncio.wait_for(plugin.process.wait(), 5) == 0
        assert "more.py` has changed" in await logged(plugin, "has changed")


async def test_all_threads_lost_is_not_serving(tmp_path: Path) -> None:
    code = """
import time
plugin = Plugin("made", version="0.1.0", threads=1)
@plugin.operation()
def hang(call: Call) -> None:
    call.progress(0.0)
    time.sleep(2)
"""
    async with PluginProcess(folder(tmp_path, code)) as plugin:
        call = plugin.call("hang")
        await call.read()
        call.cancel()
        assert await health_until(plugin, NOT_SERVING) == NOT_SERVING
        await eventually(plugin, SERVING, 4.0)
