"""What an operation says about an answer."""

import base64
import json
import math
from typing import Any, TypedDict

from consort.plugin.web import Answer
from webcalls.credentials import hidden, shown


class Answered(TypedDict):
    """An answer.

    Its body is in `json` if it is JSON, else in `text` if it is text, else in `base64`; the others are null. Names of
    headers are in lower case; cookies and secrets that were sent are ***. `url` is where the answer came from, after
    redirects.
    """

    status: int
    headers: dict[str, str]
    json: Any
    text: str | None
    base64: str | None
    url: str


def answered(answer: Answer, secrets: list[str]) -> Answered:
    """An answer as an output."""
    found: Answered = {
        "status": answer.status,
        "headers": shown(answer.headers, secrets),
        "json": None,
        "text": None,
        "base64": None,
        "url": hidden(answer.url, secrets),
    }
    text = _text(answer)
    if text is None:
        found["base64"] = base64.b64encode(answer.body).decode()
        return found
    text = hidden(text, secrets)
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            found["json"] = json.loads(text, parse_constant=_no_number, parse_float=_number)
        except (ValueError, RecursionError):
            found["text"] = text
    else:
        found["text"] = text
    return found


def _text(answer: Answer) -> str | None:
    try:
        text = answer.body.decode(answer.charset)
    except (LookupError, UnicodeDecodeError):
        return None
    return None if "\0" in text else text


def _number(text: str) -> float:
    found = float(text)
    if math.isinf(found):
        raise ValueError("beyond what a number can be")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")
