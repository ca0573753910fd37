"""Operations on the mouse."""

from typing import Annotated, TypedDict

from Xlib import X
from Xlib.display import Display
from Xlib.ext import xtest

from consort.plugin import Call, Limits, PluginError
from x11.display import opened
from x11.operations._plugin import Place, plugin

_PAUSE_S = 0.02
_STEPS = 10
_UP, _DOWN, _LEFT, _RIGHT = 4, 5, 6, 7
Button = Annotated[int, Limits(minimum=1, maximum=3)]
Notches = Annotated[int, Limits(minimum=-50, maximum=50)]


class Pointer(TypedDict):
    """Where the pointer is."""

    x: int
    y: int


@plugin.operation(effect="read")
def pointer(call: Call, display: str = "") -> Pointer:
    """Tells where the pointer is."""
    with opened(call, "mouse", display) as found:
        return _where(found)


@plugin.operation(effect="idempotent_write", dry_run=True)
def mouse_move(call: Call, x: Place, y: Place, display: str = "") -> Pointer | None:
    """Moves the pointer."""
    with opened(call, "mouse", display) as found:
        line = f"move the pointer to {x}, {y}"
        if call.dry_run:
            call.would(line)
            return None
        _move(found, x, y)
        call.did(line)
        return _where(found)


@plugin.operation(effect="write", dry_run=True)
def mouse_click(
    call: Call,
    x: Place | None = None,
    y: Place | None = None,
    button: Button = 1,
    count: Annotated[int, Limits(minimum=1, maximum=3)] = 1,
    display: str = "",
) -> Pointer | None:
    """Clicks, after moving to a place if one is given.

    Args:
        button: 1 is the left one, 2 the middle one, 3 the right one.
        count: 2 for a double click.

    """
    if (x is None) != (y is None):
        raise PluginError("INVALID_ARGUMENT", "comes with the other coordinate", field="y" if y is None else "x")
    with opened(call, "mouse", display) as found:
        line = f"click button {button}, {count} times" + ("" if x is None else f", at {x}, {y}")
        if call.dry_run:
            call.would(line)
            return None
        if x is not None and y is not None:
            _move(found, x, y)
        for _ in range(count):
            _click(found, button)
            call.sleep(_PAUSE_S)
        call.did(line)
        return _where(found)


@plugin.operation(effect="write", dry_run=True)
def mouse_drag(
    call: Call, from_x: Place, from_y: Place, to_x: Place, to_y: Place, button: Button = 1, display: str = ""
) -> Pointer | None:
    """Presses a button at a place, moves to another, and releases it."""
    with opened(call, "mouse", display) as found:
        line = f"drag with button {button} from {from_x}, {from_y} to {to_x}, {to_y}"
        if call.dry_run:
            call.would(line)
            return None
        _move(found, from_x, from_y)
        xtest.fake_input(found, X.ButtonPress, button)
        try:
            for step in range(1, _STEPS + 1):
                _move(found, from_x + (to_x - from_x) * step // _STEPS, from_y + (to_y - from_y) * step // _STEPS)
                call.sleep(_PAUSE_S)
        finally:
            xtest.fake_input(found, X.ButtonRelease, button)
            found.sync()
        call.did(line)
        return _where(found)


@plugin.operation(effect="write", dry_run=True)
def mouse_scroll(call: Call, down: Notches = 0, right: Notches = 0, display: str = "") -> Pointer | None:
    """Turns the wheel where the pointer is.

    Args:
        down: Notches; up if negative.
        right: Notches; left if negative.

    """
    with opened(call, "mouse", display) as found:
        line = f"scroll {down} down and {right} right"
        if call.dry_run:
            call.would(line)
            return None
        for amount, buttons in ((down, (_UP, _DOWN)), (right, (_LEFT, _RIGHT))):
            for _ in range(abs(amount)):
                _click(found, buttons[amount > 0])
        call.did(line)
        return _where(found)


def _move(display: Display, x: int, y: int) -> None:
    if not display.has_extension("XTEST"):
        raise PluginError("FAILED_PRECONDITION", "the display has no XTEST, so nothing can be moved", reason="NO_XTEST")
    xtest.fake_input(display, X.MotionNotify, x=x, y=y)
    display.sync()


def _click(display: Display, button: int) -> None:
    xtest.fake_input(display, X.ButtonPress, button)
    xtest.fake_input(display, X.ButtonRelease, button)
    display.sync()


def _where(display: Display) -> Pointer:
    found = display.screen().root.query_pointer()
    return {"x": found.root_x, "y": found.root_y}
