"""What the operator sets: where the engine is, what containers may have of the machine, and the most of everything."""

import posixpath
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import urlsplit

from consort.plugin import Limits, PluginError


@dataclass
class Registry:
    """Who pulls from a registry. The secret is the password, or a token."""

    username: str
    secret: str = "docker-registry"  # noqa: S105 - a name.


@dataclass
class Settings:
    """Where the engine is, what is granted of it by pattern, and limits.

    `host` is `unix:///path` or `tcp://host:port`, which is always TLS: then `certificates` is a folder with ca.pem,
    cert.pem and key.pem, as Docker's own client has it. What the plugin makes is labelled with `owner`; what has
    another label or none is not touched unless `containers`, `volumes` or `networks` name it. `images` may be run and
    pulled, `builds` are the tags that builds may give, `mounts` folders of the machine (with `:ro` to be read only),
    `ports` addresses that containers may be reached at, such as `127.0.0.1:8080`.

    `memory_mib`, `cpus` and `processes` are the most of one container, and what it gets if its caller says nothing.
    `output_kib` is kept of a text that a container writes. `timeout_s` is for an answer, `idle_s` for the next bytes of
    a long one.
    """

    host: str = "unix:///var/run/docker.sock"
    certificates: str = ""
    owner: Annotated[str, Limits(pattern="^[a-z][a-z0-9-]{0,30}$")] = "consort"
    images: list[str] = field(default_factory=list)
    builds: list[str] = field(default_factory=list)
    mounts: list[str] = field(default_factory=list)
    containers: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)
    add_capabilities: list[str] = field(default_factory=list)
    privileged: bool = False
    host_network: bool = False
    host_pid: bool = False
    build_network: str = "none"
    registries: dict[str, Registry] = field(default_factory=dict)
    most_containers: Annotated[int, Limits(minimum=1, maximum=1000)] = 32
    memory_mib: Annotated[int, Limits(minimum=6, maximum=4 * 1024 * 1024)] = 512
    cpus: Annotated[float, Limits(minimum=0.01, maximum=1024)] = 1.0
    processes: Annotated[int, Limits(minimum=1, maximum=1_000_000)] = 256
    output_kib: Annotated[int, Limits(minimum=1, maximum=16 * 1024)] = 256
    context_mib: Annotated[int, Limits(minimum=1, maximum=16 * 1024)] = 256
    timeout_s: Annotated[float, Limits(exclusiveMinimum=0, maximum=600)] = 30.0
    idle_s: Annotated[float, Limits(exclusiveMinimum=0, maximum=3600)] = 120.0


def check(settings: Settings) -> None:
    """PluginError INVALID_ARGUMENT names every setting that cannot work."""
    wrong: dict[str, str] = {}
    example = "write unix:///var/run/docker.sock, or tcp://docker.example.com:2376"
    try:
        parts = urlsplit(settings.host)
        is_socket = parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/")
        is_server = parts.scheme == "tcp" and bool(parts.hostname) and bool(parts.port) and parts.path in ("", "/")
    except ValueError:
        is_socket = is_server = False
    if not is_socket and not is_server:
        wrong["host"] = f"{settings.host!r} is no engine's place; {example}"
    if is_server and not settings.certificates.startswith("/"):
        wrong["certificates"] = "is needed for tcp: the absolute path of a folder with ca.pem, cert.pem and key.pem"
    for number, mount in enumerate(settings.mounts):
        path = mount.removesuffix(":ro")
        if not path.startswith("/") or posixpath.normpath(path) != path:
            wrong[f"mounts[{number}]"] = f"{mount!r} is no absolute path; write /srv/app, or /srv/app:ro"
    if wrong:
        told = "; ".join(f"{place}: {text}" for place, text in wrong.items())
        raise PluginError("INVALID_ARGUMENT", told, reason="CONFIG_INVALID", violations=wrong)
