"""The engine itself."""

from typing import TypedDict

from consort.plugin import Call
from engine.fields import flag, number, text, texts
from engine.operations._plugin import engine_of, plugin
from engine.transport import Request


class Version(TypedDict):
    """The engine's version, and those of its API: the one that is spoken with it, its lowest and its highest."""

    version: str
    api: str
    api_lowest: str
    api_highest: str
    system: str
    architecture: str
    kernel: str


class Info(TypedDict):
    """The engine and its machine. `warnings` are the engine's own."""

    name: str
    version: str
    system: str
    architecture: str
    processors: int
    memory_bytes: int
    storage: str
    rootless: bool
    containers: int
    running: int
    paused: int
    stopped: int
    images: int
    warnings: list[str]


@plugin.operation(effect="read")
def version(call: Call) -> Version:
    """Says which engine it is, and which version of its API is spoken."""
    found = engine_of(call, "inspect").versions()
    return {
        "version": text(found, "Version"),
        "api": text(found, "Negotiated"),
        "api_lowest": text(found, "MinAPIVersion"),
        "api_highest": text(found, "ApiVersion"),
        "system": text(found, "Os"),
        "architecture": text(found, "Arch"),
        "kernel": text(found, "KernelVersion"),
    }


@plugin.operation(effect="read")
def info(call: Call) -> Info:
    """Says how the engine is: what it has, and what it has of its machine."""
    found = engine_of(call, "inspect").ask(Request("GET", "/info"))
    return {
        "name": text(found, "Name"),
        "version": text(found, "ServerVersion"),
        "system": text(found, "OperatingSystem"),
        "architecture": text(found, "Architecture"),
        "processors": number(found, "NCPU"),
        "memory_bytes": number(found, "MemTotal"),
        "storage": text(found, "Driver"),
        "rootless": "name=rootless" in texts(found, "SecurityOptions") or flag(found, "Rootless"),
        "containers": number(found, "Containers"),
        "running": number(found, "ContainersRunning"),
        "paused": number(found, "ContainersPaused"),
        "stopped": number(found, "ContainersStopped"),
        "images": number(found, "Images"),
        "warnings": texts(found, "Warnings")[:100],
    }
