"""JSON Schemas from annotations, and what docstrings say about parameters."""

import dataclasses
import datetime
import enum
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

_DEPTH = 32
_NAMES: dict[Any, str] = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}
_TEXTS = {datetime.datetime: "date-time", datetime.date: "date"}
_SETS = (set, frozenset, AbstractSet)
_SECTION = re.compile(r"^(args|arguments|parameters)\s*:\s*$", re.IGNORECASE)
_END = re.compile(r"^(returns?|raises|yields?|examples?|notes?)\s*:", re.IGNORECASE)
_ITEM = re.compile(r"^\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)$")
_PARAM = re.compile(r"^:param\s+(?:[^:]*\s)?(\w+)\s*:\s*(.*)$")


def schema_of(annotation: Any, place: str, *, plain: bool = False) -> dict[str, Any]:
    """The JSON Schema of what an annotation allows.

    It knows text, numbers, bool, None, Literal, unions, lists, sets, tuples, dicts with text as keys, enumerations,
    dates and times, dataclasses, TypedDicts, and Annotated, whose text becomes the description. Any allows everything.
    With `plain`, only what JSON values are by themselves: no sets, tuples, enumerations, times and dataclasses.
    TypeError, which begins with `place`, for all else and for types that hold themselves.
    """
    return _Schemas(plain=plain).of(annotation, place, 0)


@dataclasses.dataclass(frozen=True)
class _Schemas:
    plain: bool

    def of(self, annotation: Any, place: str, depth: int) -> dict[str, Any]:
        if depth > _DEPTH:
            raise TypeError(f"{place}: is nested more than {_DEPTH} deep; give the schema as a dict")
        if annotation in (Any, inspect.Parameter.empty, object):
            return {}
        origin, args = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is typing.Annotated:
            return self._annotated(annotation, place, depth)
        if origin in (typing.Required, typing.NotRequired):
            return self.of(args[0], place, depth)
        if origin in (typing.Union, types.UnionType):
            return {"anyOf": [self.of(arg, place, depth + 1) for arg in args]}
        if origin is typing.Literal:
            return _enumeration(args, place)
        annotation = type(None) if annotation is None else annotation
        if annotation in _NAMES:
            return {"type": _NAMES[annotation]}
        return self._made(origin or annotation, args, place, depth)

    def _made(self, kind: Any, args: tuple[Any, ...], place: str, depth: int) -> dict[str, Any]:
        """The schema of a container or a class."""
        if kind in (list, Sequence):
            return {"type": "array", "items": self.of(args[0], f"{place}[]", depth + 1) if args else {}}
        if kind in (dict, Mapping, MutableMapping):
            if args and args[0] is not str:
                raise TypeError(f"{place}: has keys that are no texts, which JSON cannot say")
            values = self.of(args[1], f"{place}.*", depth + 1) if args else {}
            return {"type": "object", "additionalProperties": values}
        if typing.is_typeddict(kind):
            return self._record(kind, place, depth)
        if self.plain:
            raise TypeError(f"{place}: {kind!r} is no value of JSON; use plain types, Literal or a TypedDict")
        if kind in _TEXTS:
            return {"type": "string", "format": _TEXTS[kind]}
        if kind in _SETS:
            items = self.of(args[0], f"{place}[]", depth + 1) if args else {}
            return {"type": "array", "items": items, "uniqueItems": True}
        if kind is tuple:
            return self._tuple(args, place, depth)
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return _enumeration([member.value for member in kind], place)
        if dataclasses.is_dataclass(kind):
            return self._record(kind, place, depth)
        raise TypeError(f"{place}: {kind!r} has no JSON Schema; use plain types, or give the schema as a dict")

    def _annotated(self, annotation: Any, place: str, depth: int) -> dict[str, Any]:
        """The schema of a type with notes: a text is its description, a mapping more members of the schema."""
        schema = self.of(annotation.__origin__, place, depth)
        for note in annotation.__metadata__:
            if isinstance(note, str):
                schema = {**schema, "description": note}
            elif isinstance(note, Mapping):
                schema = {**schema, **note}
        return schema

    def _tuple(self, args: tuple[Any, ...], place: str, depth: int) -> dict[str, Any]:
        if not args:
            return {"type": "array"}
        items = [self.of(arg, f"{place}[]", depth + 1) for arg in args if arg is not ...]
        if args[-1] is ...:
            return {"type": "array", "items": items[0]}
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}

    def _record(self, kind: Any, place: str, depth: int) -> dict[str, Any]:
        """The schema of a dataclass or a TypedDict."""
        try:
            hints = typing.get_type_hints(kind, include_extras=True)
        except NameError as error:
            raise TypeError(f"{place}: {kind.__name__} names a type that cannot be found: {error}") from error
        if typing.is_typeddict(kind):
            names, required = list(hints), [name for name in hints if name in kind.__required_keys__]
        else:
            fields = [field for field in dataclasses.fields(kind) if field.init]
            names = [field.name for field in fields]
            required = [each.name for each in fields if each.default is each.default_factory is dataclasses.MISSING]
        properties = {name: self.of(hints[name], f"{place}.{name}", depth + 1) for name in names}
        return object_of(properties, required, description=_own_words(kind))


def _enumeration(values: Sequence[Any], place: str) -> dict[str, Any]:
    kinds = {type(value) for value in values}
    if not kinds <= _NAMES.keys():
        raise TypeError(f"{place}: {list(values)!r:.100} has choices that are no plain JSON values")
    named = {"type": _NAMES[kinds.pop()]} if len(kinds) == 1 else {}
    return {**named, "enum": list(values)}


def object_of(properties: Mapping[str, Any], required: Sequence[str], *, description: str = "") -> dict[str, Any]:
    """The schema of an object with these members and no others."""
    said = {"description": description} if description else {}
    return {
        **said,
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def _own_words(kind: Any) -> str:
    """The first paragraph of a class's docstring, unless Python wrote it."""
    text = inspect.cleandoc(kind.__doc__ or "")
    is_made = text.startswith(f"{kind.__name__}(") or (typing.is_typeddict(kind) and not kind.__dict__.get("__doc__"))
    return "" if is_made else " ".join(text.partition("\n\n")[0].split())


def described(function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """What a docstring says: about the whole, and by parameter, in sections called `Args` or as `:param name:`."""
    whole: list[str] = []
    found: dict[str, str] = {}
    name, is_listing = "", False
    for raw in (inspect.getdoc(function) or "").splitlines():
        line = raw.strip()
        if param := _PARAM.match(line):
            name = param[1]
            found[name], is_listing = param[2], False
        elif _SECTION.match(line):
            name, is_listing = "", True
        elif line.startswith(":") or _END.match(line):
            break
        elif is_listing or name:
            item = _ITEM.match(line) if is_listing and raw[:1].isspace() else None
            if item:
                name = item[1]
                found[name] = item[2]
            elif name and line:
                found[name] = f"{found[name]} {line}".strip()
        else:
            whole.append(line)
    return "\n".join(whole).strip(), found
