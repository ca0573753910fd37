"""The plugin `desktop` on a real X server, with real windows."""

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consort import RpcError
from consort._gen.plugin.v1.plugin_service_pb2 import Permissions
from consort.plugin import PluginError
from consort.plugin.testing import Outcome, PluginProcess, invoke
from x11.display import connect
from x11.operations import plugin
from x11.windows import knows
from x_server import HEIGHT, MISSING, WIDTH, Picture, process, until, x_server

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"{', '.join(MISSING)} not on PATH")
ALL = ["screen", "windows", "mouse", "keyboard", "clipboard", "notify"]
BLACK, YELLOW = (0, 0, 0), (255, 255, 0)


class Caller:
    def __init__(self, display: str) -> None:
        self.granted = Permissions(capabilities=ALL, display=[display])
        self.config: dict[str, Any] = {}

    def outcome(self, operation: str, *, dry_run: bool = False, timeout: float = 20.0, **values: Any) -> Outcome:
        return invoke(
            plugin, operation, values, permissions=self.granted, config=self.config, dry_run=dry_run, timeout=timeout
        )

    def __call__(self, operation: str, **values: Any) -> Any:
        return self.outcome(operation, **values).output

    def picture(self, **values: Any) -> Picture:
        outcome = self.outcome("capture", **values)
        assert outcome.media_type == "image/png"
        return Picture(outcome.data)

    def code(self, operation: str, **values: Any) -> tuple[str, str]:
        with pytest.raises(PluginError) as caught:
            self(operation, **values)
        return caught.value.code.name, caught.value.reason


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    with x_server() as name:
        yield name


@pytest.fixture
def caller(display: str) -> Caller:
    return Caller(display)


@contextlib.contextmanager
def terminal(caller: Caller, code: str, title: str = "paper", **options: Any) -> Iterator[dict[str, Any]]:
    """A window of xterm, yellow on black, that runs a shell's code."""
    command = ["xterm", "-u8", "-T", title, "-geometry", "60x10+40+30", "-bg", "black", "-fg", "yellow", "+bc"]
    environment = {"PATH": os.environ["PATH"], "DISPLAY": caller.granted.display[0], "LANG": "C.UTF-8"}
    with process([*command, "-b", "0", "-bw", "0", "-e", "/bin/sh", "-c", code], env=environment, **options):
        yield caller("windows", title=title, seconds=10)["windows"][0]


def test_a_window_is_typed_into_and_shows_it(caller: Caller, tmp_path: Path) -> None:
    written, ready = tmp_path / "written", tmp_path / "ready"
    code = f'touch {ready}; read line; printf %s "$line" > {written}.new; mv {written}.new {written}; sleep 60'
    with terminal(caller, code) as window:
        assert (window["program"], window["visible"]) == ("XTerm", True)
        until(ready.exists)
        until(lambda: caller.picture(window=window["window"]).count(BLACK) > 10_000)
        before = caller.picture(window=window["window"])
        text = "Hello, World! ~{[|]}@ 'x' Grüße €5 λ→"
        outcome = caller.outcome("type", text=text, window=window["window"])
        assert outcome.actions == [f"type {text!r} into window {window['window']}"]
        after = until(lambda: _changed(caller, window["window"], before))
        # The letters are where the first line of the terminal is, and nowhere else.
        assert (after.width, after.height) == (window["width"], window["height"])
        line = after.height // 10
        assert sum(row.count(b"\xff\xff\x00") for row in after.rows[:line]) > 200
        assert [y for y in range(after.height) if after.rows[y] != before.rows[y]][-1] < line
        caller("press", keys=["Return"])
        until(written.exists)
        assert written.read_text() == text


def _changed(caller: Caller, window: int, before: Picture) -> Picture | None:
    """The picture when it is another one and still."""
    first, second = caller.picture(window=window), caller.picture(window=window)
    return second if first.rows == second.rows != before.rows and second.count(YELLOW) > 400 else None


