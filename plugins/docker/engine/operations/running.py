"""Running a program in a container of its own."""

import hashlib
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypedDict

from consort.plugin import Call, Limits, PluginError
from engine import rules
from engine.fields import table, text
from engine.operations._plugin import Image, Labels, Text, Words, engine_of, plugin
from engine.operations.containers import Detail, count, detail, named
from engine.transport import Engine, Request

_MIB = 1024 * 1024
_LOGS = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
_TMPFS = "rw,noexec,nosuid,nodev,size=67108864"
Place = Annotated[str, Limits(pattern="^/.{0,4095}$")]
_ALONE = ("none", "host")


@dataclass
class Mount:
    """What is mounted at `target`: a granted folder of the machine (`source`), or a volume. Read only unless said."""

    target: Place
    source: str = ""
    volume: str = ""
    read_only: bool = True


@dataclass
class Port:
    """A port of the container, reached at a granted address of the machine."""

    container: Annotated[int, Limits(minimum=1, maximum=65535)]
    host: Annotated[int, Limits(minimum=1, maximum=65535)]
    address: Annotated[str, Limits(pattern="^[0-9a-fA-F.:]{2,45}$")] = "127.0.0.1"
    protocol: Literal["tcp", "udp"] = "tcp"


@dataclass
class Isolation:
    """What sets a container apart less than usual. Each is granted by the configuration."""

    network: Annotated[str, Limits(minLength=1, maxLength=128)] = "none"
    add_capabilities: Annotated[list[str], Limits(maxItems=50)] = field(default_factory=list)
    privileged: bool = False
    host_pid: bool = False
    writable: bool = True


class Run(TypedDict):
    """The container, and whether this call made it."""

    container: Detail
    created: bool


@plugin.operation(effect="idempotent_write", dry_run=True)
def run(
    call: Call,
    image: Image,
    command: Words = [],  # noqa: B006 - never changed.
    name: Annotated[str, Limits(pattern="^([a-z0-9][a-z0-9_.-]{0,60})?$")] = "",
    entrypoint: Words = [],  # noqa: B006
    env: dict[str, Text] | None = None,
    workdir: Annotated[str, Limits(maxLength=4096)] = "",
    user: Annotated[str, Limits(maxLength=100)] = "",
    mounts: Annotated[list[Mount], Limits(maxItems=50)] = [],  # noqa: B006
    ports: Annotated[list[Port], Limits(maxItems=50)] = [],  # noqa: B006
    scratch: Annotated[list[Place], Limits(maxItems=20)] = [],  # noqa: B006
    labels: Labels | None = None,
    isolation: Isolation = Isolation(),  # noqa: B008 - never changed.
    memory_mib: Annotated[int, Limits(minimum=6)] | None = None,
    cpus: Annotated[float, Limits(minimum=0.01)] | None = None,
    processes: Annotated[int, Limits(minimum=1)] | None = None,
) -> Run | None:
    """Makes a container and starts it. A repeated call finds the container that the first one made, and starts it once.

    It has no network, no folder of the machine and no capabilities of the kernel unless they are asked for and granted.
    `wait` waits for its end, `logs` reads what it wrote, `remove` removes it.

    Args:
        image: Granted, and pulled before.
        command: As it is, in place of the image's; no shell reads it.
        name: The container's name begins so, and other containers of its network find it by that.
        env: Variables beside those of the image.
        scratch: Folders in memory, of 64 MiB each.
        memory_mib: Left out, the most that the configuration grants; so are cpus and processes.

    """
    engine = engine_of(call, "containers")
    whole = rules.image(call.config, image)
    host = _host(call, mounts, ports, scratch, isolation, memory_mib, cpus, processes)
    digest = hashlib.sha256((call.idempotency_key or call.id).encode()).hexdigest()
    unique = f"{call.config.owner}-{f'{name}-' if name else ''}{digest[:16]}"
    config: dict[str, Any] = {
        "Image": whole,
        "Env": [f"{key}={value}" for key, value in _checked(env or {}).items()],
        "Labels": {**rules.labels(call, labels), rules.KEY: digest},
        "HostConfig": host,
        "OpenStdin": False,
        "Tty": False,
        "ExposedPorts": {f"{each.container}/{each.protocol}": {} for each in ports},
    }
    given = {"Cmd": command, "Entrypoint": entrypoint, "WorkingDir": workdir, "User": user}
    config |= {key: value for key, value in given.items() if value}
    if name and isolation.network not in (*_ALONE, "bridge", "default"):
        config["NetworkingConfig"] = {"EndpointsConfig": {isolation.network: {"Aliases": [name]}}}
    if call.dry_run:
        call.would(f"run {' '.join([whole, *command])} as container {unique}")
        return None
    _look_at_places(engine, mounts, isolation)
    made = _made(engine, unique, config, digest)
    found = rules.container(engine, unique)
    if text(found, "State", "Status") == "created":
        _started(engine, found, image)
        call.did(f"ran {' '.join([whole, *command])} as container {named(found)}")
        found = rules.container(engine, text(found, "Id"))
    return {"container": detail(found), "created": made}


