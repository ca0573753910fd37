"""The plugin `tmux` with real tmux servers and programs."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consort._gen.plugin.v1.plugin_service_pb2 import Permissions
from consort.plugin import PluginError
from consort.plugin.testing import Outcome, PluginProcess, invoke
from sessions.operations import plugin
from sessions.server import Server

TMUX = shutil.which("tmux") or ""
SH = "/bin/sh"
pytestmark = pytest.mark.skipif(not TMUX, reason="tmux is not on PATH")
WORKER = str(Path(__file__).with_name("terminal_worker.py"))


class Caller:
    def __init__(self, data: Path) -> None:
        self.data = data
        self.config: dict[str, Any] = {"program": TMUX}
        self.granted = Permissions(capabilities=["sessions"], exec=[TMUX, SH, sys.executable])

    def outcome(self, operation: str, *, dry_run: bool = False, timeout: float = 30.0, **values: Any) -> Outcome:
        return invoke(
            plugin,
            operation,
            values,
            permissions=self.granted,
            config=self.config,
            data=self.data,
            dry_run=dry_run,
            timeout=timeout,
        )

    def __call__(self, operation: str, **values: Any) -> Any:
        return self.outcome(operation, **values).output

    def code(self, operation: str, **values: Any) -> tuple[str, str]:
        with pytest.raises(PluginError) as caught:
            self(operation, **values)
        return caught.value.code.name, caught.value.reason

    def shell(self, code: str, name: str = "s", **values: Any) -> Any:
        return self("create", name=name, program=SH, arguments=["-c", code], **values)


@pytest.fixture
def caller(tmp_path: Path) -> Iterator[Caller]:
    caller = Caller(tmp_path)
    yield caller
    caller.granted = Permissions(capabilities=["sessions"], exec=[TMUX])
    caller.config = {"program": TMUX}
    for session in caller("list"):
        caller("kill", session=session["session"])


def test_a_program_in_a_session_is_a_worker(caller: Caller) -> None:
    outcome = caller.outcome("create", name="worker", program=sys.executable, arguments=[WORKER])
    assert outcome.actions == [
        f"created session worker with {sys.executable} {WORKER} in {caller.data}: process {outcome.output['pid']}"
    ]
    assert caller("wait", session="worker", patterns=["worker ready\n>"])["reason"] == "pattern"
    answer = caller.outcome("ask", session="worker", text="what is new?", patterns=[r"answer: (.*)\n>"], silence=0)
    assert answer.output["groups"] == ["WHAT IS NEW?"]
    assert answer.output["text"].splitlines() == [
        "> what is new?",
        "thinking 0",
        "thinking 1",
        "thinking 2",
        "answer: WHAT IS NEW?",
        ">",
    ]
    assert answer.actions == ["typed 'what is new?' and Enter into session worker"]
    still = caller("ask", session="worker", text="again", silence=0.6)
    assert (still["reason"], "answer: AGAIN" in still["text"]) == ("silence", True)
    assert "WHAT IS NEW" not in still["text"]
    caller("send", session="worker", text="quit")
    ended = caller("wait", session="worker", silence=30, seconds=10)
    assert (ended["reason"], ended["state"]["running"], ended["state"]["exit_code"]) == ("ended", False, 7)
    assert "answer: AGAIN" in caller("capture", session="worker")["text"]
    assert caller("kill", session="worker") is True
    assert caller.outcome("kill", session="worker").actions == []
    assert caller("list") == []


def test_text_arrives_as_it_is(caller: Caller) -> None:
    caller.shell("stty -echo -icanon; echo up; exec cat")
    caller("wait", session="s", patterns=["up"])
    for text in ("a;", ";", "-l $(x) `y` #{z} 'q' \"w\" ~ é€", "Enter", "two\nlines;", "x" * 3000):
        before = caller("send", session="s", text=text)["line"]
        seen = caller("wait", session="s", patterns=[r"(?s).+\n(?=$)|x{3000}"], silence=0.4, after=before)
        assert seen["text"].rstrip("\n") == text, text


def test_keys_reach_the_program(caller: Caller) -> None:
    pid = caller.shell("trap 'echo got it' INT; echo up; while :; do sleep 0.05; done")["pid"]
    caller("wait", session="s", patterns=["up"])
    assert caller.outcome("send", session="s", keys=["C-c"]).actions == ["typed C-c into session s"]
    assert caller("wait", session="s", patterns=["got it"], seconds=10)["reason"] == "pattern"
    assert caller.code("send", session="s", keys=["C-c"], text="x")[0] == "INVALID_ARGUMENT"
    caller("kill", session="s")
    assert not _lives(pid)


def test_lines_that_have_left_the_screen_are_read(caller: Caller) -> None:
    caller.shell("i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done; echo done; exec sleep 60", rows=10)
    assert caller("wait", session="s", patterns=["^done"])["reason"] == "pattern"
    screen = caller("capture", session="s")
    assert screen["text"].splitlines()[0].startswith("line 19")
    assert screen["state"]["line"] == 201
    everything = caller("capture", session="s", after=0)["text"].splitlines()
    assert (everything[0], everything[150], len(everything)) == ("line 0", "line 150", 201)
    assert caller("capture", session="s", after=198)["text"].splitlines() == ["line 198", "line 199", "done"]


def test_waits_end(caller: Caller) -> None:
    caller.shell("while :; do date +%N; sleep 0.1; done")
    begun = time.monotonic()
    late = caller("wait", session="s", patterns=["never"], silence=5, seconds=0.5)
    assert late["reason"] == "time"
    assert time.monotonic() - begun < 5
    with pytest.raises(PluginError, match="DEADLINE_EXCEEDED"):
        caller("wait", session="s", seconds=60, timeout=0.5)
    assert caller.code("wait", session="s", patterns=["("])[0] == "INVALID_ARGUMENT"


def test_what_is_not_granted_is_refused(caller: Caller, tmp_path: Path) -> None:
    denied = ("PERMISSION_DENIED", "NOT_GRANTED")
    assert caller.code("create", name="a", program="/bin/ls") == denied
    assert caller.code("create", name="a", program=SH, cwd="/etc") == denied
    assert caller.code("create", name="a", program=SH, env={"LD_PRELOAD": "x"})[0] == "INVALID_ARGUMENT"
    assert caller.code("create", name="a.b", program=SH)[0] == "INVALID_ARGUMENT"
    caller.config = {"program": TMUX, "server": "default"}
    assert caller.code("list") == denied
    caller.config = {"program": TMUX}
    caller.granted = Permissions(exec=["*"])
    for operation, values in {
        "list": {},
        "create": {"name": "a", "program": SH},
        "send": {"session": "a"},
        "capture": {"session": "a"},
        "wait": {"session": "a"},
        "ask": {"session": "a", "text": "x"},
        "kill": {"session": "a"},
    }.items():
        assert caller.code(operation, **values) == denied, operation
    caller.granted = Permissions(capabilities=["sessions"], exec=[SH])
    assert caller.code("list") == denied


def test_a_program_sees_neither_the_mesh_nor_tmux(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSORT_PLUGIN_TOKEN", "secret")
    monkeypatch.setenv("GRANTED", "yes")
    caller.granted.env.append("GRANTED")
    odd = caller.data / "#(touch mark) folder"
    odd.mkdir()
    caller.shell("env; pwd; echo end", env={"A": "b;"}, cwd=str(odd))
    text = caller("wait", session="s", patterns=["^end"], after=0)["text"]
    assert "A=b;" in text
    assert "GRANTED=yes" in text
    assert str(odd) in text
    assert "CONSORT" not in text
    assert "TMUX" not in text
    assert not (odd / "mark").exists()


def test_dry_runs_limits_and_hidden_text(caller: Caller) -> None:
    caller.config["sessions"] = 1
    dry = caller.outcome("create", name="s", program=SH, dry_run=True)
    assert dry.would == [f"create session s with {SH} in {caller.data}"]
    assert caller("list") == []
    caller.shell("exec cat")
    assert caller.code("create", name="t", program=SH) == ("RESOURCE_EXHAUSTED", "TOO_MANY_SESSIONS")
    caller.config["sessions"] = 2
    assert caller.code("create", name="s", program=SH)[0] == "ALREADY_EXISTS"
    hidden = caller.outcome("send", session="s", text="password", hidden=True)
    assert hidden.actions == ["typed 8 characters and Enter into session s"]
    assert caller.outcome("send", session="s", text="x", dry_run=True).would == ["type 'x' and Enter into session s"]
    assert caller.outcome("ask", session="s", text="x", dry_run=True).would[0].endswith("and wait")
    assert caller.outcome("kill", session="s", dry_run=True).would == ["kill session s"]
    assert [each["session"] for each in caller("list")] == ["s"]
    for operation in ("capture", "wait", "send"):
        assert caller.code(operation, session="nobody") == ("NOT_FOUND", "NO_SESSION")


def test_another_server_is_used_when_that_is_granted(caller: Caller, tmp_path: Path) -> None:
    socket = str(tmp_path / "user.sock")
    command = [TMUX, "-S", socket]
    with contextlib.ExitStack() as stack:
        subprocess.run([*command, "-f", "/dev/null", "new-session", "-d", "-s", "mine", "cat"], check=True)  # noqa: S603
        stack.callback(subprocess.run, [*command, "kill-server"], check=False)
        caller.config = {"program": TMUX, "server": socket}
        caller.granted.capabilities.append("user-server")
        assert [each["session"] for each in caller("list")] == ["mine"]
        caller("send", session="mine", text="hello")
        assert caller("wait", session="mine", patterns=["hello\nhello"])["reason"] == "pattern"
    caller.config = {"program": TMUX}
    assert caller("list") == []


def test_its_server_ends_with_it(tmp_path: Path) -> None:
    manifest = (Path(__file__).parent.parent / "consort-plugin.toml").read_text()
    main = str(Path(__file__).parent.parent / "main.py")
    manifest = manifest.replace('"main.py"', f'"{main}"').replace('"/usr/bin/tmux"', f'"{TMUX}", "/bin/sh"')
    (tmp_path / "consort-plugin.toml").write_text(manifest)

    async def lives() -> int:
        async with PluginProcess(tmp_path, config={"program": TMUX}) as process:
            created = await process.invoke("create", {"name": "a", "program": SH, "arguments": ["-c", "exec cat"]})
            asked = await process.invoke("ask", {"session": "a", "text": "hello", "silence": 0.3})
            assert asked.output["text"] == "hello\nhello"
            return int(created.output["pid"])

    pid = asyncio.run(lives())
    end = time.monotonic() + 10
    while _lives(pid):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_sessions_are_found_again_if_they_are_kept(caller: Caller) -> None:
    before = """
import sys
from test_tmux import Caller, Path, SH
caller = Caller(Path(sys.argv[1]))
caller.config["keep"] = True
caller("create", name="kept", program=SH, arguments=["-c", "exec cat"])
"""
    folders = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*folders, *sys.path])}
    command = [sys.executable, "-c", before, str(caller.data)]
    subprocess.run(command, check=True, env=environment)  # noqa: S603
    assert caller("ask", session="kept", text="hello", silence=0.3)["text"] == "hello\nhello"


def test_a_tmux_that_is_none_is_told() -> None:
    with pytest.raises(PluginError, match="FAILED_PRECONDITION: tmux: it says nothing"):
        Server(("/bin/false",), {}, own=True).ask("list-sessions")


def _lives(pid: int) -> bool:
    """Whether the process runs: what has ended and was not asked for yet by its parent does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
