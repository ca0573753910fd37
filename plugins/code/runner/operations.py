"""The operations of the plugin."""

import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Annotated, Literal, TypedDict

from consort.plugin import Call, Limits, Plugin, PluginError, grants
from runner import family, folder, held, process
from runner.folder import Found
from runner.settings import Settings

plugin = Plugin(
    "code",
    version="0.1.0",
    description="Runs code of agents, in Python, JavaScript and shell, in a fresh folder and with limits.",
    config=Settings,
)
Language = Literal["python", "javascript", "shell"]
Text = Annotated[str, Limits(maxLength=1024 * 1024)]
_NAMES: dict[Language, str] = {"python": "main.py", "javascript": "main.js", "shell": "main.sh"}
# One run at a time: code of one call must not meet that of another.
_turn = threading.Lock()
_TURN_S = 0.05


class Result(TypedDict):
    """How it went: what ended it (its own end, `time` or `disk`), and what it wrote and left.

    `exit_code` is negative if a signal ended it. `truncated` says that output or files are not all there.
    """

    reason: process.Reason
    exit_code: int
    seconds: float
    stdout: str
    stderr: str
    files: list[Found]
    truncated: bool


@plugin.operation(effect="write", dry_run=True, timeout=3660.0)
def run(
    call: Call,
    language: Language,
    code: Annotated[str, Limits(minLength=1, maxLength=1024 * 1024)],
    files: Annotated[dict[str, Text], "what lies beside it: texts by relative path"] | None = None,
    arguments: Annotated[list[Annotated[str, Limits(maxLength=4096)]], Limits(maxItems=100)] = [],  # noqa: B006
    stdin: Text = "",
    seconds: Annotated[float, Limits(exclusiveMinimum=0, maximum=3600)] = 30.0,
    collect: Annotated[list[Annotated[str, Limits(maxLength=200)]], Limits(maxItems=20)] = ["*"],  # noqa: B006
) -> Result | None:
    """Runs code in a folder of its own, which is gone afterwards, and yields what it wrote and the files it left.

    Args:
        stdin: What it reads.
        seconds: How long it may take; the operator's limit stands above it.
        collect: Patterns of the files that are yielded, where * stands for slashes, too; at most 100, of 256 KiB each,
            2 MiB in all.

    """
    interpreter = _interpreter(call, language)
    held.check(without_sandbox=call.config.without_sandbox)
    if len(files or {}) > folder.MOST_FILES:
        raise PluginError("INVALID_ARGUMENT", f"are more than {folder.MOST_FILES}", field="files")
    most = min(seconds, call.config.max_seconds)
    line = f"run {len(code)} characters of {language} with {interpreter}, for {most:g} s at most"
    if call.dry_run:
        call.would(line)
        return None
    given = {**(files or {}), _NAMES[language]: code}
    _wait_for_turn(call)
    for stale in call.data.glob("run-*"):  # Of a plugin that was killed: nobody else runs now.
        _remove(stale)
    place = Path(tempfile.mkdtemp(prefix="run-", dir=call.data))
    try:
        family.adopt()
        folder.fill(place, given)
        call.did(line)
        done = process.run(
            call, [interpreter, *_flags(call, language), _NAMES[language], *arguments], place, stdin, most
        )
        left, more = folder.collect(place, collect, given)
    finally:
        _remove(place)
        _turn.release()
    return {
        "reason": done.reason,
        "exit_code": done.exit_code,
        "seconds": done.seconds,
        "stdout": done.stdout,
        "stderr": done.stderr,
        "files": left,
        "truncated": done.truncated or more,
    }


def _interpreter(call: Call, language: Language) -> str:
    """The interpreter, if it is granted and there."""
    grants.need(call, language, field="language")
    found = str(getattr(call.config, language))
    if "*" not in call.permissions.exec and found not in call.permissions.exec:
        raise grants.denied(f"{found} may not be run", f'exec = ["{found}"]', field="language")
    if not (os.path.isabs(found) and os.access(found, os.X_OK)):
        problem = f"there is no {found}; install it, or set `{language}` in the configuration"
        raise PluginError("FAILED_PRECONDITION", problem, field="language", reason="NO_INTERPRETER")
    return found


def _flags(call: Call, language: Language) -> list[str]:
    if language == "python":
        return ["-B", "-u"]
    # Of its own accord it would take what the machine has, and be killed instead of failing.
    return [f"--max-old-space-size={call.config.memory_mib * 3 // 4}"] if language == "javascript" else []


def _wait_for_turn(call: Call) -> None:
    end = time.monotonic() + call.config.waiting_s
    while not _turn.acquire(blocking=False):
        if time.monotonic() >= end:
            problem = f"other code has run for {call.config.waiting_s:g} s; try again"
            raise PluginError("RESOURCE_EXHAUSTED", problem, reason="BUSY")
        call.sleep(_TURN_S)


def _remove(place: Path) -> None:
    """Removes the folder, also what code made unreadable."""
    for base, names, _ in os.walk(place):
        for name in names:
            inner = Path(base, name)
            if not inner.is_symlink():
                inner.chmod(0o700)
    shutil.rmtree(place, ignore_errors=True)
