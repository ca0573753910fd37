"""Operations that tell how the machine is."""

import os

from consort.plugin import Call, grants
from machine import facts
from machine.operations._plugin import plugin


@plugin.operation(effect="read")
def machine(call: Call) -> facts.Machine:
    """Tells how the machine is: uptime, load, memory, the disks of granted paths, battery."""
    grants.need(call, "machine")
    return facts.machine(call)


@plugin.operation(effect="read")
def environment(call: Call) -> dict[str, str]:
    """Tells the variables of the mesh's environment that are granted by name."""
    grants.need(call, "machine")
    return {name: os.environ[name] for name in sorted(call.permissions.env) if name in os.environ}
