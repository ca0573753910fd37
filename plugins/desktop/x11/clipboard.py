"""The clipboard: a selection that somebody owns and hands out when asked (ICCCM, section 2)."""

import select
import threading
import time
from typing import Any

from Xlib import X, Xatom, error
from Xlib.display import Display
from Xlib.protocol.event import SelectionNotify

from consort.plugin import Call, PluginError
from x11.display import connect

# What fits into one request of any server; longer texts would go in pieces.
MOST_BYTES = 200 * 1024
_MOST_READ = 4 * 1024 * 1024
_ANSWER_S = 3.0
_LOOK_S = 0.01


def read(call: Call, display: Display) -> str:
    """The text in it; empty if there is none."""
    clipboard, kind = display.intern_atom("CLIPBOARD"), display.intern_atom("UTF8_STRING")
    place, pieces = display.intern_atom("CONSORT_CLIPBOARD"), display.intern_atom("INCR")
    window = display.screen().root.create_window(0, 0, 1, 1, 0, 0, X.InputOnly, event_mask=X.PropertyChangeMask)
    window.convert_selection(clipboard, kind, place, X.CurrentTime)
    display.flush()
    answer = _next(call, display, lambda event: event.type == X.SelectionNotify)
    if answer.property == X.NONE:
        return ""
    found = window.get_full_property(place, X.AnyPropertyType)
    if found is None or found.property_type != pieces:
        return _text(b"" if found is None else found.value)
    data = bytearray()
    window.delete_property(place)
    while True:
        display.flush()
        _next(call, display, lambda event: event.type == X.PropertyNotify and event.state == X.PropertyNewValue)
        found = window.get_full_property(place, X.AnyPropertyType)
        window.delete_property(place)
        if found is None or not found.value:
            return _text(bytes(data))
        data += found.value
        if len(data) > _MOST_READ:
            problem = f"the clipboard has more than {_MOST_READ} bytes"
            raise PluginError("RESOURCE_EXHAUSTED", problem, reason="TOO_LARGE")


def _next(call: Call, display: Display, is_it: Any) -> Any:
    end = time.monotonic() + _ANSWER_S
    while True:
        while display.pending_events():
            event = display.next_event()
            if is_it(event):
                return event
        if time.monotonic() >= end:
            problem = f"the clipboard's owner did not answer within {_ANSWER_S:g} s"
            raise PluginError("UNAVAILABLE", problem, reason="OWNER_SILENT")
        call.sleep(_LOOK_S)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


class Owner:
    """Owns a clipboard and hands its text out, in a thread of its own, until somebody else owns it."""

    def __init__(self, display: str, text: str) -> None:
        self._data = text.encode()
        self._display = connect(display)
        self._window = self._display.screen().root.create_window(0, 0, 1, 1, 0, 0, X.InputOnly)
        self._clipboard = self._display.intern_atom("CLIPBOARD")
        self._kind = self._display.intern_atom("UTF8_STRING")
        self._targets = self._display.intern_atom("TARGETS")
        self._window.set_selection_owner(self._clipboard, X.CurrentTime)
        self._display.sync()
        if self._display.get_selection_owner(self._clipboard) != self._window:
            self._display.close()
            raise PluginError("UNAVAILABLE", "the clipboard cannot be had; try again", reason="NO_CLIPBOARD")
        self._thread = threading.Thread(target=self._serve, name=f"clipboard-{display}", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        try:
            while True:
                while self._display.pending_events():
                    event = self._display.next_event()
                    if event.type == X.SelectionClear:
                        self._display.close()
                        return
                    if event.type == X.SelectionRequest:
                        self._hand_out(event)
                self._display.flush()
                select.select([self._display.fileno()], [], [], 1.0)
        except (error.ConnectionClosedError, OSError, ValueError):
            return  # The display is gone.

    def _hand_out(self, event: Any) -> None:
        place = event.property or event.target
        if event.target in (self._kind, Xatom.STRING):
            event.requestor.change_property(place, event.target, 8, self._data)
        elif event.target == self._targets:
            event.requestor.change_property(place, Xatom.ATOM, 32, [self._targets, self._kind, Xatom.STRING])
        else:
            place = X.NONE
        answer = SelectionNotify(
            time=event.time,
            requestor=event.requestor,
            selection=event.selection,
            target=event.target,
            property=place,
        )
        event.requestor.send_event(answer)
