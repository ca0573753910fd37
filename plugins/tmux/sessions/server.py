"""The tmux server: how it is spoken to, and what it says."""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from consort.plugin import Call, PluginError, grants

_TIMEOUT_S = 10.0
_CONFIGURATION = str(Path(__file__).with_name("tmux.conf"))
_NOBODY = ("no server running", "error connecting", "no sessions")


@dataclass(frozen=True)
class Server:
    """A tmux server. `own` says that it is the plugin's, which starts and ends it."""

    command: tuple[str, ...]
    environment: dict[str, str]
    own: bool

    def ask(self, *arguments: str, stdin: str = "", session: str = "") -> str:
        """Runs commands of tmux, of which `;` parts one from the next; what they print."""
        try:
            done = subprocess.run(  # noqa: S603 - it is granted.
                [*self.command, *arguments],
                input=stdin.encode(),
                env=self.environment,
                cwd="/",
                capture_output=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except OSError as error:
            problem = f"{self.command[0]} cannot be started: {error.strerror}"
            raise PluginError("FAILED_PRECONDITION", problem, reason="NO_TMUX") from None
        except subprocess.TimeoutExpired:
            problem = f"tmux did not answer within {_TIMEOUT_S:g} s"
            raise PluginError("UNAVAILABLE", problem, reason="TMUX_HANGS") from None
        if done.returncode:
            raise _failure(done.stderr.decode(errors="replace").strip(), session)
        return done.stdout.decode(errors="replace")

    def end(self) -> None:
        """Ends it with all its sessions, if it is the plugin's own."""
        if self.own:
            try:
                self.ask("kill-server")
            except PluginError:
                return  # It had ended before.


def server(call: Call) -> Server:
    """The server that the call is about. PERMISSION_DENIED unless it is granted."""
    grants.need(call, "sessions")
    settings = call.config
    program = grants.program(call, settings.program)
    scratch = tempfile.gettempdir()
    environment = {**grants.environment(call, {}, "screen-256color"), "TMUX_TMPDIR": scratch}
    if settings.server:
        grants.need(call, "user-server")
        which = ("-S" if "/" in settings.server else "-L", settings.server)
        return Server((program, "-u", *which), environment, own=False)
    # One server for each data folder, found again by its name.
    name = "consort-" + hashlib.sha256(os.fsencode(call.data)).hexdigest()[:12]
    return Server((program, "-u", "-L", name, "-f", _CONFIGURATION), environment, own=True)


def is_absent(error: PluginError) -> bool:
    """Whether an answer says that there is no server, and so no session."""
    return error.reason == "NO_SERVER"


def listed(found: Server, template: str) -> list[list[str]]:
    """A row for each session, of the fields of a template that are parted by tabs."""
    try:
        rows = found.ask("list-sessions", "-F", template)
    except PluginError as error:
        if is_absent(error):
            return []
        raise
    return [row.split("\t") for row in rows.splitlines()]


def target(session: str) -> str:
    """The pane of a session, by its exact name."""
    return f"={session}:"


def _failure(text: str, session: str) -> PluginError:
    if any(word in text for word in _NOBODY):
        problem = f"no session '{session}'" if session else "no tmux server runs"
        return PluginError("NOT_FOUND", problem, field="session" if session else "", reason="NO_SERVER")
    if "can't find" in text:
        return PluginError("NOT_FOUND", f"no session '{session}'", field="session", reason="NO_SESSION")
    if "duplicate session" in text:
        return PluginError("ALREADY_EXISTS", f"there is a session '{session}' already", field="name")
    return PluginError("FAILED_PRECONDITION", f"tmux: {text[:500] or 'it says nothing'}", reason="TMUX_REFUSES")


def arguments_of(words: Sequence[str]) -> list[str]:
    """Words as tmux takes them on its command line, where a semicolon at the end of one would part commands."""
    return [f"{word[:-1]}\\;" if word.endswith(";") else word for word in words]
