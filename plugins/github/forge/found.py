"""What GitHub answers, read with care: it is another program's word."""

from typing import Any

from consort.plugin import PluginError


class BrokenAnswerError(PluginError):
    """An answer that is not what its documentation says."""

    def __init__(self, what: str) -> None:
        super().__init__("UNAVAILABLE", f"GitHub's answer is broken: {what}", reason="BROKEN_ANSWER")


class Found:
    """An object of an answer. What must be there and is not raises BrokenAnswerError."""

    def __init__(self, value: Any) -> None:
        if not isinstance(value, dict):
            raise BrokenAnswerError(f"a {type(value).__name__} where an object should be")
        self._value: dict[str, Any] = value

    def text(self, name: str) -> str:
        """A text; empty if there is none."""
        value = self._value.get(name)
        return value if isinstance(value, str) else ""

    def needed(self, name: str) -> str:
        """A text that must be there."""
        if not (value := self.text(name)):
            raise BrokenAnswerError(f"no text '{name}'")
        return value

    def number(self, name: str) -> int:
        """An integer that must be there."""
        value = self._value.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise BrokenAnswerError(f"no number '{name}'")
        return value

    def count(self, name: str) -> int:
        """An integer; 0 if there is none."""
        return self.number(name) if self.has(name) else 0

    def flag(self, name: str) -> bool:
        """Whether something is said to be so."""
        return self._value.get(name) is True

    def maybe(self, name: str) -> bool | None:
        """Whether something is so; None if GitHub does not know."""
        value = self._value.get(name)
        return value if isinstance(value, bool) else None

    def inside(self, name: str) -> "Found":
        """An object within; an empty one if there is none."""
        value = self._value.get(name)
        return Found(value if isinstance(value, dict) else {})

    def each(self, name: str) -> list["Found"]:
        """The objects of a list within."""
        return objects(self._value.get(name) or [])

    def has(self, name: str) -> bool:
        """Whether something is there that is not null."""
        return self._value.get(name) is not None


def objects(value: Any) -> list[Found]:
    """A list of objects."""
    if not isinstance(value, list):
        raise BrokenAnswerError(f"a {type(value).__name__} where a list should be")
    return [Found(each) for each in value]
