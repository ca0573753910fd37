"""Typed values from JSON values, with the place of everything that does not fit."""

import dataclasses
import datetime
import enum
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

# More than these are not told; the caller has enough to do.
_MOST_PROBLEMS = 50
_SHOWN = 40
_NAMES: dict[type, str] = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
_NAMES |= {type(None): "null", list: "a list", dict: "an object"}
_SETS = (set, frozenset, AbstractSet)


class Problem(NamedTuple):
    """What does not fit: where (`lines[2].text`), what is wrong, and what was wanted if it is the wrong kind."""

    path: str
    text: str
    wanted: str = ""


# Returns the value as Python code wants it. What does not fit is added to the problems; the value then means nothing.
Reader = Callable[[Any, str, list[Problem]], Any]


class Field(NamedTuple):
    """A member of an object."""

    read: Reader
    required: bool


def reader(annotation: Any) -> Reader:
    """Reads what an annotation allows: all that `schema_of` has a schema for."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (Any, inspect.Parameter.empty, object):
        return _anything
    if origin is typing.Annotated:
        return _noted(reader(annotation.__origin__), annotation.__metadata__)
    if origin in (typing.Required, typing.NotRequired):
        return reader(args[0])
    if origin in (typing.Union, types.UnionType):
        return _any_of([reader(arg) for arg in args])
    if origin is typing.Literal:
        return _one_of({choice: choice for choice in args})
    return _made(origin or (type(None) if annotation is None else annotation), args)


def _made(kind: Any, args: tuple[Any, ...]) -> Reader:
    if kind in (str, bool, type(None), int, float):
        return _plain(kind)
    if kind in (datetime.datetime, datetime.date):
        return _moment(kind)
    if kind in (list, Sequence):
        return _list_of(reader(args[0]) if args else _anything, list)
    if kind in _SETS:
        return _list_of(reader(args[0]) if args else _anything, set if kind is AbstractSet else kind)
    if kind is tuple:
        if not args or args[-1] is ...:
            return _list_of(reader(args[0]) if args else _anything, tuple)
        return _tuple_of([reader(arg) for arg in args])
    if kind in (dict, Mapping, MutableMapping):
        return _object_of(reader(args[1]) if args else _anything)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _one_of({member.value: member for member in kind})
    return _record(kind)


def members(fields: Mapping[str, Field], *, open_ended: bool = False) -> Reader:
    """Reads an object with these members; others are problems unless it is open-ended."""

    def read(value: Any, path: str, problems: list[Problem]) -> Any:
        if type(value) is not dict:
            return _misfit(value, path, problems, "an object")
        found: dict[str, Any] = {}
        for name, item in value.items():
            place = f"{path}.{name}" if path else name
            if len(problems) >= _MOST_PROBLEMS:
                break
            if field := fields.get(name):
                found[name] = field.read(item, place, problems)
            elif open_ended:
                found[name] = item
            else:
                known = ", ".join(fields) or "none"
                problems.append(Problem(_cut(place), f"is unknown; the members here are: {known}"))
        for name, field in fields.items():
            if field.required and name not in value:
                problems.append(Problem(f"{path}.{name}" if path else name, "is missing"))
        return found

    return read


def _record(kind: Any) -> Reader:
    """Reads a TypedDict or a dataclass, which is made."""
    hints = typing.get_type_hints(kind, include_extras=True)
    if typing.is_typeddict(kind):
        return members({name: Field(reader(hint), name in kind.__required_keys__) for name, hint in hints.items()})
    fields = {
        each.name: Field(reader(hints[each.name]), each.default is each.default_factory is dataclasses.MISSING)
        for each in dataclasses.fields(kind)
        if each.init
    }
    read_members = members(fields)

    def read(value: Any, path: str, problems: list[Problem]) -> Any:
        before = len(problems)
        found = read_members(value, path, problems)
        if len(problems) > before:
            return None
        try:
            return kind(**found)
        except ValueError as error:  # Its __post_init__ has more to say than types can.
            problems.append(Problem(path, str(error)))
            return None

    return read


def _cut(text: str, most: int = 200) -> str:
    return text if len(text) <= most else text[:most] + "…"


def _misfit(value: Any, path: str, problems: list[Problem], wanted: str) -> None:
    got = _NAMES.get(type(value), type(value).__name__)
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        shown = repr(value)
        got = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
    problems.append(Problem(path, f"is {got}, wanted {wanted}", wanted))


def _anything(value: Any, _path: str, _problems: list[Problem]) -> Any:
    return value


def _plain(kind: type) -> Reader:
    def read(value: Any, path: str, problems: list[Problem]) -> Any:
        if type(value) is kind:
            return value
        if kind is float and type(value) is int:
            return float(value)
        if kind is int and type(value) is float and value.is_integer():
            return int(value)  # JSON has one kind of number: 3.0 is 3.
        return _misfit(value, path, problems, _NAMES[kind])

    return read


def _moment(kind: Any) -> Reader:
    example = "2026-03-01T09:30:00Z" if kind is datetime.datetime else "2026-03-01"

    def read(value: Any, path: str, problems: list[Problem]) -> Any:
        try:
            found = kind.fromisoformat(value)
        except (TypeError, ValueError):
            return _misfit(value, path, problems, f"a time such as {example}")
        if kind is datetime.datetime and found.tzinfo is None:
            return _misfit(value, path, problems, f"a time with its offset, such as {example}")
        return found

    return read


def _one_of(choices: Mapping[Any, Any]) -> Reader:
    wanted = "one of " + ", ".join(map(repr, choices))

    def read(value: Any, path: str, problems: list[Problem]) -> Any:
        for choice, meant in choices.items():
            if type(value) is type(choice) and value == choice:
                return meant
        return _misfit(value, path, problems, wanted)

    return read


def _any_of(options: list[Reader]) -> Reader:
    def read(value: Any, path: str, problems: list[Problem]) -> Any:
        inner: list[Problem] = []
        wanted: list[str] = []
        for option in options:
            found: list[Problem] = []
            result = option(value, path, found)
            if not found:
                return result
            if found[0].path == path and found[0].wanted:
                wanted.append(found[0].wanted)
            else:
                inner = inner or found  # Of the right kind, with something wrong inside.
        if inner:
            problems.extend(inner)
            return None
        return _misfit(value, path, problems, " or ".join(dict.fromkeys(wanted)))

    return read


def _list_of(item: Reader, make: Callable[[list[Any]], Any]) -> Reader:
    def read(value: Any, path: str, problems: list[Problem]) -> Any:
        if type(value) is not list:
            return _misfit(value, path, problems, "a list")
        before = len(problems)
        found = []
        for number, element in enumerate(value):
            found.append(item(element, f"{path}[{number}]", problems))
            if len(problems) >= _MOST_PROBLEMS:
                break
        if len(problems) > before:
            return None
        try:
            return make(found)
        except TypeError:  # A set of lists or objects.
            return _misfit(value, path, problems, "a list of plain values")

    return read


def _tuple_of(items: list[Reader]) -> Reader:
    def read(value: Any, path: str, problems: list[Problem]) -> Any:
        if type(value) is not list or len(value) != len(items):
            return _misfit(value, path, problems, f"a list of {len(items)}")
        pairs = enumerate(zip(items, value, strict=True))
        return tuple(item(element, f"{path}[{number}]", problems) for number, (item, element) in pairs)

    return read


def _object_of(item: Reader) -> Reader:
    def read(value: Any, path: str, problems: list[Problem]) -> Any:
        if type(value) is not dict:
            return _misfit(value, path, problems, "an object")
        found = {}
        for key, element in value.items():
            found[key] = item(element, f"{path}.{key}" if path else key, problems)
            if len(problems) >= _MOST_PROBLEMS:
                break
        return found

    return read


# Of JSON Schema's words, those that people write into Annotated: what each asks of a value, and how it is told.
_CHECKS: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "minimum": (lambda value, limit: value >= limit, "at least {}"),
    "maximum": (lambda value, limit: value <= limit, "at most {}"),
    "exclusiveMinimum": (lambda value, limit: value > limit, "more than {}"),
    "exclusiveMaximum": (lambda value, limit: value < limit, "less than {}"),
    "minLength": (lambda value, limit: len(value) >= limit, "at least {} long"),
    "maxLength": (lambda value, limit: len(value) <= limit, "at most {} long"),
    "minItems": (lambda value, limit: len(value) >= limit, "at least {} of them"),
    "maxItems": (lambda value, limit: len(value) <= limit, "at most {} of them"),
    "pattern": (lambda value, limit: re.search(limit, value) is not None, "text that matches {}"),
    "enum": (lambda value, limit: value in limit, "one of {}"),
}


def _noted(read_plain: Reader, notes: Sequence[Any]) -> Reader:
    """Holds a value to the limits in its Annotated."""
    limits = [
        (*_CHECKS[word], limit)
        for note in notes
        if isinstance(note, Mapping)
        for word, limit in note.items()
        if word in _CHECKS
    ]
    if not limits:
        return read_plain

    def read(value: Any, path: str, problems: list[Problem]) -> Any:
        before = len(problems)
        found = read_plain(value, path, problems)
        if len(problems) == before and found is not None:
            for holds, told, limit in limits:
                if not holds(found, limit):
                    return _misfit(value, path, problems, told.format(limit))
        return found

    return read
