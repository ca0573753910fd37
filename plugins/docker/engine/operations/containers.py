"""Containers: what is there, and their lives."""

import json
from typing import Annotated, Any, TypedDict

from consort.plugin import Call, Limits, PluginError
from engine import rules
from engine.errors import LATE, garbled
from engine.fields import flag, inner, number, rows, table, text, texts
from engine.operations._plugin import Most, Name, engine_of, plugin
from engine.transport import Engine, Request

_KILL = "SIGKILL"
Signal = Annotated[str, Limits(pattern="^SIG[A-Z0-9+-]{2,12}$")]
Grace = Annotated[int, Limits(minimum=0, maximum=600)]
# Of `wait`, if its caller says nothing; the engine is asked anew after each round.
_WAIT_S = 3600.0
_ROUND_S = 60.0


class Listed(TypedDict):
    """A container. `state` is created, running, paused, restarting, exited, removing or dead; `created` in seconds."""

    id: str
    name: str
    image: str
    state: str
    status: str
    created: int
    labels: dict[str, str]


class Containers(TypedDict):
    """Containers; `truncated` says that there are more."""

    containers: list[Listed]
    truncated: bool


class Mounted(TypedDict):
    """What is mounted: its kind, where it comes from, and where it is."""

    kind: str
    source: str
    target: str
    read_only: bool


class Detail(TypedDict):
    """A container. `exit_code` is null until it has ended. Times are the engine's (RFC 3339), empty if not yet."""

    id: str
    name: str
    image: str
    image_id: str
    state: str
    exit_code: int | None
    out_of_memory: bool
    error: str
    health: str
    created: str
    started: str
    finished: str
    command: list[str]
    mounts: list[Mounted]
    networks: dict[str, str]
    labels: dict[str, str]
    privileged: bool


class Ended(TypedDict):
    """How a container ended."""

    exit_code: int
    error: str


@plugin.operation(effect="read")
def containers(call: Call, running: bool = False, limit: Most = 100) -> Containers:
    """Lists the containers that may be touched, newest first.

    Args:
        running: Only those that run.

    """
    engine, settings = engine_of(call, "inspect"), call.config
    query = {"all": "false" if running else "true"}
    if not settings.containers:
        query["filters"] = json.dumps({"label": [f"{rules.OWNER}={settings.owner}"]})
    everything = rows(engine.ask(Request("GET", "/containers/json", query)))
    found = [each for each in everything if rules.may_touch(settings, each, _names(each), settings.containers)]
    found.sort(key=lambda each: -number(each, "Created"))
    return {"containers": [_listed(each) for each in found[:limit]], "truncated": len(found) > limit}


@plugin.operation(effect="read")
def container(call: Call, container: Name) -> Detail:
    """Says what a container is. What is in its environment is left out.

    Args:
        container: Its name, or id.

    """
    return detail(rules.container(engine_of(call, "inspect"), container))


@plugin.operation(effect="idempotent_write", dry_run=True)
def start(call: Call, container: Name) -> Detail | None:
    """Starts a container; one that runs stays as it is.

    Args:
        container: Its name, or id.

    """
    engine = engine_of(call, "containers")
    found = rules.container(engine, container)
    if _said(call, f"start container {named(found)}"):
        return None
    engine.ask(Request("POST", f"/containers/{text(found, 'Id')}/start"))
    if not flag(found, "State", "Running"):
        call.did(f"started container {named(found)}")
    return detail(rules.container(engine, text(found, "Id")))


@plugin.operation(effect="idempotent_write", dry_run=True, timeout=660)
def stop(call: Call, container: Name, grace_s: Grace = 10) -> Detail | None:
    """Stops a container, after `grace_s` seconds by force; one that does not run stays as it is.

    Args:
        container: Its name, or id.

    """
    engine = engine_of(call, "containers")
    found = rules.container(engine, container)
    if _said(call, f"stop container {named(found)}"):
        return None
    path = f"/containers/{text(found, 'Id')}/stop"
    engine.ask(Request("POST", path, {"t": str(grace_s)}), grace_s + call.config.timeout_s)
    if flag(found, "State", "Running"):
        call.did(f"stopped container {named(found)}")
    return detail(rules.container(engine, text(found, "Id")))


@plugin.operation(effect="write", dry_run=True, timeout=660)
def restart(call: Call, container: Name, grace_s: Grace = 10) -> Detail | None:
    """Stops a container if it runs, and starts it.

    Args:
        container: Its name, or id.

    """
    engine = engine_of(call, "containers")
    found = rules.container(engine, container)
    if _said(call, f"restart container {named(found)}"):
        return None
    path = f"/containers/{text(found, 'Id')}/restart"
    engine.ask(Request("POST", path, {"t": str(grace_s)}, again=False), grace_s + call.config.timeout_s)
    call.did(f"restarted container {named(found)}")
    return detail(rules.container(engine, text(found, "Id")))


