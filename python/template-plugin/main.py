"""The plugin {{name}}: each decorated function is an operation of the mesh."""

from dataclasses import dataclass
from typing import Annotated

from consort.plugin import Call, Limits, Plugin, PluginError

plugin = Plugin("{{name}}", version="0.1.0", description="Says hello.")


@dataclass
class Greeting:
    """What was said, and how often."""

    text: str
    times: int


@plugin.operation(effect="read")
def greet(call: Call, who: str, times: Annotated[int, Limits(minimum=1, maximum=100)] = 1) -> Greeting:
    """Greets somebody.

    Args:
        who: Whom to greet.
        times: How often.

    """
    if not who.strip():
        raise PluginError("INVALID_ARGUMENT", "nobody to greet; give a name", field="who")
    said = []
    for number in range(1, times + 1):
        call.raise_if_cancelled()
        said.append(f"Hello, {who}!")
        call.progress(number / times, f"said it {number} times")
    return Greeting(" ".join(said), times)


if __name__ == "__main__":
    plugin.serve()
