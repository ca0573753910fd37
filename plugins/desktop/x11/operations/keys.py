"""Operations on the keyboard."""

from typing import Annotated

from Xlib.display import Display

from consort.plugin import Call, Limits, PluginError, grants
from x11 import keyboard
from x11 import windows as all_windows
from x11.display import opened
from x11.operations._plugin import WindowId, plugin


@plugin.operation("type", effect="write", dry_run=True, timeout=120.0)
def type_text(
    call: Call,
    text: Annotated[str, Limits(minLength=1, maxLength=10_000)],
    window: WindowId | None = None,
    hidden: bool = False,
    display: str = "",
) -> None:
    """Types a text into the window that has the focus. A line break is Return.

    Args:
        window: Given, it gets the focus first, and nothing is typed if it does not; needs `windows`, too.
        hidden: Leave the text out of the audit log.

    """
    told = f"{len(text)} characters" if hidden else repr(text)
    with opened(call, "keyboard", display) as found:
        line = f"type {told}{_into(call, window)}"
        if call.dry_run:
            call.would(line)
            return
        _focus(call, found, window)
        # Told first: of a text that is cut short, some was typed.
        call.did(line)
        keyboard.type_text(call, found, text, call.config.key_pause_ms / 1000)


@plugin.operation(effect="write", dry_run=True)
def press(
    call: Call,
    keys: Annotated[list[Annotated[str, Limits(minLength=1, maxLength=60)]], Limits(minItems=1, maxItems=100)],
    window: WindowId | None = None,
    display: str = "",
) -> None:
    """Presses keys, one after the other: ctrl+shift+t, Return, F5, Left, a, by X's names.

    Args:
        window: Given, it gets the focus first, and nothing is pressed if it does not; needs `windows`, too.

    """
    with opened(call, "keyboard", display) as found:
        strokes = [keyboard.parse(found, each) for each in keys]
        line = f"press {' '.join(keys)}{_into(call, window)}"
        if call.dry_run:
            call.would(line)
            return
        _focus(call, found, window)
        call.did(line)
        keyboard.press(call, found, strokes, call.config.key_pause_ms / 1000)


def _into(call: Call, window: int | None) -> str:
    if window is None:
        return ""
    grants.need(call, "windows")
    return f" into window {window}"


def _focus(call: Call, display: Display, window: int | None) -> None:
    if window is not None and not all_windows.activate(call, display, window):
        raise PluginError("FAILED_PRECONDITION", f"window {window} does not take the focus", field="window")
