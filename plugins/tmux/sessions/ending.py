"""Ends a session, and a program that does not care that its terminal is gone."""

import contextlib
import os
import signal
import time

from consort.plugin import PluginError
from sessions import screen
from sessions.server import Server

_GRACE_S = 1.0


def end_session(server: Server, session: str) -> bool:
    """Whether there was one."""
    try:
        pid = screen.look(server, session).pid
        server.ask("kill-session", "-t", f"={session}", session=session)
    except PluginError as error:
        if error.code.name == "NOT_FOUND":
            return False
        raise
    if server.own:
        _end_group(pid)
    return True


def _end_group(pid: int) -> None:
    """Tmux has sent SIGHUP; what is left of the group after a while is killed."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        _await_end(pid)
        os.killpg(pid, signal.SIGKILL)
        _await_end(pid)


def _await_end(pid: int) -> None:
    """Raises ProcessLookupError as soon as nobody of the group is left; returns when time is up."""
    end = time.monotonic() + _GRACE_S
    while time.monotonic() < end:
        os.killpg(pid, 0)
        time.sleep(0.02)
