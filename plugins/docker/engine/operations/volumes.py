"""Volumes."""

import json
from typing import Annotated, Any, TypedDict

from consort.plugin import Call, Limits, PluginError
from engine import rules
from engine.fields import rows, table, text, texts
from engine.operations._plugin import Labels, Most, Name, engine_of, plugin
from engine.transport import Request


class Volume(TypedDict):
    """A volume. `created` is the engine's word (RFC 3339)."""

    name: str
    driver: str
    created: str
    labels: dict[str, str]


class Volumes(TypedDict):
    """Volumes; `truncated` says that there are more. `warnings` are the engine's own."""

    volumes: list[Volume]
    truncated: bool
    warnings: list[str]


@plugin.operation(effect="read")
def volumes(call: Call, limit: Most = 100) -> Volumes:
    """Lists the volumes that may be touched, by name."""
    engine, settings = engine_of(call, "inspect"), call.config
    query = {}
    if not settings.volumes:
        query["filters"] = json.dumps({"label": [f"{rules.OWNER}={settings.owner}"]})
    answer = engine.ask(Request("GET", "/volumes", query))
    everything = rows(answer, "Volumes")
    found = [each for each in everything if rules.may_touch(settings, each, [text(each, "Name")], settings.volumes)]
    found.sort(key=lambda each: text(each, "Name"))
    listed = [_volume(each) for each in found[:limit]]
    return {"volumes": listed, "truncated": len(found) > limit, "warnings": texts(answer, "Warnings")[:100]}


@plugin.operation(effect="idempotent_write", dry_run=True)
def create_volume(
    call: Call,
    name: Annotated[str, Limits(pattern="^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$")],
    labels: Labels | None = None,
) -> Volume | None:
    """Creates a volume of the engine's own kind; one that is there stays as it is."""
    engine = engine_of(call, "volumes")
    wanted = {"Name": name, "Driver": "local", "Labels": rules.labels(call, labels)}
    if call.dry_run:
        call.would(f"create volume {name}")
        return None
    try:
        return _volume(rules.volume(engine, name, "name"))
    except PluginError as error:
        if error.code.name != "NOT_FOUND":
            raise
    found = engine.ask(Request("POST", "/volumes/create", {}, wanted))
    call.did(f"created volume {name}")
    return _volume(found)


@plugin.operation(effect="idempotent_write", dry_run=True)
def remove_volume(call: Call, volume: Name) -> bool:
    """Removes a volume with what is in it, if no container uses it; whether there was one.

    Args:
        volume: Its name.

    """
    engine = engine_of(call, "volumes")
    try:
        rules.volume(engine, volume, "volume")
        if call.dry_run:
            call.would(f"remove volume {volume}")
            return True
        engine.ask(Request("DELETE", f"/volumes/{volume}"))
    except PluginError as error:
        if error.code.name == "NOT_FOUND":
            return False
        raise
    call.did(f"removed volume {volume}")
    return True


def _volume(found: Any) -> Volume:
    return {
        "name": text(found, "Name"),
        "driver": text(found, "Driver"),
        "created": text(found, "CreatedAt"),
        "labels": table(found, "Labels"),
    }
