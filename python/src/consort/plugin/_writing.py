"""JSON text from what operations return."""

import dataclasses
import datetime
import enum
import json
from typing import Any


def encode(value: Any) -> str:
    """The value as JSON text. Dataclasses become objects; enumerations, times and sets what their schemas say.

    TypeError for what JSON cannot say, ValueError for NaN, infinities, cycles and broken text.
    """
    text = _ENCODER.encode(value)
    if not text.isascii():
        text.encode("utf-8")  # Raises UnicodeEncodeError, a ValueError, for half a surrogate pair.
    return text


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime.date):  # And datetime, which is one.
        return value.isoformat()
    if isinstance(value, set | frozenset):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON form; return dicts, lists, texts, numbers or dataclasses")


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
