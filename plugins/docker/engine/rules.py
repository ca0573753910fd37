"""What the operator grants of the engine, and what belongs to this plugin."""

import posixpath
import re
from collections.abc import Iterable, Mapping
from typing import Any

from consort.plugin import Call, PluginError
from engine.fields import inner, table, text
from engine.patterns import image_fits, matches, reference
from engine.settings import Settings
from engine.transport import Engine, Request

OWNER = "dev.consort.owner"
KEY = "dev.consort.key"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_IMAGE_ID = re.compile(r"(?:sha256:)?[0-9a-f]{12,64}")


def denied(problem: str, line: str, *, field: str) -> PluginError:
    """The error for what the configuration does not grant, with the line that would."""
    told = f"{problem}; the plugin's configuration would say `{line}`"
    return PluginError("PERMISSION_DENIED", told, field=field, reason="NOT_GRANTED")


def image(settings: Settings, name: str, *, field: str = "image") -> str:
    """The whole name of a granted image. An id of the engine is one only if all images are granted."""
    if _IMAGE_ID.fullmatch(name) and (name.startswith("sha256:") or len(name) in (12, 64)):
        if "*" in settings.images:
            return name
        raise denied(f"{name!r} is an id, which may be any image's", 'images: ["*"]', field=field)
    whole = _named(name, field)
    if not image_fits(whole, settings.images):
        raise denied(f"image {whole} is not granted", f'images: ["{name}"]', field=field)
    return whole


def built(settings: Settings, tag: str) -> str:
    """The whole name that a build may give."""
    whole = _named(tag, "tag")
    if "@" in whole or not image_fits(whole, settings.builds):
        raise denied(f"a build may not be named {whole}", f'builds: ["{tag}"]', field="tag")
    return whole


def seen(name: str) -> str:
    """The name of an image that is only looked at: whole, or an id."""
    return name if _IMAGE_ID.fullmatch(name) else _named(name, "image")


def named(name: str, field: str) -> str:
    """A name, or an id, as paths take it. INVALID_ARGUMENT if it is neither."""
    if not _NAME.fullmatch(name):
        problem = f"{name!r} is no name; use 1 to 128 of A-Z, a-z, 0-9, '_', '.' and '-', no sign first"
        raise PluginError("INVALID_ARGUMENT", problem, field=field)
    return name


def bind(settings: Settings, source: str, *, read_only: bool, field: str) -> None:
    """Refuses a folder of the machine that is not granted, or not for writing."""
    if not source.startswith("/") or posixpath.normpath(source) != source or "\0" in source:
        problem = f"{source!r} is no absolute path without '.', '..' and double slashes"
        raise PluginError("INVALID_ARGUMENT", problem, field=field)
    for grant in settings.mounts:
        if matches(source, grant.removesuffix(":ro")) and (read_only or not grant.endswith(":ro")):
            return
    line = f'mounts: ["{source}:ro"]' if read_only else f'mounts: ["{source}"]'
    raise denied(f"{source} may not be mounted{' ' if read_only else ' for writing'}".rstrip(), line, field=field)


def port(settings: Settings, address: str, number: int, field: str) -> None:
    """Refuses an address on the machine that is not granted."""
    wanted = f"{address}:{number}"
    if not any(matches(wanted, grant) for grant in settings.ports):
        raise denied(f"{wanted} may not be opened", f'ports: ["{wanted}"]', field=field)


def capability(settings: Settings, name: str, field: str) -> str:
    """The name of a granted capability of the kernel, as the engine has it."""
    wanted = name.upper().removeprefix("CAP_")
    granted = {each.upper().removeprefix("CAP_") for each in settings.add_capabilities}
    if wanted not in granted or wanted == "ALL":
        raise denied(f"capability {wanted} is not granted", f'add_capabilities: ["{wanted}"]', field=field)
    return wanted


def owned(settings: Settings, found: Mapping[str, Any]) -> bool:
    """Whether the labels say that this plugin made it."""
    return table(found, "Labels").get(OWNER) == settings.owner


def may_touch(settings: Settings, found: Mapping[str, Any], names: Iterable[str], patterns: list[str]) -> bool:
    """Whether this plugin made it, or one of its names is granted."""
    return owned(settings, found) or any(matches(name, each) for name in names for each in patterns)


def labels(call: Call, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The labels of what is made: the caller's, and whose it is."""
    given = dict(more or {})
    for name in given:
        if name.startswith("dev.consort."):
            raise PluginError("INVALID_ARGUMENT", f"{name!r} is the plugin's own", field="labels")
    asked_by = {"dev.consort.step": call.origin.step, "dev.consort.agent": call.origin.agent}
    return {**given, **{name: value for name, value in asked_by.items() if value}, OWNER: call.config.owner}


def container(engine: Engine, name: str, *, field: str = "container") -> dict[str, Any]:
    """What the engine knows of a container that may be touched; its `Id` names no other one later."""
    settings = engine.call.config
    found = _looked_up(engine, f"/containers/{named(name, field)}/json", field, f"there is no container '{name}'")
    own_name = text(found, "Name").lstrip("/")
    if may_touch(settings, inner(found, "Config") or {}, [own_name], settings.containers):
        return found
    line = f'containers: ["{own_name}"]'
    raise denied(f"container '{own_name}' is not of owner '{settings.owner}'", line, field=field)


def volume(engine: Engine, name: str, field: str) -> dict[str, Any]:
    """What the engine knows of a volume that may be touched."""
    found = _looked_up(engine, f"/volumes/{named(name, field)}", field, f"there is no volume '{name}'")
    settings = engine.call.config
    if may_touch(settings, found, [name], settings.volumes):
        return found
    raise denied(f"volume '{name}' is not of owner '{settings.owner}'", f'volumes: ["{name}"]', field=field)


def network(engine: Engine, name: str, field: str) -> dict[str, Any]:
    """What the engine knows of a network that may be touched."""
    found = _looked_up(engine, f"/networks/{named(name, field)}", field, f"there is no network '{name}'")
    settings = engine.call.config
    own_name = text(found, "Name")
    if may_touch(settings, found, [own_name], settings.networks):
        return found
    raise denied(f"network '{own_name}' is not of owner '{settings.owner}'", f'networks: ["{own_name}"]', field=field)


def _named(name: str, field: str) -> str:
    whole = reference(name)
    if whole is None:
        problem = f"{name!r} names no image; write for example alpine:3.20, or ghcr.io/team/app@sha256:…"
        raise PluginError("INVALID_ARGUMENT", problem, field=field)
    return whole


def _looked_up(engine: Engine, path: str, field: str, absent: str) -> dict[str, Any]:
    try:
        found = engine.ask(Request("GET", path))
    except PluginError as error:
        if error.code.name == "NOT_FOUND":
            raise PluginError("NOT_FOUND", absent, field=field, reason="ENGINE_REFUSED") from None
        raise
    return found if isinstance(found, dict) else {}
