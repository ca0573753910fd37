"""Rows as JSON values, up to limits."""

import base64
import datetime
import decimal
import json
import math
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

Parameters = list[Any] | dict[str, Any]


class Table(TypedDict):
    """What a query yields. `truncated` says that there are more rows than were asked for, or allowed."""

    columns: list[str]
    rows: list[list[Any]]
    truncated: bool


class Rows:
    """Gathers rows until there are `most`, or their JSON has `most_bytes`."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self.rows: list[list[Any]] = []
        self.truncated = False
        self._most = most
        self._room = most_bytes

    def add(self, rows: Iterable[Sequence[Any]]) -> bool:
        """Takes rows; False when there is no sense in more."""
        for row in rows:
            values = [plain(value) for value in row]
            self._room -= len(json.dumps(values, ensure_ascii=False).encode())
            if len(self.rows) >= self._most or self._room < 0:
                self.truncated = True
                return False
            self.rows.append(values)
        return True

    def table(self, columns: Sequence[str]) -> Table:
        """What was gathered."""
        return {"columns": list(columns), "rows": self.rows, "truncated": self.truncated}


def plain(value: Any) -> Any:
    """The value as JSON has it.

    Bytes become `{"base64": ...}`; exact numbers, times and UUIDs become text, as do NaN and infinities.
    """
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, decimal.Decimal | uuid.UUID):
        return str(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    return str(value)
