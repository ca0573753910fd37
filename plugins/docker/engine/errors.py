"""How an engine fails, as callers are told."""

import json

from consort.plugin import PluginError

LATE = "ENGINE_LATE"
GARBLED = "ENGINE_GARBLED"
_MOST_SHOWN = 500
_CODES = {400: "INVALID_ARGUMENT", 401: "PERMISSION_DENIED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
_CODES |= {409: "FAILED_PRECONDITION", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 501: "UNIMPLEMENTED"}
_CODES |= {502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "UNAVAILABLE"}
_TAKEN = ("already in use", "already exists")


def refusal(status: int, body: bytes) -> PluginError:
    """What an answer of the classes 4xx and 5xx means, with the engine's own words."""
    said = message_of(body)
    code = _CODES.get(status, "FAILED_PRECONDITION" if status < 500 else "INTERNAL")
    if status == 409 and any(word in said for word in _TAKEN):
        code = "ALREADY_EXISTS"
    return PluginError(code, f"the engine answered {status}: {said or 'nothing'}", reason="ENGINE_REFUSED")


def garbled(what: str) -> PluginError:
    """What the engine sent cannot be read."""
    return PluginError("UNAVAILABLE", f"the engine sent {what}", reason=GARBLED)


def refused_in_stream(said: str, what: str) -> PluginError:
    """A pull or a build that fails after its answer has begun says so in words."""
    lower = said.lower()
    code = "FAILED_PRECONDITION"
    if any(word in lower for word in ("denied", "unauthorized")):
        code = "PERMISSION_DENIED"
    elif any(word in lower for word in ("not found", "manifest unknown", "no such")):
        code = "NOT_FOUND"
    elif any(word in lower for word in ("timeout", "connection refused", "dial tcp", "i/o", "eof")):
        code = "UNAVAILABLE"
    return PluginError(code, f"{what}: {shortened(said)}", reason="ENGINE_REFUSED")


def message_of(body: bytes) -> str:
    """The engine's words, on one line; of others than an engine the text as it is."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return shortened(body.decode("utf-8", "replace"))
    said = found.get("message") if isinstance(found, dict) else None
    return shortened(said) if isinstance(said, str) else ""


def shortened(said: str) -> str:
    """On one line, and cut."""
    said = " ".join(said.split())
    return said if len(said) <= _MOST_SHOWN else f"{said[:_MOST_SHOWN]}…"
