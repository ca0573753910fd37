"""Operations on the clipboard, and notifications."""

import os
import subprocess
import threading
from typing import Annotated, Literal

from consort.plugin import Call, Limits, PluginError, grants
from x11 import clipboard
from x11.display import granted, opened
from x11.operations._plugin import plugin

_NOTIFY_S = 5.0
_BUS = "DBUS_SESSION_BUS_ADDRESS"
# By display; an owner ends when another comes.
_owners: dict[str, clipboard.Owner] = {}
_owning = threading.Lock()


@plugin.operation(effect="read")
def clipboard_read(call: Call, display: str = "") -> str:
    """Tells the text in the clipboard; empty if there is none."""
    with opened(call, "clipboard", display) as found:
        return clipboard.read(call, found)


@plugin.operation(effect="idempotent_write", dry_run=True)
def clipboard_write(
    call: Call, text: Annotated[str, Limits(maxLength=clipboard.MOST_BYTES)], hidden: bool = False, display: str = ""
) -> None:
    """Puts a text into the clipboard, where it stays while the plugin lives.

    Args:
        hidden: Leave the text out of the audit log.

    """
    name = granted(call, "clipboard", display)
    if len(text.encode()) > clipboard.MOST_BYTES:
        raise PluginError("INVALID_ARGUMENT", f"has more than {clipboard.MOST_BYTES} bytes", field="text")
    told = f"{len(text)} characters" if hidden else repr(text)
    if call.dry_run:
        call.would(f"put {told} into the clipboard of {name}")
        return
    with _owning:
        _owners[name] = clipboard.Owner(name, text)
    call.did(f"put {told} into the clipboard of {name}")


@plugin.operation(effect="write", dry_run=True)
def notify(
    call: Call,
    title: Annotated[str, Limits(minLength=1, maxLength=200)],
    text: Annotated[str, Limits(maxLength=2000)] = "",
    urgency: Literal["low", "normal", "critical"] = "normal",
    seconds: Annotated[float, Limits(minimum=0, maximum=600)] = 10.0,
) -> None:
    """Shows a notification on the desktop, by way of `notify-send`.

    Args:
        seconds: For how long, if the desktop cares.

    """
    grants.need(call, "notify")
    program = call.config.notify_send
    if program not in call.permissions.exec and "*" not in call.permissions.exec:
        raise grants.denied(f"{program} may not be run", f'exec = ["{program}"]')
    bus = os.environ.get(_BUS, "") if _BUS in call.permissions.env else ""
    if not bus:
        problem = f'no bus to notify on; grant `env = ["{_BUS}"]`, and its socket with `fs_write`'
        raise PluginError("FAILED_PRECONDITION", problem, reason="NO_BUS")
    line = f"notify {title!r} ({urgency})"
    if call.dry_run:
        call.would(line)
        return
    expires = f"--expire-time={round(seconds * 1000)}"
    words = [program, "--app-name=consort", f"--urgency={urgency}", expires, "--", title, text]
    try:
        done = subprocess.run(  # noqa: S603 - it is granted.
            words, env={_BUS: bus, "LANG": "C.UTF-8"}, capture_output=True, timeout=_NOTIFY_S, check=False
        )
    except OSError as error:
        problem = f"{program} cannot be started: {error.strerror}; install libnotify-bin"
        raise PluginError("FAILED_PRECONDITION", problem, reason="NO_NOTIFY_SEND") from None
    except subprocess.TimeoutExpired:
        problem = f"nobody showed it within {_NOTIFY_S:g} s"
        raise PluginError("DEADLINE_EXCEEDED", problem, reason="NO_DESKTOP") from None
    if done.returncode:
        problem = done.stderr.decode(errors="replace").strip()[:500] or "notify-send failed"
        raise PluginError("UNAVAILABLE", problem, reason="NO_DESKTOP")
    call.did(line)
