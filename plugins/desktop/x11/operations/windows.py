"""Operations on windows."""

import time
from typing import Annotated, Any, TypedDict

from consort.plugin import Call, Limits
from x11 import windows as all_windows
from x11.display import opened, window_of
from x11.operations._plugin import Place, Size, WindowId, plugin
from x11.windows import Window

_MOST = 200
_LOOK_S = 0.1
_WAIT_S = 660.0


class Windows(TypedDict):
    """Windows; `truncated` says that there are more than 200."""

    windows: list[Window]
    truncated: bool


@plugin.operation(effect="read", timeout=_WAIT_S)
def windows(
    call: Call,
    title: str = "",
    program: str = "",
    seconds: Annotated[float, Limits(minimum=0, maximum=600)] = 0.0,
    display: str = "",
) -> Windows:
    """Lists windows, and waits until there is one if that is wanted.

    Args:
        title: Part of their title, in any case.
        program: Part of their program's name (WM_CLASS), in any case.
        seconds: How long to wait for the first.

    """
    end = time.monotonic() + seconds
    while True:
        with opened(call, "windows", display) as found:
            chosen = [
                each
                for each in all_windows.listed(found)
                if title.lower() in each["title"].lower() and program.lower() in each["program"].lower()
            ]
        if chosen or time.monotonic() >= end:
            return {"windows": chosen[:_MOST], "truncated": len(chosen) > _MOST}
        call.sleep(_LOOK_S)


@plugin.operation(effect="idempotent_write", dry_run=True)
def activate(call: Call, window: WindowId, display: str = "") -> bool | None:
    """Shows a window and gives it the focus; whether it has it."""
    with opened(call, "windows", display) as found:
        window_of(found, window)
        if call.dry_run:
            call.would(f"activate window {window}")
            return None
        is_active = all_windows.activate(call, found, window)
        call.did(f"activated window {window}")
        return is_active


@plugin.operation(effect="idempotent_write", dry_run=True)
def move_window(
    call: Call,
    window: WindowId,
    x: Place,
    y: Place,
    width: Size | None = None,
    height: Size | None = None,
    display: str = "",
) -> None:
    """Moves a window, and changes its size if one is given. A window manager may see that otherwise."""
    with opened(call, "windows", display) as found:
        target = window_of(found, window)
        size = "" if width is None and height is None else f", {width} by {height} pixels"
        line = f"move window {window} to {x}, {y}{size}"
        if call.dry_run:
            call.would(line)
            return
        wanted: dict[str, Any] = {"x": x, "y": y, "width": width, "height": height}
        target.configure(**{name: value for name, value in wanted.items() if value is not None})
        call.did(line)


@plugin.operation(effect="idempotent_write", dry_run=True)
def close_window(call: Call, window: WindowId, force: bool = False, display: str = "") -> bool | None:
    """Asks a window to close; whether it is gone after 2 seconds.

    Args:
        force: Do not ask: cut its program off from the display.

    """
    with opened(call, "windows", display) as found:
        window_of(found, window)
        line = f"close window {window}{', by force' if force else ''}"
        if call.dry_run:
            call.would(line)
            return None
        is_gone = all_windows.close(call, found, window, force=force)
        call.did(line)
        return is_gone