@plugin.operation(effect="write", dry_run=True)
def kill(call: Call, container: Name, signal: Signal = _KILL) -> None:
    """Sends a signal to the first process of a container that runs.

    Args:
        container: Its name, or id.
        signal: Such as SIGHUP.

    """
    engine = engine_of(call, "containers")
    found = rules.container(engine, container)
    if _said(call, f"send {signal} to container {named(found)}"):
        return
    engine.ask(Request("POST", f"/containers/{text(found, 'Id')}/kill", {"signal": signal}, again=False))
    call.did(f"sent {signal} to container {named(found)}")


@plugin.operation(effect="read", timeout=_WAIT_S)
def wait(call: Call, container: Name) -> Ended:
    """Waits until a container does not run any more; the call's deadline says how long at most.

    Args:
        container: Its name, or id.

    """
    engine = engine_of(call, "inspect")
    found = rules.container(engine, container)
    if text(found, "State", "Status") == "created":
        problem = f"container {named(found)} was not started yet"
        raise PluginError("FAILED_PRECONDITION", problem, field="container", reason="NOT_STARTED")
    path = f"/containers/{text(found, 'Id')}/wait"
    while True:
        try:
            ended = engine.ask(Request("POST", path, {"condition": "not-running"}), _ROUND_S)
        except PluginError as error:
            if error.reason != LATE:
                raise
            call.raise_if_cancelled()
            continue
        if not isinstance(inner(ended, "StatusCode"), int):
            raise garbled("no exit code")
        return {"exit_code": number(ended, "StatusCode"), "error": text(ended, "Error", "Message")}


@plugin.operation(effect="idempotent_write", dry_run=True)
def remove(call: Call, container: Name, force: bool = False, volumes: bool = True) -> bool:
    """Removes a container; whether there was one.

    Args:
        container: Its name, or id.
        force: Also one that runs, which is killed.
        volumes: With the volumes that have no name.

    """
    engine = engine_of(call, "containers")
    try:
        found = rules.container(engine, container)
        if _said(call, f"remove container {named(found)}"):
            return True
        query = {"force": str(force).lower(), "v": str(volumes).lower()}
        engine.ask(Request("DELETE", f"/containers/{text(found, 'Id')}", query))
    except PluginError as error:
        if error.code.name == "NOT_FOUND":
            return False
        raise
    call.did(f"removed container {named(found)}")
    return True


def detail(found: dict[str, Any]) -> Detail:
    """A container, as the engine describes it."""
    state = text(found, "State", "Status")
    has_ended = state in ("exited", "dead")
    return {
        "id": text(found, "Id"),
        "name": text(found, "Name").lstrip("/"),
        "image": text(found, "Config", "Image"),
        "image_id": text(found, "Image"),
        "state": state,
        "exit_code": number(found, "State", "ExitCode") if has_ended else None,
        "out_of_memory": flag(found, "State", "OOMKilled"),
        "error": text(found, "State", "Error"),
        "health": text(found, "State", "Health", "Status"),
        "created": text(found, "Created"),
        "started": _time(found, "StartedAt"),
        "finished": _time(found, "FinishedAt"),
        "command": [word for word in (text(found, "Path"), *texts(found, "Args")) if word],
        "mounts": [
            {
                "kind": text(each, "Type"),
                "source": text(each, "Name") or text(each, "Source"),
                "target": text(each, "Destination"),
                "read_only": not flag(each, "RW"),
            }
            for each in rows(found, "Mounts")
        ],
        "networks": _addresses(found),
        "labels": table(found, "Config", "Labels"),
        "privileged": flag(found, "HostConfig", "Privileged"),
    }


def named(found: dict[str, Any]) -> str:
    """A container as logs name it."""
    return f"{text(found, 'Name').lstrip('/')} ({text(found, 'Id')[:12]})"


def count(engine: Engine) -> int:
    """How many containers of this owner there are, whether they run or not."""
    query = {"all": "true", "filters": json.dumps({"label": [f"{rules.OWNER}={engine.call.config.owner}"]})}
    return sum(1 for _ in rows(engine.ask(Request("GET", "/containers/json", query))))


def _listed(found: dict[str, Any]) -> Listed:
    return {
        "id": text(found, "Id"),
        "name": next(iter(_names(found)), ""),
        "image": text(found, "Image"),
        "state": text(found, "State"),
        "status": text(found, "Status"),
        "created": number(found, "Created"),
        "labels": table(found, "Labels"),
    }


def _names(found: dict[str, Any]) -> list[str]:
    return [name.lstrip("/") for name in texts(found, "Names")]


def _said(call: Call, line: str) -> bool:
    """In a dry run, says what would be done."""
    if call.dry_run:
        call.would(line)
    return call.dry_run


def _time(found: dict[str, Any], name: str) -> str:
    told = text(found, "State", name)
    return "" if told.startswith("0001-") else told  # The engine's word for never.


def _addresses(found: dict[str, Any]) -> dict[str, str]:
    networks = inner(found, "NetworkSettings", "Networks")
    return {name: text(each, "IPAddress") for name, each in networks.items()} if isinstance(networks, dict) else {}
