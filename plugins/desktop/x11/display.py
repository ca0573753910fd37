"""A granted display, opened for one call."""

import contextlib
import os
import re
import socket
from collections.abc import Iterator

from Xlib import error
from Xlib.display import Display
from Xlib.xobject.drawable import Window

from consort.plugin import Call, PluginError, grants

_NAME = re.compile(r":(\d{1,5})(?:\.\d{1,2})?")
_KNOCK_S = 5.0


def granted(call: Call, capability: str, name: str) -> str:
    """The display that the call may use: the named one, or the first that is granted."""
    grants.need(call, capability)
    displays = list(call.permissions.display)
    if not displays or (name and name not in displays):
        wanted = name or ":0"
        line = f'display = ["{wanted}"]'
        raise grants.denied(f"display '{wanted}' is not granted", line, field="display" if name else "")
    return name or displays[0]


@contextlib.contextmanager
def opened(call: Call, capability: str, name: str = "") -> Iterator[Display]:
    """A connection to the display. What the display refuses within is told as a PluginError."""
    name = granted(call, capability, name)
    display = connect(name)
    # Errors of requests without an answer are told late; whoever needs to know asks afterwards.
    display.set_error_handler(lambda *_: None)
    try:
        yield display
        display.sync()
    except (error.BadWindow, error.BadDrawable):
        raise PluginError("NOT_FOUND", "the window is gone", field="window", reason="NO_WINDOW") from None
    except (error.XError, error.ConnectionClosedError, OSError) as failure:
        raise PluginError("UNAVAILABLE", f"display '{name}' failed: {failure}", reason="DISPLAY_FAILED") from None
    finally:
        with contextlib.suppress(error.ConnectionClosedError, OSError):
            display.close()


def connect(name: str) -> Display:
    """A connection. UNAVAILABLE says why there is none."""
    try:
        _knock(name)
        return Display(name)
    except (error.DisplayError, error.ConnectionClosedError, OSError) as failure:
        hint = "is an X server there, and may the plugin read the file of its XAUTHORITY?"
        problem = f"display '{name}' cannot be opened: {failure}; {hint}"
        raise PluginError("UNAVAILABLE", problem, reason="NO_DISPLAY") from None


def _knock(name: str) -> None:
    """OSError if nobody is there. Only for that the library would go on to try the network."""
    found = _NAME.fullmatch(name)
    if found is None:
        problem = f"display '{name}' is none of this machine; write for example :0"
        raise PluginError("INVALID_ARGUMENT", problem, field="display")
    path = f"/tmp/.X11-unix/X{found[1]}"  # noqa: S108 - where X servers listen.
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(_KNOCK_S)
        line.connect(path if os.path.exists(path) else f"\0{path}")


def window_of(display: Display, window: int) -> Window:
    """A window by its id. NOT_FOUND if there is none."""
    found: Window = display.create_resource_object("window", window)
    try:
        found.get_geometry()
    except (error.BadWindow, error.BadDrawable, error.BadValue):
        raise PluginError("NOT_FOUND", f"no window {window}", field="window", reason="NO_WINDOW") from None
    return found
