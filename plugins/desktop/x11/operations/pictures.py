"""Operations that look at the screen."""

from typing import TypedDict

from consort.plugin import Call, PluginError
from x11 import picture
from x11 import windows as all_windows
from x11.display import opened, window_of
from x11.operations._plugin import Place, Size, WindowId, plugin


class Screen(TypedDict):
    """A display with its size in pixels."""

    display: str
    width: int
    height: int


@plugin.operation(effect="read")
def screens(call: Call) -> list[Screen]:
    """Lists the displays that are granted, with their sizes."""
    found: list[Screen] = []
    for name in list(call.permissions.display) or [""]:
        with opened(call, "screen", name) as display:
            screen = display.screen()
            found.append({"display": name, "width": screen.width_in_pixels, "height": screen.height_in_pixels})
    return found


@plugin.operation(effect="read", media_type="image/png")
def capture(
    call: Call,
    window: WindowId | None = None,
    x: Place = 0,
    y: Place = 0,
    width: Size | None = None,
    height: Size | None = None,
    display: str = "",
) -> bytes:
    """Takes a picture, as PNG: of the screen, of a part of it, or of where a window is.

    Args:
        window: Its id, as `windows` tells it; what covers it is in the picture.
        width: Left out, all that is right of `x`.
        height: Left out, all that is below `y`.
        display: Left out, the first that is granted.

    """
    if window is not None and (x, y, width, height) != (0, 0, None, None):
        raise PluginError("INVALID_ARGUMENT", "is given with a part of the screen; leave out one", field="window")
    with opened(call, "screen", display) as found:
        screen = found.screen()
        if window is not None:
            area = picture.Area(*all_windows.place(screen.root, window_of(found, window)))
        else:
            wide, high = width or screen.width_in_pixels - x, height or screen.height_in_pixels - y
            area = picture.Area(x, y, wide, high)
        return picture.take(found, area, call.config.max_pixels)
