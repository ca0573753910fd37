"""Shell sessions of the plugin `system`: real terminals."""

import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from machine.output import Output
from system_calls import Caller

SH = "/bin/sh"


@pytest.fixture
def caller(tmp_path: Path) -> Any:
    caller = Caller(tmp_path, ["shell"], [SH])
    yield caller
    for session in caller("shells"):
        caller("shell_close", shell=session["shell"])


def test_a_dialogue(caller: Caller) -> None:
    opened = caller.outcome("shell_open", program=SH, env={"PS1": "ready> "})
    assert opened.actions[0].startswith("opened session ")
    shell = opened.output["shell"]
    assert caller("shell_expect", shell=shell, patterns=["ready> $"])["found"]
    sent = caller.outcome("shell_send", shell=shell, text='printf "Name? "; read name; echo "<$name>"')
    assert sent.actions[0].startswith("typed 'printf")
    assert caller("shell_expect", shell=shell, patterns=["nobody", r"(N\w+)\? $"])["groups"] == ["Name"]
    position = caller("shell_send", shell=shell, text="Ada")["position"]
    answer = caller("shell_expect", shell=shell, patterns=["<(.*)>"])
    assert (answer["match"], answer["groups"], answer["before"]) == ("<Ada>", ["Ada"], "Ada\n")
    # A look changes nothing: the same again is the same.
    assert caller("shell_expect", shell=shell, patterns=["<(.*)>"], after=position) == answer
    rest = caller("shell_expect", shell=shell, patterns=["ready>"], after=answer["next"])
    assert rest["before"] == "\n"
    assert "Name? Ada\n<Ada>\nready> " in caller("shell_read", shell=shell)["text"]
    listed = caller("shells")
    assert [(each["shell"], each["running"], each["command"]) for each in listed] == [(shell, True, [SH])]


def test_it_is_a_terminal_with_signals_and_an_end(caller: Caller) -> None:
    shell = caller("shell_open", program=SH, arguments=["-c", "test -t 0 && stty size; sleep 300; echo after"])["shell"]
    assert caller("shell_expect", shell=shell, patterns=["24 200"])["found"]
    caller("shell_send", shell=shell, control="c")
    ended = caller("shell_expect", shell=shell, patterns=["after"], seconds=10)
    assert (ended["found"], ended["running"]) == (False, False)
    assert caller.code("shell_send", shell=shell, text="x") == ("FAILED_PRECONDITION", "SHELL_ENDED")
    assert caller("shell_close", shell=shell) is True
    assert caller("shell_close", shell=shell) is False
    assert caller.code("shell_read", shell=shell) == ("NOT_FOUND", "NO_SHELL")


def test_time_is_limited_and_patterns_cannot_hang(caller: Caller) -> None:
    shell = caller("shell_open", program=SH, arguments=["-c", f"echo {'a' * 40}!; exec sleep 300"])["shell"]
    assert caller("shell_expect", shell=shell, patterns=["a!"])["found"]
    begun = time.monotonic()
    late = caller("shell_expect", shell=shell, patterns=["never"], seconds=0.3, after=0)
    assert (late["found"], late["running"], "aaa" in late["before"]) == (False, True, True)
    assert 0.3 <= time.monotonic() - begun < 3
    slow = caller.refused("shell_expect", shell=shell, patterns=["(a|aa)+(a|aa)+[0-9]"], after=0)
    assert slow.code.name == "INVALID_ARGUMENT"
    assert caller.refused("shell_expect", shell=shell, patterns=["("]).violations["patterns[0]"].startswith("is no")
    assert caller("shell_expect", shell=shell, patterns=["a!"], exact=True, after=0)["found"]


def test_closing_ends_what_does_not_want_to_go(caller: Caller) -> None:
    opened = caller("shell_open", program=SH, arguments=["-c", "trap '' HUP TERM; echo up; while :; do sleep 1; done"])
    caller("shell_expect", shell=opened["shell"], patterns=["up"])
    children = psutil.Process(opened["pid"]).children()
    assert caller.outcome("shell_close", shell=opened["shell"], dry_run=True).would == [
        f"close session {opened['shell']}"
    ]
    assert caller.outcome("shell_close", shell=opened["shell"]).actions == [f"closed session {opened['shell']}"]
    assert not psutil.pid_exists(opened["pid"])
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


def test_there_is_a_most_of_sessions_and_dry_runs_open_none(caller: Caller) -> None:
    caller.config = {"shells": 1}
    assert caller.outcome("shell_open", program=SH, dry_run=True).would[0].startswith("open a terminal with /bin/sh")
    shell = caller("shell_open", program=SH)["shell"]
    assert caller.code("shell_open", program=SH) == ("RESOURCE_EXHAUSTED", "TOO_MANY_SHELLS")
    assert caller.outcome("shell_send", shell=shell, text="ls", dry_run=True).would == [
        f"type 'ls' and Enter into session {shell}"
    ]
    hidden = caller.outcome("shell_send", shell=shell, text="password", hidden=True)
    assert hidden.actions == [f"typed 8 characters and Enter into session {shell}"]
    assert caller.code("shell_open", program="/bin/ls")[0] == "PERMISSION_DENIED"


def test_a_flood_keeps_its_end(caller: Caller) -> None:
    caller.config = {"output_kib": 4}
    shell = caller("shell_open", program=SH, arguments=["-c", "yes | head -n 100000; echo the end"])["shell"]
    assert caller("shell_expect", shell=shell, patterns=["the end"])["found"]
    piece = caller("shell_read", shell=shell)
    assert (len(piece["text"]), piece["lost"] > 100_000) == (4096, True)


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([b"a\r\nb"], "a\nb"),
        ([b"a\r", b"\nb"], "a\nb"),
        ([b"50%\r", b"60%"], "50%\r60%"),
        ([b"\x1b[1;31mred\x1b[0m"], "red"),
        ([b"\x1b[1;3", b"1mred\x1b", b"[0m"], "red"),
        ([b"\x1b]0;ti", b"tle\x07x\x1b]8;;u\x1b", b"\\y"], "xy"),
        ([b"\x1b(B\x1b=ok\x07\x08"], "ok"),
        (["é".encode()[:1], "é€".encode()[1:]], "é€"),
        ([b"end\x1b["], "end\x1b["),
    ],
)
def test_sequences_are_left_out_wherever_they_are_cut(pieces: list[bytes], text: str) -> None:
    output = Output(1000, plain=True)
    for piece in pieces:
        output.add(piece)
    output.close()
    assert output.read().text == text
