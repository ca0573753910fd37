"""Networks."""

import json
from typing import Annotated, Any, TypedDict

from consort.plugin import Call, Limits, PluginError
from engine import rules
from engine.fields import flag, rows, table, text
from engine.operations._plugin import Labels, Most, Name, engine_of, plugin
from engine.patterns import matches
from engine.transport import Request

# Names that the engine has given away.
_TAKEN = ("bridge", "host", "none", "default")


class Network(TypedDict):
    """A network. An internal one leads nowhere but to its own containers."""

    id: str
    name: str
    driver: str
    internal: bool
    created: str
    labels: dict[str, str]


class Networks(TypedDict):
    """Networks; `truncated` says that there are more."""

    networks: list[Network]
    truncated: bool


@plugin.operation(effect="read")
def networks(call: Call, limit: Most = 100) -> Networks:
    """Lists the networks that may be touched, by name."""
    engine, settings = engine_of(call, "inspect"), call.config
    query = {}
    if not settings.networks:
        query["filters"] = json.dumps({"label": [f"{rules.OWNER}={settings.owner}"]})
    everything = rows(engine.ask(Request("GET", "/networks", query)))
    found = [each for each in everything if rules.may_touch(settings, each, [text(each, "Name")], settings.networks)]
    found.sort(key=lambda each: text(each, "Name"))
    return {"networks": [_network(each) for each in found[:limit]], "truncated": len(found) > limit}


@plugin.operation(effect="idempotent_write", dry_run=True)
def create_network(
    call: Call,
    name: Annotated[str, Limits(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")],
    internal: bool = True,
    labels: Labels | None = None,
) -> Network | None:
    """Creates a network for containers; one that is there stays as it is.

    Args:
        internal: It leads nowhere but to its containers. One that leads out must be granted by name.

    """
    engine, settings = engine_of(call, "networks"), call.config
    if name in _TAKEN:
        raise PluginError("INVALID_ARGUMENT", f"{name!r} is the engine's own", field="name")
    if not internal and not any(matches(name, each) for each in settings.networks):
        raise rules.denied(f"network '{name}', which leads out, is not granted", f'networks: ["{name}"]', field="name")
    wanted = {"Name": name, "Driver": "bridge", "Internal": internal, "Labels": rules.labels(call, labels)}
    if call.dry_run:
        call.would(f"create network {name}{', internal' if internal else ''}")
        return None
    try:
        found = rules.network(engine, name, "name")
    except PluginError as error:
        if error.code.name != "NOT_FOUND":
            raise
    else:
        return _as_wanted(found, name, internal=internal)
    try:
        engine.ask(Request("POST", "/networks/create", {}, {**wanted, "CheckDuplicate": True}))
    except PluginError as error:
        if error.code.name != "ALREADY_EXISTS":  # Another try of this call was faster.
            raise
    else:
        call.did(f"created network {name}{', internal' if internal else ''}")
    return _as_wanted(rules.network(engine, name, "name"), name, internal=internal)


@plugin.operation(effect="idempotent_write", dry_run=True)
def remove_network(call: Call, network: Name) -> bool:
    """Removes a network that no container uses; whether there was one.

    Args:
        network: Its name, or id.

    """
    engine = engine_of(call, "networks")
    try:
        found = rules.network(engine, network, "network")
        if call.dry_run:
            call.would(f"remove network {text(found, 'Name')}")
            return True
        engine.ask(Request("DELETE", f"/networks/{text(found, 'Id')}"))
    except PluginError as error:
        if error.code.name == "NOT_FOUND":
            return False
        raise
    call.did(f"removed network {text(found, 'Name')}")
    return True


def _as_wanted(found: dict[str, Any], name: str, *, internal: bool) -> Network:
    if internal and not flag(found, "Internal"):
        problem = f"there is a network '{name}' that leads out"
        raise PluginError("ALREADY_EXISTS", problem, field="internal")
    return _network(found)


def _network(found: dict[str, Any]) -> Network:
    return {
        "id": text(found, "Id"),
        "name": text(found, "Name"),
        "driver": text(found, "Driver"),
        "internal": flag(found, "Internal"),
        "created": text(found, "Created"),
        "labels": table(found, "Labels"),
    }
