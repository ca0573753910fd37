"""Programs and processes of the plugin `system`: real ones."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from consort.plugin import PluginError
from system_calls import Caller, started

SH = "/bin/sh"


@pytest.fixture
def caller(tmp_path: Path) -> Caller:
    return Caller(tmp_path, ["start", "processes"], [SH], env=["CONSORT_TEST_SEEN"])


def test_nothing_is_done_without_a_grant(tmp_path: Path) -> None:
    denied = ("PERMISSION_DENIED", "NOT_GRANTED")
    nobody = Caller(tmp_path)
    calls: dict[str, dict[str, Any]] = {
        "processes": {},
        "process": {"pid": 1},
        "wait_process": {"pid": 1},
        "stop_process": {"pid": 1, "started": 0},
        "start": {"program": SH},
        "run": {"program": SH},
        "output": {"job": "a"},
        "wait": {"job": "a"},
        "stop": {"job": "a"},
        "shell_open": {"program": SH},
        "shells": {},
        "shell_send": {"shell": "a"},
        "shell_read": {"shell": "a"},
        "shell_expect": {"shell": "a", "patterns": ["a"]},
        "shell_close": {"shell": "a"},
        "stat": {"path": "/"},
        "list": {"path": "/"},
        "watch": {"path": "/"},
        "machine": {},
        "environment": {},
    }
    for operation, values in calls.items():
        assert nobody.code(operation, **values) == denied, operation
    with pytest.raises(PluginError, match='capabilities = \\["start"\\]'):
        nobody.outcome("run", program=SH, dry_run=True)
    only = Caller(tmp_path, ["start"], [SH])
    assert only.code("run", program="/bin/ls") == denied
    assert only.code("run", program="ls") == denied
    assert only.code("run", program=SH, cwd="/etc") == denied
    assert 'exec = ["/bin/ls"]' in only.refused("run", program="/bin/ls").message


def test_a_link_is_no_way_to_another_program(tmp_path: Path) -> None:
    link = tmp_path / "granted" / "tool"
    link.parent.mkdir()
    link.symlink_to("/bin/ls")
    assert Caller(tmp_path, ["start"], [str(link.parent)]).code("run", program=str(link))[0] == "PERMISSION_DENIED"


def test_a_program_is_run_with_arguments_folder_variables_and_input(caller: Caller, tmp_path: Path) -> None:
    outcome = caller.outcome(
        "run",
        program="sh",
        arguments=["-c", 'cat; echo "$1 $A $(pwd)"; echo wrong >&2; exit 3', "sh", "a  b*"],
        cwd=str(tmp_path),
        env={"A": "x"},
        stdin="in\n",
    )
    result = outcome.output
    assert result["stdout"]["text"] == f"in\na  b* x {tmp_path}\n"
    assert (result["stderr"]["text"], result["exit_code"], result["running"]) == ("wrong\n", 3, False)
    assert len(outcome.actions) == 1
    assert outcome.actions[0].startswith("started ")


def test_a_program_sees_little_of_the_environment(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSORT_PLUGIN_TOKEN", "secret")
    monkeypatch.setenv("CONSORT_TEST_SEEN", "yes")
    text = caller("run", program=SH, arguments=["-c", "env"])["stdout"]["text"]
    names = {line.partition("=")[0] for line in text.splitlines()}
    assert names == {"PATH", "LANG", "TERM", "PWD", "CONSORT_TEST_SEEN"}
    assert caller.code("run", program=SH, env={"LD_PRELOAD": "x.so"})[0] == "INVALID_ARGUMENT"


def test_a_dry_run_says_what_it_would_start(caller: Caller, tmp_path: Path) -> None:
    outcome = caller.outcome("run", program=SH, arguments=["-c", "touch mark"], dry_run=True)
    assert outcome.would == [f"start {SH} -c 'touch mark' in {tmp_path}"]
    assert (outcome.output, outcome.actions, list(tmp_path.iterdir())) == (None, [], [])


def test_what_takes_too_long_is_stopped_with_its_children(caller: Caller) -> None:
    result = caller("run", program=SH, arguments=["-c", "sleep 300 & echo $!; wait"], seconds=0.3)
    assert (result["running"], result["exit_code"]) == (False, -15)
    assert not _runs(int(result["stdout"]["text"]))


def test_a_cancelled_run_leaves_nothing_behind(caller: Caller) -> None:
    with pytest.raises(PluginError, match="DEADLINE_EXCEEDED"):
        caller("run", program=SH, arguments=["-c", "exec sleep 297"], timeout=0.5)
    _until(lambda: not any("sleep 297" in _command(each) for each in psutil.Process().children()))


def test_output_can_be_read_while_it_runs_and_its_end_is_kept(caller: Caller) -> None:
    with started(caller, SH, "-c", "echo one; read x; echo two") as job:
        assert caller("wait", job=job["job"], seconds=5)["exit_code"] == 0  # Its input is empty.
        first = caller("output", job=job["job"])
        assert first["stdout"] == {"text": "one\ntwo\n", "next": 8, "lost": 0}
        assert caller("output", job=job["job"], stdout_after=4)["stdout"]["text"] == "two\n"
    caller.config = {"output_kib": 1}
    flood = caller("run", program=SH, arguments=["-c", "yes | head -c 1000000; echo end"])["stdout"]
    assert (len(flood["text"]), flood["text"][-6:], flood["lost"]) == (1024, "y\nend\n", 1_000_004 - 1024)


def test_there_is_a_most_of_programs_at_once(caller: Caller) -> None:
    caller.config = {"jobs": 1}
    with started(caller, SH, "-c", "exec sleep 60"):
        assert caller.code("start", program=SH) == ("RESOURCE_EXHAUSTED", "TOO_MANY_JOBS")
    assert caller("run", program=SH, arguments=["-c", "exit 0"])["exit_code"] == 0


def test_stopping_is_graceful_then_forced_then_nothing(caller: Caller) -> None:
    with started(caller, SH, "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done") as job:
        _until(lambda: caller("output", job=job["job"])["stdout"]["text"] == "ready\n")
        assert caller.outcome("stop", job=job["job"], dry_run=True).would[0].startswith("end program")
        outcome = caller.outcome("stop", job=job["job"], grace=0.2)
        assert outcome.output == {"stopped": True, "forced": True}
        assert outcome.actions == [f"ended program {job['job']}: {SH}, process {job['pid']}"]
        assert caller.outcome("stop", job=job["job"]).actions == []


def test_processes_are_those_started_here_unless_the_machine_is_granted(caller: Caller) -> None:
    with (
        subprocess.Popen(["/bin/sleep", "299"], start_new_session=True) as other,
        started(caller, SH, "-c", "exec sleep 298") as job,
    ):
        try:
            _until(lambda: psutil.Process(job["pid"]).name() == "sleep")
            found = caller("processes", name="SLEEP", command=" 298")["processes"]
            assert [(each["pid"], each["name"], each["command"]) for each in found] == [
                (job["pid"], "sleep", "sleep 298")
            ]
            assert abs(found[0]["started"] - time.time()) < 60
            assert caller("processes", name="sleep", command="no such")["processes"] == []
            listed = [each["pid"] for each in caller("processes")["processes"]]
            assert os.getppid() not in listed
            assert caller.code("process", pid=os.getppid()) == ("NOT_FOUND", "NO_PROCESS")
            caller.capabilities = ["start", "processes", "machine-processes"]
            one = caller("processes", order="memory", limit=1)
            assert (len(one["processes"]), one["truncated"]) == (1, True)
            everything = [each["pid"] for each in caller("processes", limit=1000)["processes"]]
            assert {os.getppid(), other.pid, job["pid"]} <= set(everything)
        finally:
            other.kill()


def test_a_process_tells_what_it_uses(caller: Caller) -> None:
    caller.exec = [sys.executable]
    code = "import sys; x = bytearray(64 << 20); print('ready', flush=True)\nwhile True: pass"
    with started(caller, sys.executable, "-c", code) as job:
        _until(lambda: "ready" in caller("output", job=job["job"])["stdout"]["text"])
        found = caller("process", pid=job["pid"])
        assert found["rss_bytes"] > 64 << 20
        _until(lambda: caller("process", pid=job["pid"])["cpu_percent"] > 0)
        assert (found["threads"], found["children"], found["cwd"]) == (1, [], str(caller.data))
        assert caller("wait_process", pid=job["pid"], seconds=0.1) == {"ended": False}
        threading.Timer(0.2, os.kill, (job["pid"], 9)).start()
        assert caller("wait_process", pid=job["pid"], seconds=5) == {"ended": True}


def test_others_are_ended_only_if_they_are_meant_and_granted(caller: Caller) -> None:
    with subprocess.Popen(["/bin/sleep", "299"]) as other:
        try:
            begun = psutil.Process(other.pid).create_time()
            assert caller.code("stop_process", pid=other.pid, started=begun) == ("PERMISSION_DENIED", "NOT_GRANTED")
            caller.capabilities = ["signal", "machine-processes"]
            assert caller.code("stop_process", pid=other.pid, started=begun - 60)[1] == "OTHER_PROCESS"
            for pid in (1, os.getpid(), os.getppid()):
                assert caller.code("stop_process", pid=pid, started=0) == ("PERMISSION_DENIED", "PROTECTED")
            dry = caller.outcome("stop_process", pid=other.pid, started=begun, dry_run=True)
            assert dry.would == [f"end process {other.pid} (sleep)"]
            assert other.poll() is None
            outcome = caller.outcome("stop_process", pid=other.pid, started=begun)
            assert outcome.output == {"stopped": True, "forced": False}
            assert outcome.actions == [f"end process {other.pid} (sleep)"]
            assert other.wait(5) in (-15, 0)  # psutil may have been the first to ask.
        finally:
            other.kill()


def _command(process: psutil.Process) -> str:
    """Empty of one that has ended."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _until(is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not become so"
        time.sleep(0.02)
