"""Images: what is there, pulling and removing."""

import base64
import json
from typing import Annotated, Any, TypedDict

from consort.plugin import Call, Limits, PluginError
from engine import rules
from engine.errors import refused_in_stream
from engine.fields import number, rows, table, text, texts
from engine.messages import PullProgress, failure_in, messages
from engine.operations._plugin import Image, Most, engine_of, plugin
from engine.transport import Engine, Request

# Of a pull whose caller says nothing, and of what the engine tells meanwhile.
PULL_S = 3600.0
MOST_TOLD = 64 * 1024 * 1024
_HUB = "docker.io"


class Listed(TypedDict):
    """An image. `created` is in seconds since 1970."""

    id: str
    tags: list[str]
    digests: list[str]
    size_bytes: int
    created: int


class Images(TypedDict):
    """Images; `truncated` says that there are more."""

    images: list[Listed]
    truncated: bool


class Detail(TypedDict):
    """An image, and how its containers begin. `created` is as the engine writes it (RFC 3339)."""

    id: str
    tags: list[str]
    digests: list[str]
    size_bytes: int
    created: str
    system: str
    architecture: str
    entrypoint: list[str]
    command: list[str]
    user: str
    workdir: str
    ports: list[str]
    volumes: list[str]
    labels: dict[str, str]


class Pulled(TypedDict):
    """An image that is there now; `updated` says whether it was not before."""

    image: str
    id: str
    digest: str
    updated: bool


class Removed(TypedDict):
    """What is gone: names, and the image itself with its layers if it has no other name."""

    untagged: list[str]
    deleted: list[str]


@plugin.operation(effect="read")
def images(call: Call, name: Annotated[str, Limits(maxLength=255)] = "", limit: Most = 100) -> Images:
    """Lists images, newest first.

    Args:
        name: Only those of this name; `*` stands for what is between slashes.

    """
    query = {"filters": json.dumps({"reference": [name]})} if name else {}
    found = list(rows(engine_of(call, "inspect").ask(Request("GET", "/images/json", query))))
    found.sort(key=lambda each: -number(each, "Created"))
    listed: list[Listed] = [
        {
            "id": text(each, "Id"),
            "tags": texts(each, "RepoTags"),
            "digests": texts(each, "RepoDigests"),
            "size_bytes": number(each, "Size"),
            "created": number(each, "Created"),
        }
        for each in found[:limit]
    ]
    return {"images": listed, "truncated": len(found) > limit}


@plugin.operation(effect="read")
def image(call: Call, image: Image) -> Detail:
    """Says what an image is. What it sets in the environment is left out.

    Args:
        image: Its name, or id.

    """
    engine = engine_of(call, "inspect")
    found = _inspected(engine, rules.seen(image))
    if found is None:
        raise PluginError("NOT_FOUND", f"there is no image '{image}'", field="image", reason="NO_IMAGE")
    config = found.get("Config")
    return {
        "id": text(found, "Id"),
        "tags": texts(found, "RepoTags"),
        "digests": texts(found, "RepoDigests"),
        "size_bytes": number(found, "Size"),
        "created": text(found, "Created"),
        "system": text(found, "Os"),
        "architecture": text(found, "Architecture"),
        "entrypoint": texts(config, "Entrypoint"),
        "command": texts(config, "Cmd"),
        "user": text(config, "User"),
        "workdir": text(config, "WorkingDir"),
        "ports": _names(config, "ExposedPorts"),
        "volumes": _names(config, "Volumes"),
        "labels": table(config, "Labels"),
    }


@plugin.operation(effect="idempotent_write", dry_run=True, timeout=PULL_S)
def pull(call: Call, image: Image, platform: Annotated[str, Limits(maxLength=100)] = "") -> Pulled | None:
    """Pulls an image, and tells how far it is.

    Args:
        image: Its name, with a tag (left out, latest) or a digest; it must be granted.
        platform: Such as linux/arm64; left out, the engine's own.

    """
    engine = engine_of(call, "images")
    whole = rules.image(call.config, image)
    if whole.startswith("sha256:") or "/" not in whole:
        raise PluginError("INVALID_ARGUMENT", "an id cannot be pulled; name it", field="image")
    if call.dry_run:
        call.would(f"pull image {whole}")
        return None
    query = {"fromImage": whole, **({"platform": platform} if platform else {})}
    request = Request("POST", "/images/create", query, headers=_login(call, whole))
    progress, digest, updated = PullProgress(call), "", False
    with engine.opened(request, PULL_S) as answer:
        for message in messages(answer.pieces(MOST_TOLD)):
            if said := failure_in(message):
                raise refused_in_stream(said, f"{whole} cannot be pulled")
            progress.take(message)
            status = text(message, "status")
            digest = status.removeprefix("Digest: ") if status.startswith("Digest: ") else digest
            updated |= status.startswith("Status: Downloaded newer image")
    found = _inspected(engine, whole)
    if found is None:
        raise PluginError("UNAVAILABLE", f"the engine has no {whole} although it pulled it", reason="ENGINE_GARBLED")
    if updated:
        call.did(f"pulled image {whole}")
    return {"image": whole, "id": text(found, "Id"), "digest": digest, "updated": updated}


@plugin.operation(effect="idempotent_write", dry_run=True)
def remove_image(call: Call, image: Image, force: bool = False) -> Removed | None:
    """Removes a name of an image, and the image with its last name; one that is not there is removed already.

    Args:
        image: Its name; it must be granted.
        force: Also if stopped containers use it.

    """
    engine = engine_of(call, "images")
    whole = rules.image(call.config, image)
    if call.dry_run:
        call.would(f"remove image {whole}")
        return None
    try:
        found = engine.ask(Request("DELETE", f"/images/{whole}", {"force": "true"} if force else {}))
    except PluginError as error:
        if error.code.name == "NOT_FOUND":
            return {"untagged": [], "deleted": []}
        raise
    call.did(f"removed image {whole}")
    return {
        "untagged": [name for each in rows(found) if (name := text(each, "Untagged"))],
        "deleted": [name for each in rows(found) if (name := text(each, "Deleted"))],
    }


def _inspected(engine: Engine, name: str) -> dict[str, Any] | None:
    try:
        found = engine.ask(Request("GET", f"/images/{name}/json"))
    except PluginError as error:
        if error.code.name == "NOT_FOUND":
            return None
        raise
    return found if isinstance(found, dict) else {}


def _login(call: Call, whole: str) -> dict[str, str]:
    """The header that shows who pulls, if the configuration knows somebody for the registry."""
    host = whole.partition("/")[0]
    registry = call.config.registries.get(host)
    if registry is None:
        return {}
    server = "https://index.docker.io/v1/" if host == _HUB else host
    shown = {
        "username": registry.username,
        "password": call.host.get_secret(registry.secret),
        "serveraddress": server,
    }
    return {"x-registry-auth": base64.urlsafe_b64encode(json.dumps(shown).encode()).decode()}


def _names(config: Any, name: str) -> list[str]:
    found = config.get(name) if isinstance(config, dict) else None
    return sorted(found) if isinstance(found, dict) else []
