"""Reads what an engine says, which may be anything: what is missing or of another kind is empty."""

from collections.abc import Iterator
from typing import Any


def inner(value: Any, *path: str) -> Any:
    """What lies at a path of names, None if nothing does."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def text(value: Any, *path: str) -> str:
    """A text."""
    found = inner(value, *path)
    return found if isinstance(found, str) else ""


def number(value: Any, *path: str) -> int:
    """A whole number."""
    found = inner(value, *path)
    return int(found) if isinstance(found, int | float) and abs(found) < 2**63 else 0


def flag(value: Any, *path: str) -> bool:
    """Whether something is so."""
    return inner(value, *path) is True


def texts(value: Any, *path: str) -> list[str]:
    """A list of texts."""
    found = inner(value, *path)
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def table(value: Any, *path: str) -> dict[str, str]:
    """Texts by name."""
    found = inner(value, *path)
    return {name: each for name, each in found.items() if isinstance(each, str)} if isinstance(found, dict) else {}


def rows(value: Any, *path: str) -> Iterator[dict[str, Any]]:
    """The objects of a list."""
    found = inner(value, *path)
    yield from (each for each in (found if isinstance(found, list) else []) if isinstance(each, dict))