def _made(engine: Engine, unique: str, config: dict[str, Any], digest: str) -> bool:
    """Whether the container was made; it is there in any case."""
    try:
        found = rules.container(engine, unique)
    except PluginError as error:
        if error.code.name != "NOT_FOUND":
            raise
    else:
        return _same(found, digest)
    most = engine.call.config.most_containers
    if count(engine) >= most:
        problem = f"there are {most} containers of this owner already; remove one"
        raise PluginError("RESOURCE_EXHAUSTED", problem, reason="TOO_MANY_CONTAINERS")
    try:
        engine.ask(Request("POST", "/containers/create", {"name": unique}, config))
    except PluginError as error:
        if error.code.name == "ALREADY_EXISTS":  # Another try of this call was faster.
            return _same(rules.container(engine, unique), digest)
        if error.code.name == "NOT_FOUND" and "image" in error.message.lower():
            problem = f"{error.message}; pull it first"
            raise PluginError("NOT_FOUND", problem, field="image", reason="NO_IMAGE") from None
        raise
    return True


def _same(found: dict[str, Any], digest: str) -> bool:
    """False, for nothing was made; refuses a container that only has the same name."""
    if table(found, "Config", "Labels").get(rules.KEY) != digest:
        problem = f"container {named(found)} is another one with the same name"
        raise PluginError("ALREADY_EXISTS", problem, field="name")
    return False


def _started(engine: Engine, found: dict[str, Any], image: str) -> None:
    """Starts it. One that cannot be started is removed, as nobody would know of it."""
    path = f"/containers/{text(found, 'Id')}"
    try:
        engine.ask(Request("POST", f"{path}/start"))
    except PluginError as error:
        if error.reason == "ENGINE_REFUSED":
            engine.ask(Request("DELETE", path, {"force": "true", "v": "true"}))
            problem = f"a container of {image} cannot be started: {error.message}"
            raise PluginError(error.code, problem, reason="NOT_STARTED") from None
        raise


def _host(
    call: Call,
    mounts: list[Mount],
    ports: list[Port],
    scratch: list[str],
    isolation: Isolation,
    memory_mib: int | None,
    cpus: float | None,
    processes: int | None,
) -> dict[str, Any]:
    """What the container has of the machine. PERMISSION_DENIED for what is not granted."""
    settings = call.config
    for wanted, granted, line in (
        (isolation.privileged, settings.privileged, "privileged"),
        (isolation.host_pid, settings.host_pid, "host_pid"),
        (isolation.network == "host", settings.host_network, "host_network"),
    ):
        if wanted and not granted:
            raise rules.denied(f"'{line}' is not granted", f"{line}: true", field="isolation")
    memory = _most(memory_mib, settings.memory_mib, "memory_mib") * _MIB
    bindings = {
        f"{each.container}/{each.protocol}": [{"HostIp": each.address, "HostPort": str(each.host)}] for each in ports
    }
    for number, each in enumerate(ports):
        rules.port(settings, each.address, each.host, f"ports[{number}]")
    if ports and isolation.network in _ALONE:
        problem = f"have no use in network '{isolation.network}'; name another one as isolation.network"
        raise PluginError("INVALID_ARGUMENT", problem, field="ports")
    added = [rules.capability(settings, each, "isolation.add_capabilities") for each in isolation.add_capabilities]
    return {
        "Privileged": isolation.privileged,
        "CapDrop": ["ALL"],
        "CapAdd": added,
        "SecurityOpt": [] if isolation.privileged else ["no-new-privileges:true"],
        "NetworkMode": isolation.network,
        "PidMode": "host" if isolation.host_pid else "",
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "ReadonlyRootfs": not isolation.writable,
        "Mounts": [_mount(settings, each, f"mounts[{number}]") for number, each in enumerate(mounts)],
        "Tmpfs": dict.fromkeys(scratch, _TMPFS),
        "PortBindings": bindings,
        "Memory": memory,
        "MemorySwap": memory,
        "NanoCpus": round(_most(cpus, settings.cpus, "cpus") * 1e9),
        "PidsLimit": round(_most(processes, settings.processes, "processes")),
        "RestartPolicy": {"Name": "no"},
        "LogConfig": _LOGS,
        "AutoRemove": False,
        "Init": True,
    }


def _mount(settings: Any, mount: Mount, field: str) -> dict[str, Any]:
    if bool(mount.source) == bool(mount.volume):
        raise PluginError("INVALID_ARGUMENT", "name a source or a volume, and one of them", field=field)
    whole: dict[str, Any] = {"Target": mount.target, "ReadOnly": mount.read_only}
    if mount.volume:
        return {**whole, "Type": "volume", "Source": rules.named(mount.volume, f"{field}.volume")}
    rules.bind(settings, mount.source, read_only=mount.read_only, field=f"{field}.source")
    return {**whole, "Type": "bind", "Source": mount.source}


def _look_at_places(engine: Engine, mounts: list[Mount], isolation: Isolation) -> None:
    """Holds volumes and networks against what is granted; the engine would make a volume that is not there."""
    for number, mount in enumerate(mounts):
        if mount.volume:
            rules.volume(engine, mount.volume, f"mounts[{number}].volume")
    if isolation.network not in _ALONE:
        found = rules.network(engine, isolation.network, "isolation.network")
        if text(found, "Driver") == "host" and not engine.call.config.host_network:  # By its id.
            raise rules.denied("'host_network' is not granted", "host_network: true", field="isolation.network")


def _most(wanted: float | None, granted: float, field: str) -> Any:
    if wanted is not None and wanted > granted:
        line = f"{field}: {wanted}"
        raise rules.denied(f"{wanted} is more than the {granted} that are granted", line, field=field)
    return granted if wanted is None else wanted


def _checked(env: dict[str, str]) -> dict[str, str]:
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + value:
            raise PluginError("INVALID_ARGUMENT", f"{name!r} is no variable", field="env")
    return env
