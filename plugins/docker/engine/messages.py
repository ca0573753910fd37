"""What an engine tells while it pulls or builds: JSON objects, one after another."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from consort.plugin import Call
from engine.errors import garbled
from engine.fields import number, text

_MOST_LINE = 1024 * 1024
_MOST_LAYERS = 10_000
_MIB = 1024 * 1024
_STEP = re.compile(r"Step (\d{1,6})/(\d{1,6}) : (.*)")
# A change of less is not worth a message.
_LEAST = 0.01


def messages(pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The objects, each on a line. UNAVAILABLE, reason ENGINE_GARBLED, for a line that is none."""
    held = b""
    for piece in pieces:
        *lines, held = (held + piece).split(b"\n")
        if len(held) > _MOST_LINE:
            raise garbled("a line of more than 1 MiB")
        for line in lines:
            if line.strip():
                yield _object(line)
    if held.strip():
        yield _object(held)


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise garbled(f"{line[:80]!r}, which is no JSON object")
    return found


def failure_in(message: dict[str, Any]) -> str:
    """What went wrong, empty if nothing did."""
    return text(message, "errorDetail", "message") or text(message, "error")


class PullProgress:
    """How far a pull is: bytes of the layers that were told of."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._layers: dict[str, tuple[int, int]] = {}
        self._done: set[str] = set()
        self._told = 0.0
        self._layers_told = -1

    def take(self, message: dict[str, Any]) -> None:
        """Tells the caller what is new."""
        layer, status = text(message, "id"), text(message, "status")
        if not layer or len(self._layers) >= _MOST_LAYERS:
            return
        if status == "Downloading":
            so_far = number(message, "progressDetail", "current"), number(message, "progressDetail", "total")
            self._layers[layer] = so_far
        elif status in ("Download complete", "Pull complete", "Already exists"):
            _, total = self._layers.get(layer, (0, 0))
            self._layers[layer] = (total, total)
            if status != "Download complete":
                self._done.add(layer)
        elif status in ("Pulling fs layer", "Waiting"):
            self._layers.setdefault(layer, (0, 0))
        else:
            return
        self._tell()

    def _tell(self) -> None:
        current = sum(each for each, _ in self._layers.values())
        total = sum(each for _, each in self._layers.values())
        # A layer whose size is not told yet counts as one of middling size of which nothing is there.
        share = min(1.0, max(0.0, current / total)) if total > 0 else 0.0
        known = self._done | {layer for layer, (_, each) in self._layers.items() if each > 0}
        # A large layer that is told of late is no step back.
        fraction = max(self._told, share * len(known) / len(self._layers))
        if fraction - self._told >= _LEAST or len(self._done) > self._layers_told:
            told = f"{len(self._done)} of {len(self._layers)} layers, {current / _MIB:.1f} of {total / _MIB:.1f} MiB"
            self._told, self._layers_told = fraction, len(self._done)
            self._call.progress(fraction, told)


def step_of(line: str) -> tuple[float, str] | None:
    """How far a build is when it begins a step, and the step."""
    found = _STEP.match(line)
    if found is None or int(found[2]) == 0:
        return None
    return min(1.0, (int(found[1]) - 1) / int(found[2])), found[3]
