"""Pictures of the screen."""

import struct
import zlib
from typing import Any, NamedTuple

from Xlib import X
from Xlib.display import Display

from consort.plugin import PluginError

_BITS = 32


class Area(NamedTuple):
    """A part of the screen, in pixels."""

    x: int
    y: int
    width: int
    height: int


def take(display: Display, wanted: Area, most: int) -> bytes:
    """A picture as PNG, of what lies on the screen. RESOURCE_EXHAUSTED for more than `most` pixels."""
    screen = display.screen()
    left, top = max(0, wanted.x), max(0, wanted.y)
    right = min(screen.width_in_pixels, wanted.x + wanted.width)
    bottom = min(screen.height_in_pixels, wanted.y + wanted.height)
    area = Area(left, top, right - left, bottom - top)
    if area.width <= 0 or area.height <= 0:
        raise PluginError("INVALID_ARGUMENT", f"{tuple(wanted)} is not on the screen", reason="OFF_SCREEN")
    if area.width * area.height > most:
        problem = f"{area.width}x{area.height} are more than {most} pixels; take a part"
        raise PluginError("RESOURCE_EXHAUSTED", problem, reason="TOO_LARGE")
    image = screen.root.get_image(*area, X.ZPixmap, 0xFFFFFFFF)
    return png(area.width, area.height, _rgb(display, image.data))


def png(width: int, height: int, rgb: bytes) -> bytes:
    """A PNG (ISO/IEC 15948) of rows of red, green and blue, 8 bits each."""
    stride = 3 * width
    rows = b"".join(b"\0" + rgb[start : start + stride] for start in range(0, stride * height, stride))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (_part(b"IHDR", header), _part(b"IDAT", zlib.compress(rows, 6)), _part(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _part(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _rgb(display: Display, data: bytes) -> bytes:
    """Red, green and blue of each pixel, whatever order the display has them in."""
    screen, info = display.screen(), display.display.info
    bits = {each.depth: each.bits_per_pixel for each in info.pixmap_formats}[screen.root_depth]
    visual = _visual(screen)
    masks = (visual.red_mask, visual.green_mask, visual.blue_mask)
    if bits != _BITS or any(mask not in (0xFF, 0xFF00, 0xFF0000, 0xFF000000) for mask in masks):
        problem = f"the display has {bits} bits per pixel in an order that is not known here"
        raise PluginError("FAILED_PRECONDITION", problem, reason="PIXELS_UNKNOWN")
    pixels = bytearray(len(data) // 4 * 3)
    for place, mask in enumerate(masks):
        byte = (mask.bit_length() - 1) // 8
        pixels[place::3] = data[byte if info.image_byte_order == X.LSBFirst else 3 - byte :: 4]
    return bytes(pixels)


def _visual(screen: Any) -> Any:
    for depth in screen.allowed_depths:
        for visual in depth.visuals:
            if visual.visual_id == screen.root_visual:
                return visual
    raise PluginError("FAILED_PRECONDITION", "the display does not say how its pixels are", reason="PIXELS_UNKNOWN")
