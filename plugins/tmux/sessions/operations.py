"""The operations of the plugin."""

import atexit
import shlex
import sys
import threading
from pathlib import Path
from typing import Annotated, Literal, TypedDict

from consort.plugin import Call, Limits, Plugin, PluginError, grants
from consort.plugin.patterns import compiled
from sessions import screen
from sessions.ending import end_session
from sessions.screen import State
from sessions.server import Server, arguments_of, listed, server, target
from sessions.settings import Settings

plugin = Plugin(
    "tmux",
    version="0.1.0",
    description="Terminal sessions with tmux: any command-line program or agent becomes a worker.",
    config=Settings,
    # Most of them wait.
    threads=48,
)

_LAUNCH = str(Path(__file__).with_name("launch.py"))
# Of operations that wait, if their caller says nothing.
_WAIT_S = 660.0
_creating = threading.Lock()
_servers: list[Server] = []

Name = Annotated[str, Limits(pattern="^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
Text = Annotated[str, Limits(maxLength=64 * 1024)]
Keys = Annotated[list[Annotated[str, Limits(pattern="^[A-Za-z0-9^-]{1,20}$")]], Limits(maxItems=100)]
Patterns = Annotated[list[Annotated[str, Limits(minLength=1, maxLength=1000)]], Limits(maxItems=20)]
Seconds = Annotated[float, Limits(minimum=0, maximum=600)]
Silence = Annotated[float, Limits(minimum=0, maximum=60)]
Line = Annotated[int, Limits(minimum=0)]


class Session(TypedDict):
    """A session, when it began in seconds since 1970, and how many people look at it."""

    session: str
    created: int
    attached: int


class Created(TypedDict):
    """The session, and the process id of its program."""

    session: str
    pid: int


class Sent(TypedDict):
    """The line in which the cursor was before."""

    line: int


class Screen(TypedDict):
    """Text, and how the session is. `truncated` says that older text is not there any more."""

    text: str
    state: State
    truncated: bool


class Waited(TypedDict):
    """What ended the wait, and the text. With a pattern its number, what it matched, and its groups."""

    reason: Literal["pattern", "silence", "ended", "time"]
    text: str
    pattern: int | None
    match: str
    groups: list[str]
    state: State
    truncated: bool


@plugin.operation(effect="write", dry_run=True)
def create(
    call: Call,
    name: Name,
    program: Annotated[str, Limits(minLength=1, maxLength=4096)],
    arguments: Annotated[list[Annotated[str, Limits(maxLength=16 * 1024)]], Limits(maxItems=1000)] = [],  # noqa: B006
    cwd: str = "",
    env: dict[str, Annotated[str, Limits(maxLength=16 * 1024)]] | None = None,
    columns: Annotated[int, Limits(minimum=10, maximum=1000)] = 160,
    rows: Annotated[int, Limits(minimum=2, maximum=500)] = 50,
) -> Created | None:
    """Creates a session that runs a program.

    Args:
        name: A letter, then letters, digits, - and _.
        program: Absolute path, or a name that is on PATH; it must be granted.
        arguments: As they are: no shell reads them.
        cwd: Folder, which must be granted; left out, the plugin's own.
        env: Variables besides PATH, LANG, TERM and those that are granted.

    """
    found = server(call)
    path = grants.program(call, program)
    folder = grants.folder(call, cwd)
    grants.environment(call, env or {})
    line = f"session {name} with {shlex.join([path, *arguments])} in {folder}"
    if call.dry_run:
        call.would(f"create {line}")
        return None
    variables = [word for key, value in (env or {}).items() for word in ("-e", f"{key}={value}")]
    # A command of one word would be read by a shell; this one always has more.
    command = [sys.executable, "-I", "-S", _LAUNCH, path, *arguments]
    with _creating:
        if len(listed(found, "#{session_name}")) >= call.config.sessions:
            problem = f"{call.config.sessions} sessions run already; kill one"
            raise PluginError("RESOURCE_EXHAUSTED", problem, reason="TOO_MANY_SESSIONS")
        size = ["-x", str(columns), "-y", str(rows)]
        # tmux reads `#(…)` in a folder's name as a command.
        place = str(folder).replace("#", "##")
        words = ["new-session", "-d", "-P", "-F", "#{pane_pid}", "-s", name, *size, "-c", place, *variables]
        pid = found.ask(*arguments_of([*words, "--", *command]), session=name)
        if found.own and not call.config.keep and found.command not in {each.command for each in _servers}:
            _servers.append(found)
    call.did(f"created {line}: process {pid.strip()}")
    return {"session": name, "pid": int(pid)}


@plugin.operation("list", effect="read")
def list_sessions(call: Call) -> list[Session]:
    """Lists the sessions of the server, by name."""
    rows = listed(server(call), "#{session_name}\t#{session_created}\t#{session_attached}")
    return [{"session": row[0], "created": int(row[1]), "attached": int(row[2])} for row in sorted(rows)[:1000]]


@plugin.operation(effect="write", dry_run=True)
def send(
    call: Call,
    session: Name,
    text: Text = "",
    enter: bool = True,
    keys: Keys = [],  # noqa: B006 - never changed.
    hidden: bool = False,
) -> Sent | None:
    """Types into a session.

    Args:
        text: Typed as it is. More than one line is pasted, so that a program that knows pastes takes them as one.
        enter: Press Enter after the text.
        keys: Keys that are pressed instead, by tmux's names: C-c, Up, Escape, F1, ...
        hidden: Leave the text out of the audit log.

    """
    found = server(call)
    line = _told(text, keys, enter=enter, hidden=hidden)
    if call.dry_run:
        call.would(f"type {line} into session {session}")
        return None
    before = screen.look(found, session).state["line"]
    _type(found, session, text, keys, enter=enter)
    call.did(f"typed {line} into session {session}")
    return {"line": before}


@plugin.operation(effect="read")
def capture(call: Call, session: Name, after: Line | None = None, colours: bool = False) -> Screen:
    """Reads a session's screen, or all from a line on; at most 256 KiB, the end of it.

    Args:
        after: Number of a line, as `send` tells it.
        colours: With the escape sequences for colours.

    """
    found = screen.look(server(call), session, after, colours=colours)
    return {"text": found.text, "state": found.state, "truncated": found.truncated}


@plugin.operation(effect="read", timeout=_WAIT_S)
def wait(
    call: Call,
    session: Name,
    patterns: Patterns = [],  # noqa: B006 - never changed.
    silence: Silence = 0.0,
    seconds: Seconds = 60.0,
    after: Line | None = None,
) -> Waited:
    """Waits until a pattern stands in a session's text, nothing changes any more, its program ends, or time is up.

    Args:
        patterns: Regular expressions, looked for on the screen, or from line `after` on.
        silence: Seconds for which nothing changes.

    """
    return _waited(call, server(call), session, patterns, silence, seconds, after)


@plugin.operation(effect="write", dry_run=True, timeout=_WAIT_S)
def ask(
    call: Call,
    session: Name,
    text: Text,
    patterns: Patterns = [],  # noqa: B006 - never changed.
    silence: Silence = 2.0,
    seconds: Seconds = 300.0,
) -> Waited | None:
    """Types a text and Enter into a session, waits as `wait` does, and yields what came since, the text included.

    Args:
        patterns: Regular expressions that say that the answer is complete, such as a prompt.
        silence: Seconds without a change that say so, too; 0 for never.

    """
    found = server(call)
    line = _told(text, [], enter=True, hidden=False)
    if call.dry_run:
        call.would(f"type {line} into session {session}, and wait")
        return None
    before = screen.look(found, session).state["line"]
    _type(found, session, text, [], enter=True)
    call.did(f"typed {line} into session {session}")
    return _waited(call, found, session, patterns, silence, seconds, before)


@plugin.operation(effect="idempotent_write", dry_run=True)
def kill(call: Call, session: Name) -> bool | None:
    """Ends a session with its program; whether there was one."""
    found = server(call)
    if call.dry_run:
        call.would(f"kill session {session}")
        return None
    was_there = end_session(found, session)
    if was_there:
        call.did(f"killed session {session}")
    return was_there


@atexit.register
def _end() -> None:
    for each in _servers:
        each.end()


def _told(text: str, keys: list[str], *, enter: bool, hidden: bool) -> str:
    """What is typed, for the audit log."""
    if keys and text:
        raise PluginError("INVALID_ARGUMENT", "are sent without a text; make two calls", field="keys")
    if keys:
        return " ".join(keys)
    return (f"{len(text)} characters" if hidden else repr(text)) + (" and Enter" if enter else "")


def _type(found: Server, session: str, text: str, keys: list[str], *, enter: bool) -> None:
    place = ["-t", target(session)]
    if "\n" in text or len(text) > 1000:
        buffer = f"consort-{session}"
        found.ask("load-buffer", "-b", buffer, "-", stdin=text, session=session)
        found.ask("paste-buffer", "-d", "-p", "-b", buffer, *place, session=session)
    elif text:
        found.ask("send-keys", *place, "-l", "--", *arguments_of([text]), session=session)
    pressed = keys or ["Enter"] * enter
    if pressed:
        found.ask("send-keys", *place, "--", *pressed, session=session)


def _waited(
    call: Call,
    found: Server,
    session: str,
    wanted: list[str],
    silence: float,
    seconds: float,
    after: int | None,
) -> Waited:
    looked_for = compiled(wanted, exact=False)
    reason, look, match = screen.wait(call, found, session, looked_for, silence=silence, seconds=seconds, after=after)
    return {
        "reason": reason,
        "text": look.text,
        "pattern": match.pattern if match else None,
        "match": look.text[match.start : match.end] if match else "",
        "groups": match.groups if match else [],
        "state": look.state,
        "truncated": look.truncated,
    }
