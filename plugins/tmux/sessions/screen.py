"""What stands on a session's screen and above it, and how one waits for it."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypedDict

from consort.plugin import Call, patterns
from sessions.server import Server, target

_FIELDS = (
    "pid",
    "pane_dead",
    "pane_dead_status",
    "pane_dead_signal",
    "pane_pid",
    "history_size",
    "cursor_x",
    "cursor_y",
    "pane_width",
    "pane_height",
    "history_limit",
    "pane_current_command",
)
_TEMPLATE = "\t".join(f"#{{{field}}}" for field in _FIELDS)
_LOOK_S = 0.1
# Times that a look is repeated because the screen moved under it, or the program is about to end; and the pause then.
_TRIES = 6
_ECHO_S = 0.05
MOST_TEXT = 256 * 1024


class State(TypedDict):
    """A session's screen. `line` counts the cursor's line from the first that was written.

    `exit_code` is null while the program runs, and where tmux does not tell it; it is negative if a signal ended it.
    """

    running: bool
    exit_code: int | None
    command: str
    line: int
    columns: int
    rows: int


@dataclass(frozen=True)
class Look:
    """A look at a session: its text from a line on, and how it was."""

    text: str
    pid: int
    history: int
    cursor: tuple[int, int]
    state: State
    truncated: bool


class Waited(NamedTuple):
    """What ended a wait, the last look, and what was found."""

    reason: Literal["pattern", "silence", "ended", "time"]
    look: Look
    match: patterns.Match | None


def look(server: Server, session: str, after: int | None = None, *, colours: bool = False) -> Look:
    """The text from line `after` on, or what is on the screen. Lines that were wrapped are whole."""
    begin = 0
    for attempt in range(_TRIES):
        answer = server.ask(
            "display-message",
            "-p",
            "-t",
            target(session),
            _TEMPLATE,
            ";",
            "capture-pane",
            "-p",
            "-J",
            *(["-e"] if colours else []),
            "-t",
            target(session),
            "-S",
            str(begin),
            session=session,
        )
        first, _, text = answer.partition("\n")
        told = dict(zip(_FIELDS, first.split("\t", len(_FIELDS) - 1), strict=True))
        if told["pane_dead"] == "1" and _exit_code(told) is None and attempt < _TRIES - 1:
            time.sleep(_ECHO_S)  # Its terminal is closed, and its end is not known yet.
            if attempt and server.own:
                # Some tmux 3.3 are not told, or do not listen: they ask for the status once they are signalled.
                os.kill(int(told["pid"]), signal.SIGCHLD)
            continue
        history, height = int(told["history_size"]), int(told["pane_height"])
        wanted = 0 if after is None else min(after, history + height) - history
        if wanted == begin:
            break
        begin = wanted
    text = "\n".join(line.rstrip() for line in text.splitlines()).rstrip("\n")
    cursor = (int(told["cursor_x"]), int(told["cursor_y"]))
    state: State = {
        "running": told["pane_dead"] != "1",
        "exit_code": _exit_code(told),
        "command": told["pane_current_command"],
        "line": history + cursor[1],
        "columns": int(told["pane_width"]),
        "rows": height,
    }
    # tmux forgets a tenth of the lines at once when there are too many, and so their numbers.
    forgot = after is not None and history >= int(told["history_limit"]) * 9 // 10
    cut = len(text) > MOST_TEXT
    return Look(text[-MOST_TEXT:], int(told["pane_pid"]), history, cursor, state, forgot or cut)


def wait(
    call: Call,
    server: Server,
    session: str,
    wanted: Sequence[Any],
    *,
    silence: float,
    seconds: float,
    after: int | None,
) -> Waited:
    """Waits for one of some patterns, for the screen to be still, for the program's end, or until time is up."""
    end = time.monotonic() + seconds
    seen: Any = None
    since = time.monotonic()
    while True:
        is_late = time.monotonic() >= end
        now = look(server, session, after)
        match = patterns.first(list(wanted), now.text)
        if match is not None:
            return Waited("pattern", now, match)
        if not now.state["running"]:
            return Waited("ended", now, None)
        if seen != (now.text, now.history, now.cursor):
            seen, since = (now.text, now.history, now.cursor), time.monotonic()
        elif silence and time.monotonic() - since >= silence:
            return Waited("silence", now, None)
        if is_late:
            return Waited("time", now, None)
        call.sleep(_LOOK_S)


def _exit_code(told: dict[str, str]) -> int | None:
    if told["pane_dead"] != "1":
        return None
    if told["pane_dead_signal"].isdigit() and told["pane_dead_signal"] != "0":
        return -int(told["pane_dead_signal"])
    status = told["pane_dead_status"]
    return int(status) if status.isdigit() else None
