"""The plugin itself, and the words that its operations share."""

from typing import Annotated

from consort.plugin import Call, Limits, Plugin, grants
from engine.settings import Settings, check
from engine.transport import Engine

plugin = Plugin(
    "docker",
    version="0.1.0",
    description="Containers, images, volumes and networks of a Docker Engine, within what the operator grants.",
    config=Settings,
    # Most of them wait.
    threads=48,
)
plugin.on_configure(check)

Name = Annotated[str, Limits(minLength=1, maxLength=128)]
Image = Annotated[str, Limits(minLength=1, maxLength=255)]
Text = Annotated[str, Limits(maxLength=32 * 1024)]
Words = Annotated[list[Text], Limits(maxItems=1000)]
Most = Annotated[int, Limits(minimum=1, maximum=1000)]
Labels = dict[str, Annotated[str, Limits(maxLength=4096)]]


def engine_of(call: Call, capability: str) -> Engine:
    """The engine, if the call's capability is granted."""
    grants.need(call, capability)
    return Engine(call)
