"""Keys, pressed through XTEST."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from Xlib import XK, X
from Xlib.display import Display
from Xlib.ext import xtest

from consort.plugin import Call, PluginError

_MODIFIERS = {
    "ctrl": XK.XK_Control_L,
    "shift": XK.XK_Shift_L,
    "alt": XK.XK_Alt_L,
    "super": XK.XK_Super_L,
}
_CONTROLS = {"\n": XK.XK_Return, "\r": XK.XK_Return, "\t": XK.XK_Tab, "\b": XK.XK_BackSpace, "\x1b": XK.XK_Escape}
# What a program may need to look a key up after it was pressed.
_LOOKUP_S = 0.2


class Stroke(NamedTuple):
    """A key, with modifiers that are held meanwhile."""

    code: int
    modifiers: tuple[int, ...] = ()


def keysym(char: str) -> int:
    """The keysym of a character (X protocol, appendix A: Latin-1 is itself, the others are Unicode)."""
    if char in _CONTROLS:
        return _CONTROLS[char]
    number = ord(char)
    if number < 0x20 or 0x7F <= number < 0xA0 or 0xD800 <= number < 0xE000:
        raise PluginError("INVALID_ARGUMENT", f"{char!r} cannot be typed", field="text")
    return number if number < 0x100 else 0x01000000 | number


def type_text(call: Call, display: Display, text: str, pause: float) -> None:
    """Types a text. Characters that the keyboard has not are put on keys that have none, and taken away again."""
    _check(display)
    for char in set(text):
        keysym(char)
    capitals = bool(display.screen().root.query_pointer().mask & X.LockMask)
    spare = _spare(display)
    for piece in _pieces(display, text, len(spare)):
        with _lent(call, display, spare, _missing(display, piece)) as lent:
            for char in piece:
                _press(display, lent.get(char) or _stroke(display, char, capitals=capitals))
                call.sleep(pause)


def parse(display: Display, keys: str) -> Stroke:
    """Keys such as `ctrl+shift+t`, `Return` or `F5`, by X's names. INVALID_ARGUMENT for what is none."""
    *modifiers, last = keys.split("+") if keys != "+" else ["+"]
    symbol = keysym(last) if len(last) == 1 else XK.string_to_keysym(last)
    code = display.keysym_to_keycode(symbol) if symbol else 0
    unknown = [each for each in modifiers if each.lower() not in _MODIFIERS]
    if unknown or not code:
        problem = f"{keys!r} is unknown; write for example ctrl+c, Return or F5, with {', '.join(_MODIFIERS)}"
        raise PluginError("INVALID_ARGUMENT", problem, field="keys")
    held = [display.keysym_to_keycode(_MODIFIERS[each.lower()]) for each in modifiers]
    needs_shift = len(last) == 1 and _index(display, symbol) == 1
    shift = display.keysym_to_keycode(XK.XK_Shift_L)
    if needs_shift and shift not in held:
        held.append(shift)
    return Stroke(code, tuple(held))


def press(call: Call, display: Display, strokes: Iterable[Stroke], pause: float) -> None:
    """Presses and releases keys, one after the other."""
    _check(display)
    for stroke in strokes:
        _press(display, stroke)
        call.sleep(pause)


def _press(display: Display, stroke: Stroke) -> None:
    """Whatever happens, nothing stays pressed."""
    held = (*stroke.modifiers, stroke.code)
    try:
        for code in held:
            xtest.fake_input(display, X.KeyPress, code)
    finally:
        for code in reversed(held):
            xtest.fake_input(display, X.KeyRelease, code)
        display.sync()


def _check(display: Display) -> None:
    if not display.has_extension("XTEST"):
        raise PluginError(
            "FAILED_PRECONDITION", "the display has no XTEST, so nothing can be pressed", reason="NO_XTEST"
        )


def _index(display: Display, symbol: int) -> int | None:
    """0 if a key has the symbol, 1 if it has it with Shift."""
    places = [index for _, index in display.keysym_to_keycodes(symbol) if index in (0, 1)]
    return min(places) if places else None


def _stroke(display: Display, char: str, *, capitals: bool) -> Stroke:
    symbol = keysym(char)
    code, index = min(
        ((code, index) for code, index in display.keysym_to_keycodes(symbol) if index in (0, 1)),
        key=lambda found: found[1],
    )
    with_shift = (index == 1) != (capitals and char.isalpha())
    return Stroke(code, (display.keysym_to_keycode(XK.XK_Shift_L),) if with_shift else ())


def _missing(display: Display, text: str) -> list[str]:
    return [char for char in sorted(set(text)) if _index(display, keysym(char)) is None]


def _spare(display: Display) -> list[int]:
    """Keys that have no symbol."""
    info = display.display.info
    first, count = info.min_keycode, info.max_keycode - info.min_keycode + 1
    return [
        first + number for number, symbols in enumerate(display.get_keyboard_mapping(first, count)) if not any(symbols)
    ]


def _pieces(display: Display, text: str, most: int) -> Iterator[str]:
    """Pieces with at most so many different characters that the keyboard has not."""
    missing = set(_missing(display, text))
    if missing and not most:
        raise PluginError("FAILED_PRECONDITION", f"no key is free for {sorted(missing)[0]!r}", reason="NO_SPARE_KEY")
    piece, lent = "", set[str]()
    for char in text:
        if char in missing and char not in lent and len(lent) == most:
            yield piece
            piece, lent = "", set()
        piece += char
        lent |= {char} & missing
    yield piece


@contextlib.contextmanager
def _lent(call: Call, display: Display, spare: list[int], chars: list[str]) -> Iterator[dict[str, Stroke]]:
    lent = {char: Stroke(code) for char, code in zip(chars, spare, strict=False)}
    for char, stroke in lent.items():
        display.change_keyboard_mapping(stroke.code, [[keysym(char)] * 2])
    display.sync()
    try:
        if lent:
            call.sleep(_LOOKUP_S)
        yield lent
        if lent:
            call.sleep(_LOOKUP_S)
    finally:
        for stroke in lent.values():
            display.change_keyboard_mapping(stroke.code, [[X.NoSymbol] * 2])
        display.sync()
