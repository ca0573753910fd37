"""The plugin `code` with real interpreters."""

import base64
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from consort._gen.plugin.v1.plugin_service_pb2 import Permissions
from consort.plugin import PluginError
from consort.plugin.testing import Outcome, invoke
from runner import family, held
from runner.operations import plugin

NODE = shutil.which("node") or ""
SLEEP = shutil.which("sleep") or ""


class Caller:
    def __init__(self, data: Path) -> None:
        self.data = data
        self.config: dict[str, Any] = {"python": sys.executable, "javascript": NODE, "without_sandbox": True}
        self.granted = Permissions(
            capabilities=["python", "javascript", "shell"], exec=[sys.executable, NODE, "/bin/sh"]
        )

    def outcome(
        self, language: str, code: str, *, dry_run: bool = False, timeout: float = 30.0, **values: Any
    ) -> Outcome:
        return invoke(
            plugin,
            "run",
            {"language": language, "code": code, **values},
            permissions=self.granted,
            config=self.config,
            data=self.data,
            dry_run=dry_run,
            timeout=timeout,
        )

    def __call__(self, language: str, code: str, **values: Any) -> Any:
        return self.outcome(language, code, **values).output

    def code(self, language: str, code: str, **values: Any) -> tuple[str, str]:
        with pytest.raises(PluginError) as caught:
            self(language, code, **values)
        return caught.value.code.name, caught.value.reason


@pytest.fixture
def caller(tmp_path: Path) -> Caller:
    return Caller(tmp_path)


def test_python_runs_with_files_input_and_results(caller: Caller) -> None:
    code = """
import sys, helper, pathlib
print(helper.twice(int(sys.stdin.read())), sys.argv[1:])
pathlib.Path("out/deep").mkdir(parents=True)
pathlib.Path("out/deep/a.txt").write_text("é")
pathlib.Path("b.bin").write_bytes(bytes([255, 0]))
pathlib.Path("link").symlink_to("/etc/passwd")
print("trouble", file=sys.stderr)
sys.exit(3)
"""
    outcome = caller.outcome(
        "python", code, files={"helper.py": "def twice(x): return 2 * x"}, stdin="21", arguments=["a b", "*"]
    )
    result = outcome.output
    assert (result["reason"], result["exit_code"], result["truncated"]) == ("ended", 3, False)
    assert (result["stdout"], result["stderr"]) == ("42 ['a b', '*']\n", "trouble\n")
    assert result["files"] == [
        {"path": "b.bin", "size_bytes": 2, "text": None, "base64": base64.b64encode(b"\xff\0").decode()},
        {"path": "out/deep/a.txt", "size_bytes": 2, "text": "é", "base64": None},
    ]
    assert len(outcome.actions) == 1
    assert outcome.actions[0].startswith(f"run {len(code)} characters of python")
    assert list(caller.data.iterdir()) == []


@pytest.mark.skipif(not NODE, reason="node is not on PATH")
def test_javascript_runs(caller: Caller) -> None:
    code = "require('fs').writeFileSync('r.json', JSON.stringify({a: [1, 2].map(x => x * 2)})); console.log('ok')"
    result = caller("javascript", code, collect=["*.json"])
    assert (result["stdout"], result["exit_code"]) == ("ok\n", 0)
    assert [(each["path"], each["text"]) for each in result["files"]] == [("r.json", '{"a":[2,4]}')]


def test_shell_runs_in_a_fresh_folder_with_little_around_it(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSORT_PLUGIN_TOKEN", "secret")
    (caller.data / "run-stale" / "closed").mkdir(parents=True)
    (caller.data / "run-stale" / "closed").chmod(0)
    text = caller("shell", 'export -p; echo "$PWD"; ls')["stdout"]
    assert "secret" not in text
    assert str(caller.data / "run-") in text
    assert text.endswith("\nmain.sh\n")
    assert caller("shell", "ls")["stdout"] == "main.sh\n"
    assert os.listdir(caller.data) == []


def test_code_has_limits(caller: Caller) -> None:
    caller.config |= {"memory_mib": 128, "disk_mib": 4, "output_kib": 1, "max_seconds": 5}
    late = caller("shell", "echo begun; sleep 60", seconds=0.5)
    assert (late["reason"], late["stdout"], late["exit_code"]) == ("time", "begun\n", -9)
    assert 0.5 <= late["seconds"] < 4
    large = caller("python", "x = bytearray(512 << 20)")
    assert (large["exit_code"], "MemoryError" in large["stderr"]) == (1, True)
    flood = caller("python", "print('x' * 1_000_000); print('end')")
    assert (len(flood["stdout"]), flood["stdout"][-4:], flood["truncated"]) == (1024, "end\n", True)
    file = caller("python", "open('a', 'wb').write(bytes(8 << 20))")
    assert file["exit_code"] != 0
    code = "import time\nfor i in range(100):\n open(str(i), 'wb').write(b'x' * (1 << 20)); time.sleep(0.02)"
    assert caller("python", code)["reason"] == "disk"
    many = caller("shell", "i=0; while [ $i -lt 150 ]; do echo x > f$i; i=$((i+1)); done")
    assert (len(many["files"]), many["truncated"]) == (100, True)
    big = caller("shell", "head -c 300000 /dev/zero > big")
    assert big["files"] == [{"path": "big", "size_bytes": 300_000, "text": None, "base64": None}]


def test_nothing_outlives_a_run(caller: Caller) -> None:
    code = """
import os, subprocess, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        os.execv(SLEEP, ["sleep", "296"])
    os._exit(0)
os.wait()
""".replace("SLEEP", repr(SLEEP))
    before = family.descendants()
    result = caller("python", code)
    assert result["exit_code"] == 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(result["stdout"]), 0)
    with pytest.raises(PluginError, match="DEADLINE_EXCEEDED"):
        caller("shell", "sleep 295 & sleep 295", timeout=0.5)
    end = time.monotonic() + 10
    while family.descendants() - before or os.listdir(caller.data):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_runs_come_one_after_the_other(caller: Caller) -> None:
    caller.config["waiting_s"] = 0.2
    running = threading.Thread(target=caller, args=("shell", "sleep 1.5"))
    running.start()
    while not any(caller.data.iterdir()):
        time.sleep(0.01)
    assert caller.code("shell", "true") == ("RESOURCE_EXHAUSTED", "BUSY")
    caller.config["waiting_s"] = 20
    assert caller("shell", "echo mine")["stdout"] == "mine\n"
    running.join()


def test_what_is_not_granted_or_not_held_is_refused(caller: Caller) -> None:
    assert not held.is_held()
    caller.config["without_sandbox"] = False
    assert caller.code("shell", "touch mark") == ("FAILED_PRECONDITION", "NO_SANDBOX")
    caller.config["without_sandbox"] = True
    assert caller.outcome("shell", "touch mark", dry_run=True).would == [
        "run 10 characters of shell with /bin/sh, for 30 s at most"
    ]
    for path in ("../out", "/out", "a/../../out", "", "main.sh/x"):
        assert caller.code("shell", "true", files={path: "x"})[0] == "INVALID_ARGUMENT", path
    assert list(caller.data.iterdir()) == []
    caller.config["shell"] = "/bin/bash-not"
    assert caller.code("shell", "true") == ("PERMISSION_DENIED", "NOT_GRANTED")
    caller.granted = Permissions(capabilities=["shell"], exec=["*"])
    assert caller.code("shell", "true") == ("FAILED_PRECONDITION", "NO_INTERPRETER")
    assert caller.code("python", "1") == ("PERMISSION_DENIED", "NOT_GRANTED")
