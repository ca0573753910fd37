"""Operations on shell sessions: open, type, expect, read, close."""

import shlex
import time
from typing import Annotated, TypedDict

from consort.plugin import Call, Limits, PluginError, grants, patterns
from machine.operations._plugin import WAIT_S, Arguments, Program, Seconds, Variables, plugin
from machine.shells import Shell
from machine.shells import shells as open_shells

_LOOK_S = 0.02
# A pattern is looked for in so many characters.
_MOST_TEXT = 256 * 1024


class Opened(TypedDict):
    """The session's name for later calls, and its process id."""

    shell: str
    pid: int


class Session(TypedDict):
    """A session. `position` is where its output ends."""

    shell: str
    pid: int
    command: list[str]
    running: bool
    exit_code: int | None
    position: int


class Sent(TypedDict):
    """Where the output ended before: what is expected begins there."""

    position: int


class Text(TypedDict):
    """Output. `next` is where a later call goes on, `lost` how many characters before are not kept any more."""

    text: str
    next: int
    lost: int
    running: bool


class Expected(TypedDict):
    """What was found: the pattern's number, the text before it, itself, its groups; `next` is after it.

    If `found` is false, `before` is what there was instead.
    """

    found: bool
    pattern: int | None
    before: str
    match: str
    groups: list[str]
    next: int
    running: bool


@plugin.operation(effect="write", dry_run=True)
def shell_open(
    call: Call,
    program: Program,
    arguments: Arguments = [],  # noqa: B006 - never changed.
    cwd: str = "",
    env: Variables | None = None,
    rows: Annotated[int, Limits(minimum=1, maximum=1000)] = 24,
    columns: Annotated[int, Limits(minimum=1, maximum=1000)] = 200,
    raw: bool = False,
) -> Opened | None:
    """Starts a program in a terminal, where it is typed to and its output read.

    Args:
        program: Absolute path, or a name that is on PATH; it must be granted.
        cwd: Folder, which must be granted; left out, the plugin's own.
        env: Variables besides PATH, LANG, TERM and those that are granted.
        raw: Keep escape sequences, and let it know that the terminal takes them.

    """
    grants.need(call, "shell")
    path = grants.program(call, program)
    folder = grants.folder(call, cwd)
    environment = grants.environment(call, env or {}, "xterm-256color" if raw else "dumb")
    line = f"{shlex.join([path, *arguments])} in {folder}"
    if call.dry_run:
        call.would(f"open a terminal with {line}")
        return None
    shell = open_shells.open(call, [path, *arguments], folder, environment, (rows, columns), raw=raw)
    call.did(f"opened session {shell.id} with {line}: process {shell.pid}")
    return {"shell": shell.id, "pid": shell.pid}


@plugin.operation(effect="read")
def shells(call: Call) -> list[Session]:
    """Lists the sessions that are open."""
    grants.need(call, "shell")
    return [
        {
            "shell": shell.id,
            "pid": shell.pid,
            "command": shell.argv,
            "running": shell.exit_code is None,
            "exit_code": shell.exit_code,
            "position": shell.output.end,
        }
        for shell in open_shells.all()
    ]


@plugin.operation(effect="write", dry_run=True)
def shell_send(
    call: Call,
    shell: str,
    text: Annotated[str, Limits(maxLength=64 * 1024)] = "",
    enter: bool = True,
    control: Annotated[str, Limits(pattern="^[a-z\\[\\\\\\]]?$")] = "",
    hidden: bool = False,
) -> Sent | None:
    """Types into a session.

    Args:
        enter: Press Enter after the text.
        control: A key that is pressed with Ctrl instead, for example c or d.
        hidden: Leave the text out of the audit log.

    """
    grants.need(call, "shell")
    if control and text:
        raise PluginError("INVALID_ARGUMENT", "is sent without a text; make two calls", field="control")
    found = open_shells.get(shell)
    told = f"{len(text)} characters" if hidden else repr(text)
    line = f"Ctrl-{control.upper()}" if control else told + (" and Enter" if enter else "")
    if call.dry_run:
        call.would(f"type {line} into session {shell}")
        return None
    data = bytes([ord(control.upper()) & 0x1F]) if control else (text + "\r" * enter).encode()
    position = found.send(call, data)
    call.did(f"typed {line} into session {shell}")
    return {"position": position}


@plugin.operation(effect="read")
def shell_read(
    call: Call,
    shell: str,
    after: Annotated[int, Limits(minimum=0)] = 0,
    limit: Annotated[int, Limits(minimum=1, maximum=256 * 1024)] = 64 * 1024,
) -> Text:
    """Reads what a session has written.

    Args:
        after: A position, to begin there.
        limit: At most so many characters.

    """
    grants.need(call, "shell")
    found = open_shells.get(shell)
    running = found.exit_code is None
    piece = found.output.read(after, limit)
    return {"text": piece.text, "next": piece.next, "lost": piece.lost, "running": running}


@plugin.operation(effect="read", timeout=WAIT_S)
def shell_expect(
    call: Call,
    shell: str,
    patterns: Annotated[list[Annotated[str, Limits(minLength=1, maxLength=1000)]], Limits(minItems=1, maxItems=20)],
    seconds: Seconds = 30.0,
    after: Annotated[int, Limits(minimum=0)] | None = None,
    exact: bool = False,
) -> Expected:
    """Waits until one of some patterns stands in a session's output, its program ends, or time is up.

    Args:
        patterns: Regular expressions.
        after: A position, to begin there; left out, where the output was before the last text was sent.
        exact: Take the patterns as they are, not as regular expressions.

    """
    grants.need(call, "shell")
    found = open_shells.get(shell)
    return _expected(call, found, patterns, seconds, found.mark if after is None else after, exact=exact)


def _expected(call: Call, shell: Shell, wanted: list[str], seconds: float, after: int, *, exact: bool) -> Expected:
    looked_for = patterns.compiled(wanted, exact=exact)
    end = time.monotonic() + seconds
    seen = -1
    while True:
        is_late, is_over = time.monotonic() >= end, shell.output.closed
        if shell.output.end != seen:
            piece = shell.output.read(after)
            seen = piece.next
            text = piece.text[-_MOST_TEXT:]
            match = patterns.first(looked_for, text)
            if match is not None:
                return {
                    "found": True,
                    "pattern": match.pattern,
                    "before": text[: match.start],
                    "match": text[match.start : match.end],
                    "groups": match.groups,
                    "next": piece.next - len(text) + match.end,
                    "running": shell.exit_code is None,
                }
        if is_late or is_over:
            return {
                "found": False,
                "pattern": None,
                "before": text,
                "match": "",
                "groups": [],
                "next": after,
                "running": shell.exit_code is None,
            }
        call.sleep(_LOOK_S)


@plugin.operation(effect="idempotent_write", dry_run=True)
def shell_close(call: Call, shell: str) -> bool | None:
    """Hangs up on a session and ends what does not go by itself; whether it was open."""
    grants.need(call, "shell")
    if call.dry_run:
        call.would(f"close session {shell}")
        return None
    was_open = open_shells.close(shell)
    if was_open:
        call.did(f"closed session {shell}")
    return was_open
