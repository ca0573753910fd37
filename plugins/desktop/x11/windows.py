"""Windows: those of the window manager (EWMH 1.5), or of the display where there is none."""

import contextlib
import time
from collections.abc import Callable
from typing import Any, TypedDict

from Xlib import X, Xatom, error
from Xlib.display import Display
from Xlib.protocol.event import ClientMessage
from Xlib.xobject.drawable import Window as XWindow

from consort.plugin import Call
from x11.display import window_of

_TITLE = 500
_LOOK_S = 0.02
_EFFECT_S = 2.0
# As a pager does, which acts for a person (EWMH, "source indication").
_PAGER = 2


class Window(TypedDict):
    """A window. Its place is that of its inside on the screen; `pid` is 0 if it does not tell."""

    window: int
    title: str
    program: str
    pid: int
    x: int
    y: int
    width: int
    height: int
    active: bool
    visible: bool


def listed(display: Display) -> list[Window]:
    """All windows of programs, in the order in which they came."""
    root = display.screen().root
    ids = _property(root, "_NET_CLIENT_LIST", X.AnyPropertyType)
    found: list[XWindow] = (
        [display.create_resource_object("window", each) for each in ids]
        if ids is not None
        else root.query_tree().children
    )
    focus = focused(display)
    windows = []
    for each in found:
        with contextlib.suppress(error.BadWindow, error.BadDrawable):  # It went meanwhile.
            attributes = each.get_attributes()
            is_visible = attributes.map_state == X.IsViewable
            # Where nobody manages windows, those that are hidden are no windows for people.
            if ids is not None or (is_visible and not attributes.override_redirect):
                windows.append(_told(root, each, focus, is_visible=is_visible))
    return windows


def focused(display: Display) -> set[int]:
    """The window with the focus and those around it."""
    active = _property(display.screen().root, "_NET_ACTIVE_WINDOW", X.AnyPropertyType)
    found = set(active) if active is not None else set()
    focus: Any = display.get_input_focus().focus
    with contextlib.suppress(error.BadWindow):
        while hasattr(focus, "id") and focus != 0:
            found.add(focus.id)
            focus = focus.query_tree().parent
    return found - {0, display.screen().root.id}


def activate(call: Call, display: Display, window: int) -> bool:
    """Shows a window and gives it the focus; whether it has it."""
    found = window_of(display, window)
    if knows(display, "_NET_ACTIVE_WINDOW"):
        _tell(display, found, "_NET_ACTIVE_WINDOW", [_PAGER, X.CurrentTime, 0, 0, 0])
    else:
        found.map()
        found.configure(stack_mode=X.Above)
        display.sync()
        _until(call, lambda: found.get_attributes().map_state == X.IsViewable)
        found.set_input_focus(X.RevertToParent, X.CurrentTime)
    display.sync()
    return _until(call, lambda: window in focused(display))


def close(call: Call, display: Display, window: int, *, force: bool) -> bool:
    """Asks a window to close, or ends its program's connection; whether it is gone."""
    found = window_of(display, window)
    if force:
        found.kill_client()
    elif knows(display, "_NET_CLOSE_WINDOW"):
        _tell(display, found, "_NET_CLOSE_WINDOW", [X.CurrentTime, _PAGER, 0, 0, 0])
    else:
        protocols, delete = display.intern_atom("WM_PROTOCOLS"), display.intern_atom("WM_DELETE_WINDOW")
        message = ClientMessage(window=found, client_type=protocols, data=(32, [delete, X.CurrentTime, 0, 0, 0]))
        found.send_event(message)
    display.sync()
    return _until(call, lambda: _is_gone(found))


def place(root: XWindow, window: XWindow) -> tuple[int, int, int, int]:
    """Where its inside is on the screen, and its size."""
    geometry = window.get_geometry()
    corner = root.translate_coords(window.id, 0, 0)
    return corner.x, corner.y, geometry.width, geometry.height


def _told(root: XWindow, window: XWindow, focus: set[int], *, is_visible: bool) -> Window:
    title = _property(window, "_NET_WM_NAME", X.AnyPropertyType)
    pid = _property(window, "_NET_WM_PID", Xatom.CARDINAL)
    words = window.get_wm_class()
    left, top, width, height = place(root, window)
    return {
        "window": window.id,
        "title": _text(title if title is not None else window.get_wm_name())[:_TITLE],
        "program": words[1] if words else "",
        "pid": pid[0] if pid else 0,
        "x": left,
        "y": top,
        "width": width,
        "height": height,
        "active": window.id in focus,
        "visible": is_visible,
    }


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def _property(window: XWindow, name: str, kind: int) -> Any:
    found = window.get_full_property(window.display.get_atom(name), kind)
    return None if found is None else found.value


def knows(display: Display, name: str) -> bool:
    """Whether a window manager that is there knows a message."""
    root = display.screen().root
    supported = _property(root, "_NET_SUPPORTED", Xatom.ATOM)
    check = _property(root, "_NET_SUPPORTING_WM_CHECK", Xatom.WINDOW)
    if supported is None or not check or display.intern_atom(name) not in supported:
        return False
    manager: XWindow = display.create_resource_object("window", check[0])
    return not _is_gone(manager)


def _tell(display: Display, window: XWindow, name: str, words: list[int]) -> None:
    message = ClientMessage(window=window, client_type=display.intern_atom(name), data=(32, words))
    mask = X.SubstructureRedirectMask | X.SubstructureNotifyMask
    display.screen().root.send_event(message, event_mask=mask)


def _is_gone(window: XWindow) -> bool:
    try:
        window.get_geometry()
    except (error.BadWindow, error.BadDrawable):
        return True
    return False


def _until(call: Call, is_so: Callable[[], bool]) -> bool:
    end = time.monotonic() + _EFFECT_S
    while not is_so():
        if time.monotonic() >= end:
            return False
        call.sleep(_LOOK_S)
    return True
