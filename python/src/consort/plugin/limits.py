"""Limits of values, for annotations."""

from typing import Any, TypedDict, Unpack


class Words(TypedDict, total=False):
    """JSON Schema's words for limits."""

    minimum: float
    maximum: float
    exclusiveMinimum: float
    exclusiveMaximum: float
    minLength: int
    maxLength: int
    minItems: int
    maxItems: int
    pattern: str


class Limits(dict[str, Any]):
    """Limits of a value, in JSON Schema's words: `Annotated[str, "a name", Limits(minLength=1, maxLength=80)]`.

    They stand in the schema, and input is held to them before the function is called.
    """

    def __init__(self, **words: Unpack[Words]) -> None:
        super().__init__(words)

    def __hash__(self) -> int:  # type: ignore[override]
        """Unlike a dict it may stand in a union, which Python hashes."""
        return hash(tuple(sorted(self.items())))
