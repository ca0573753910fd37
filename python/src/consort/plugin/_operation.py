"""What a decorated function is to the mesh: its schemas, and how it is called."""

import enum
import inspect
import re
import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct

from consort._gen.plugin.v1 import plugin_service_pb2 as pb
from consort._schema import described, object_of, schema_of
from consort.plugin._reading import Field, Problem, Reader, members, reader
from consort.plugin._writing import encode
from consort.plugin.call import Call
from consort.plugin.errors import misfits

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_STREAMS = (Iterator, Iterable, Generator, AsyncIterator, AsyncIterable, AsyncGenerator)
JSON = "application/json"
BYTES = "application/octet-stream"
# What the mesh makes of chunks that are no JSON.
_BLOB = object_of(
    {"sha256": {"type": "string"}, "size_bytes": {"type": "integer"}, "media_type": {"type": "string"}},
    ["sha256", "size_bytes", "media_type"],
)


class Effect(enum.StrEnum):
    """What a repeated call does, and so what may be done when nobody knows whether it happened."""

    READ = "read"
    """Changes nothing: it is tried again."""
    IDEMPOTENT_WRITE = "idempotent_write"
    """Doing it twice is doing it once, at least with equal idempotency keys: it is tried again."""
    WRITE = "write"
    """Doing it twice does it twice: if its outcome is unknown, a person decides."""


_EFFECTS = {
    Effect.READ: pb.EFFECT_READ,
    Effect.IDEMPOTENT_WRITE: pb.EFFECT_IDEMPOTENT_WRITE,
    Effect.WRITE: pb.EFFECT_WRITE,
}
Kind = Literal["plain", "async", "generator", "async generator"]


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation of a plugin.

    `input_schema` and `output_schema` are JSON Schemas, the latter None if it yields anything. `timeout` is in seconds,
    None for the mesh's own. `media_type` is that of chunks, if it yields any.
    """

    name: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None
    effect: Effect
    timeout: float | None
    dry_run: bool
    media_type: str
    function: Callable[..., Any]
    kind: Kind
    call_parameter: str | None
    read_input: Reader
    read_output: Reader | None

    def arguments(self, call: Call | None, value: Any) -> dict[str, Any]:
        """The function's arguments for an input; the call may be left out if no parameter wants it.

        PluginError INVALID_ARGUMENT names every field that does not fit.
        """
        problems: list[Problem] = []
        found: dict[str, Any] = self.read_input(value, "", problems)
        if problems:
            raise misfits(problems, "input")
        if self.call_parameter is not None:
            found[self.call_parameter] = call
        return found

    def to_proto(self) -> pb.Operation:
        """The operation as Hello tells it."""
        timeout = None
        if self.timeout is not None:
            timeout = Duration()
            timeout.FromMilliseconds(round(self.timeout * 1e3))
        return pb.Operation(
            name=self.name,
            description=self.description,
            input_schema=struct_of(self.input_schema),
            output_schema=None if self.output_schema is None else struct_of(self.output_schema),
            effect=_EFFECTS[self.effect],
            timeout=timeout,
            dry_run=self.dry_run,
        )


def operation_of(
    function: Callable[..., Any],
    *,
    name: str,
    description: str,
    effect: str,
    timeout: float | None,
    dry_run: bool,
    media_type: str,
) -> Operation:
    """Looks at a function. TypeError names a parameter that has no schema, ValueError what else is wrong."""
    name = name or function.__name__
    if not _NAME.fullmatch(name):
        raise ValueError(f"operation: {name!r} is malformed; use 1 to 63 of a-z, 0-9, '_' and '-', from a letter on")
    if timeout is not None and not 0 < timeout <= 7 * 86_400:
        raise ValueError(f"timeout: {timeout} of '{name}' is not between 0 and a week; give seconds")
    said, of_parameters = described(function)
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TypeError(f"{name}: names a type that cannot be found: {error}") from error
    call_parameter: str | None = None
    fields: dict[str, Field] = {}
    properties: dict[str, Any] = {}
    open_ended = False
    for parameter in inspect.signature(function).parameters.values():
        hint = hints.get(parameter.name, Any)
        if parameter.kind is parameter.VAR_KEYWORD:
            open_ended = True
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            raise TypeError(f"{name}.{parameter.name}: cannot be given by name; make it a plain parameter")
        elif hint is Call or (parameter.name == "call" and hint is Any):
            call_parameter = parameter.name
        else:
            schema = schema_of(hint, f"{name}.{parameter.name}")
            if parameter.name in of_parameters:
                schema = {"description": of_parameters[parameter.name], **schema}
            if parameter.default is not parameter.empty and parameter.default is not None:
                schema = {**schema, **_default(parameter.default)}
            properties[parameter.name] = schema
            fields[parameter.name] = Field(reader(hint), parameter.default is parameter.empty)
    input_schema = object_of(properties, [field for field, each in fields.items() if each.required])
    if open_ended:
        del input_schema["additionalProperties"]
    kind = _kind(function)
    yields_bytes = kind.endswith("generator") or hints.get("return") is bytes
    return Operation(
        name=name,
        description=description or said,
        input_schema=input_schema,
        output_schema=_output_schema(name, hints, yields_bytes=yields_bytes, media_type=media_type),
        effect=Effect(effect),
        timeout=timeout,
        dry_run=dry_run,
        media_type=media_type or BYTES,
        function=function,
        kind=kind,
        call_parameter=call_parameter,
        read_input=members(fields, open_ended=open_ended),
        read_output=None if yields_bytes or "return" not in hints else reader(hints["return"]),
    )


def struct_of(value: dict[str, Any]) -> Struct:
    """A JSON object as a message."""
    found = Struct()
    found.update(value)
    return found


def _default(value: Any) -> dict[str, Any]:
    try:
        encode(value)
    except (TypeError, ValueError):
        return {}
    return {"default": value} if isinstance(value, str | int | float | bool) else {}


def _kind(function: Callable[..., Any]) -> Kind:
    if inspect.isasyncgenfunction(function):
        return "async generator"
    if inspect.isgeneratorfunction(function):
        return "generator"
    return "async" if inspect.iscoroutinefunction(function) else "plain"


def _output_schema(name: str, hints: dict[str, Any], *, yields_bytes: bool, media_type: str) -> dict[str, Any] | None:
    if yields_bytes:
        return None if media_type == JSON else _BLOB
    if "return" not in hints or hints["return"] is Any:
        return None
    if typing.get_origin(hints["return"]) in _STREAMS:
        raise TypeError(f"{name}: returns an iterator; make the function a generator that yields bytes")
    return schema_of(hints["return"], f"{name}'s result")