def test_keys_with_modifiers_and_buttons_of_the_mouse(caller: Caller, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    # The terminal tells each press of a button, with its place (xterm's SGR mode).
    code = f"stty raw -echo; printf '\\033[?1000h\\033[?1006h.'; exec cat > {seen}"
    with terminal(caller, code) as window:
        until(lambda: seen.exists() and caller.picture(window=window["window"]).count(YELLOW))
        caller("activate", window=window["window"])
        caller("press", keys=["ctrl+c", "A", "shift+b", "alt+x", "Up", "+"])
        until(lambda: seen.read_bytes().endswith(b"+"))
        assert seen.read_bytes() == b"\x03AB\xc3\xb8\x1b[A+"
        seen.write_bytes(b"")
        caller("mouse_move", x=window["x"] + 3, y=window["y"] + 3)
        assert caller("pointer") == {"x": window["x"] + 3, "y": window["y"] + 3}
        assert caller.outcome("mouse_click", button=3).actions == ["click button 3, 1 times"]
        caller("mouse_click", x=window["x"] + window["width"] - 3, y=window["y"] + 3)
        caller("mouse_scroll", down=1)
        until(lambda: b"<65;" in seen.read_bytes())
        assert b"\x1b[<2;1;1M\x1b[<2;1;1m\x1b[<0;60;1M\x1b[<0;60;1m\x1b[<65;60;1M" in seen.read_bytes()
        seen.write_bytes(b"")
        spot = window["x"] + 3, window["y"] + 3
        caller("mouse_drag", from_x=spot[0], from_y=spot[1], to_x=spot[0] + 300, to_y=spot[1])
        until(lambda: seen.read_bytes().count(b"\x1b[<0") == 2)
        assert b"\x1b[<0;1;1M" in seen.read_bytes()
    assert caller.code("press", keys=["hyper+x"])[0] == "INVALID_ARGUMENT"
    assert caller.code("press", keys=["NoSuchKey"])[0] == "INVALID_ARGUMENT"
    assert caller.code("type", text="a\x01")[0] == "INVALID_ARGUMENT"
    assert caller.code("mouse_click", x=3)[0] == "INVALID_ARGUMENT"


def test_windows_are_moved_covered_and_closed(caller: Caller) -> None:
    with terminal(caller, "sleep 60", "first") as first, terminal(caller, "sleep 60", "second") as second:
        assert [each["title"] for each in caller("windows", program="xterm")["windows"]] == ["first", "second"]
        assert caller("windows", title="none") == {"windows": [], "truncated": False}
        moved = caller.outcome("move_window", window=first["window"], x=200, y=250, width=300, height=120)
        assert moved.actions == [f"move window {first['window']} to 200, 250, 300 by 120 pixels"]
        now = caller("windows", title="first")["windows"][0]
        assert (now["x"], now["y"]) == (200, 250)
        for window in (first, second, first):
            assert caller("activate", window=window["window"]) is True
            active = [each["title"] for each in caller("windows")["windows"] if each["active"]]
            assert active == [window["title"]]
        assert caller("close_window", window=first["window"]) is True
        assert caller("close_window", window=second["window"], force=True) is True
        assert caller("windows")["windows"] == []
        for operation in ("activate", "close_window"):
            assert caller.code(operation, window=first["window"]) == ("NOT_FOUND", "NO_WINDOW")


@pytest.mark.skipif(shutil.which("openbox") is None, reason="openbox is not on PATH")
def test_a_window_manager_is_spoken_to(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    with x_server() as name, process(["openbox"], env={**environment, "DISPLAY": name}):
        caller = Caller(name)
        until(lambda: _is_managed(name))
        with terminal(caller, "sleep 60", "first") as first, terminal(caller, "sleep 60", "second") as second:
            assert first["pid"] > 0
            for window in (first, second, first):
                assert caller("activate", window=window["window"]) is True
            assert [each["title"] for each in caller("windows")["windows"] if each["active"]] == ["first"]
            caller("move_window", window=first["window"], x=100, y=200)
            until(lambda: abs(caller("windows", title="first")["windows"][0]["x"] - 100) < 20)
            assert caller("close_window", window=first["window"]) is True
            assert [each["title"] for each in caller("windows")["windows"]] == ["second"]


def _is_managed(name: str) -> bool:
    with contextlib.closing(connect(name)) as display:
        return knows(display, "_NET_CLIENT_LIST")


def test_pictures_are_of_what_was_asked_for(caller: Caller, display: str) -> None:
    assert caller("screens") == [{"display": display, "width": WIDTH, "height": HEIGHT}]
    whole = caller.picture()
    assert (whole.width, whole.height) == (WIDTH, HEIGHT)
    part = caller.picture(x=WIDTH - 10, y=HEIGHT - 20, width=100)
    assert (part.width, part.height) == (10, 20)
    with terminal(caller, "sleep 60") as window:
        until(lambda: caller.picture(window=window["window"]).count(BLACK) > 10_000)
        whole = caller.picture()
        inside = window["x"] + window["width"] // 2, window["y"] + window["height"] // 2
        assert whole.at(*inside) == BLACK
    assert caller.code("capture", x=WIDTH) == ("INVALID_ARGUMENT", "OFF_SCREEN")
    assert caller.code("capture", window=12345) == ("NOT_FOUND", "NO_WINDOW")
    assert caller.code("capture", window=1, x=5)[0] == "INVALID_ARGUMENT"
    caller.config = {"max_pixels": 1000}
    assert caller.code("capture") == ("RESOURCE_EXHAUSTED", "TOO_LARGE")


def test_the_clipboard_is_shared_with_other_programs(caller: Caller, display: str) -> None:
    text = "Grüße €\nsecond line"
    assert caller.outcome("clipboard_write", text=text).actions == [f"put {text!r} into the clipboard of {display}"]
    assert caller("clipboard_read") == text
    hidden = caller.outcome("clipboard_write", text="secret", hidden=True)
    assert hidden.actions == [f"put 6 characters into the clipboard of {display}"]
    assert caller("clipboard_read") == "secret"


@pytest.mark.skipif(shutil.which("xclip") is None, reason="xclip is not on PATH")
def test_the_clipboard_of_others_is_read_in_pieces(caller: Caller, display: str, tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "DISPLAY": display, "LANG": "C.UTF-8"}
    clip = ["xclip", "-selection", "clipboard"]
    caller("clipboard_write", text="from here")
    told = subprocess.run([*clip, "-o"], env=environment, capture_output=True, check=True)  # noqa: S603
    assert told.stdout == b"from here"
    large = "0123456789" * 100_000
    subprocess.run(clip, input=large.encode(), env=environment, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    assert caller("clipboard_read") == large
    caller("clipboard_write", text="")
    assert caller("clipboard_read") == ""


def test_nothing_is_done_without_a_grant(caller: Caller, display: str) -> None:
    calls: dict[str, dict[str, Any]] = {
        "screens": {},
        "capture": {},
        "pointer": {},
        "mouse_move": {"x": 1, "y": 1},
        "mouse_click": {},
        "mouse_drag": {"from_x": 1, "from_y": 1, "to_x": 2, "to_y": 2},
        "mouse_scroll": {},
        "type": {"text": "a"},
        "press": {"keys": ["a"]},
        "windows": {},
        "activate": {"window": 1},
        "move_window": {"window": 1, "x": 1, "y": 1},
        "close_window": {"window": 1},
        "clipboard_read": {},
        "clipboard_write": {"text": "a"},
        "notify": {"title": "a"},
    }
    assert set(calls) == set(plugin.operations)
    for granted in (Permissions(display=[display]), Permissions(capabilities=ALL)):
        caller.granted = granted
        for operation, values in calls.items():
            assert caller.code(operation, **values) == ("PERMISSION_DENIED", "NOT_GRANTED"), operation
    caller.granted = Permissions(capabilities=["keyboard", "screen"], display=[display])
    assert caller.code("type", text="a", window=5) == ("PERMISSION_DENIED", "NOT_GRANTED")
    assert caller.code("capture", display=":9876") == ("PERMISSION_DENIED", "NOT_GRANTED")
    caller.granted.display.append(":9876")
    assert caller.code("capture", display=":9876") == ("UNAVAILABLE", "NO_DISPLAY")


def test_dry_runs_say_and_do_nothing(caller: Caller) -> None:
    with terminal(caller, "sleep 60") as window:
        number = window["window"]
        before = caller("windows"), caller("pointer"), caller("clipboard_read")
        for operation, values, would in (
            ("type", {"text": "ab", "hidden": True}, "type 2 characters"),
            ("press", {"keys": ["ctrl+c"], "window": number}, f"press ctrl+c into window {number}"),
            ("mouse_move", {"x": 1, "y": 2}, "move the pointer to 1, 2"),
            ("mouse_click", {"x": 1, "y": 2, "count": 2}, "click button 1, 2 times, at 1, 2"),
            ("mouse_scroll", {"down": 3}, "scroll 3 down and 0 right"),
            ("move_window", {"window": number, "x": 0, "y": 0}, f"move window {number} to 0, 0"),
            ("activate", {"window": number}, f"activate window {number}"),
            ("close_window", {"window": number}, f"close window {number}"),
        ):
            outcome = caller.outcome(operation, **values, dry_run=True)
            assert (outcome.would, outcome.actions, outcome.output) == ([would], [], None)
        assert (caller("windows"), caller("pointer"), caller("clipboard_read")) == before


def test_notifications_need_a_bus_and_a_program(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    caller.config = {"notify_send": "/bin/false"}
    caller.granted.exec.append("/bin/false")
    assert caller.code("notify", title="a") == ("FAILED_PRECONDITION", "NO_BUS")
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
    caller.granted.env.append("DBUS_SESSION_BUS_ADDRESS")
    assert caller.outcome("notify", title="a", dry_run=True).would == ["notify 'a' (normal)"]
    assert caller.code("notify", title="a") == ("UNAVAILABLE", "NO_DESKTOP")
    caller.config = {"notify_send": "/no/such"}
    caller.granted.exec.append("/no/such")
    assert caller.code("notify", title="a") == ("FAILED_PRECONDITION", "NO_NOTIFY_SEND")


def test_its_process_starts_without_a_display() -> None:
    folder = Path(__file__).resolve().parent.parent

    async def refused() -> str:
        async with PluginProcess(folder) as process:
            with pytest.raises(RpcError, match="not granted") as caught:
                await process.invoke("capture")
            return str(caught.value)

    assert 'capabilities = ["screen"]' in asyncio.run(refused())
