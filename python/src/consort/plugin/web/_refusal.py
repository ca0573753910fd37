"""Requests, and what it means when they are refused."""

import email.utils
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, NamedTuple

from consort.plugin.errors import PluginError
from consort.plugin.web._answer import Answer
from consort.plugin.web._place import Place
from consort.plugin.web._tries import Trouble, unknown

_SHOWN = 200
_CODES = {400: "INVALID_ARGUMENT", 401: "PERMISSION_DENIED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
_CODES |= {409: "FAILED_PRECONDITION", 410: "NOT_FOUND", 413: "INVALID_ARGUMENT", 422: "INVALID_ARGUMENT"}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]{0,16384}")
_METHOD = re.compile(r"[A-Z]{1,20}")
# They say how a message is framed and where it goes, which is not the caller's to say.
_OURS = {"host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect"}
_OURS |= {"keep-alive", "proxy-connection", "proxy-authorization"}


class Upload(NamedTuple):
    """A body that is read from the beginning of a file, for each try anew."""

    file: IO[bytes]
    size: int


@dataclass(frozen=True, slots=True)
class Request:
    """A request. `repeatable` says that doing it twice is doing it once; statuses up to `accept` are no failure.

    One that is `patient` takes as long as the call's deadline lets it, as long as no single wait takes too long. `sign`
    tells for each try which headers to add.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Upload | None = None
    repeatable: bool = False
    accept: int = 399
    patient: bool = False
    sign: Callable[[Place], Mapping[str, str]] | None = None


def checked(request: Request) -> dict[str, str]:
    """The headers of a request, their names in lower case. PluginError INVALID_ARGUMENT names what cannot be sent."""
    if not _METHOD.fullmatch(request.method):
        raise PluginError(
            "INVALID_ARGUMENT", f"{request.method[:40]!r} is no method; write GET or another", field="method"
        )
    wrong: dict[str, str] = {}
    for name, value in request.headers.items():
        if not _TOKEN.fullmatch(name):
            wrong[f"headers.{name[:100]}"] = "is no name of a header"
        elif name.lower() in _OURS:
            wrong[f"headers.{name}"] = "is set by the connection itself; leave it out"
        elif not _VALUE.fullmatch(value):
            wrong[f"headers.{name}"] = "has a value that cannot be sent: a line break, not Latin-1, or beyond 16 KiB"
    if wrong:
        told = "; ".join(f"{place}: {text}" for place, text in wrong.items())
        raise PluginError("INVALID_ARGUMENT", told, violations=wrong)
    return {name.lower(): value.strip() for name, value in request.headers.items()}


def refusal(request: Request, place: str, answer: Answer, said: str | None = None) -> Trouble:
    """What a refusal means; `said` is what it says, left out the answer's `message` or the beginning of its text.

    429, and 403 of a limit, were not done and may be asked again; 408 and 5xx may have been done.
    """
    words = _words(answer) if said is None else said
    status, wait = answer.status, told_wait(answer.headers)
    message = f"{place} answered {status}" + (f": {words}" if words else "")
    if status == 429 or (status == 403 and wait is not None):
        return Trouble("RESOURCE_EXHAUSTED", message, again=True, reason="RATE_LIMITED", wait=wait)
    if status >= 500 or status == 408:
        if not request.repeatable:
            return unknown(message)
        return Trouble("UNAVAILABLE", message, again=True, reason="SERVICE_FAILED", wait=wait)
    if 300 <= status < 400:
        message = f"{message}; redirects are not followed"
    return Trouble(_CODES.get(status, "FAILED_PRECONDITION"), message, again=False, reason="SERVICE_REFUSED")


def told_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that a service asks to wait, by Retry-After or as the end of a limit that is used up; None if none.

    Headers of limits are those of GitHub: `x-ratelimit-remaining`, and `x-ratelimit-reset` in seconds since 1970.
    """
    after = headers.get("retry-after", "").strip()
    if _is_number(after):
        return float(after)
    if after:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - time.time())
        except (ValueError, OverflowError):
            return None
    if headers.get("x-ratelimit-remaining", "").strip() != "0":
        return None
    reset = headers.get("x-ratelimit-reset", "").strip()
    return max(0.0, float(reset) - time.time()) if _is_number(reset) else 60.0


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 12


def _words(answer: Answer) -> str:
    kind = answer.headers.get("content-type", "")
    if "json" in kind:
        try:
            found = json.loads(answer.body)
        except (ValueError, RecursionError):
            return ""
        text = str(found.get("message", "")) if isinstance(found, dict) else ""
    elif "html" in kind or "octet-stream" in kind or answer.body.lstrip()[:1] == b"<":
        return ""
    else:
        text = answer.text
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
