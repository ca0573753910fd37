"""Plans: answers that the mesh runs."""

from collections.abc import Mapping
from typing import Any

from consort._values import encode

PLAN_LIMIT = 1024 * 1024


class Plan:
    """An answer that is a plan instead of a result: return it from a handler.

    A plan is a workflow without required inputs, given as YAML or JSON text, or as a mapping that is dumped as JSON.
    The mesh checks it like any other definition and runs it as a child; the child's output becomes the step's. The
    step must say `plan: true`: if it does not, or if the plan has mistakes, the attempt fails with INVALID_ARGUMENT.

    ValueError if the text is empty or of more than 1 MiB, TypeError or ValueError for what JSON cannot say.
    """

    __slots__ = ("text",)

    def __init__(self, definition: str | Mapping[str, Any]) -> None:
        self.text = definition if isinstance(definition, str) else encode(dict(definition))
        if not self.text.strip():
            raise ValueError("definition: is empty; give the text of a workflow")
        size = len(self.text.encode())
        if size > PLAN_LIMIT:
            raise ValueError(f"definition: has {size} bytes; give at most {PLAN_LIMIT}")

    def __repr__(self) -> str:
        return f"Plan({self.text!r})"
