"""Holds calls to what the operator granted, whatever the sandbox does besides.

For plugins that start programs, look at files, or have capabilities of their own. All of it reads `call.permissions`;
what is not granted is PluginError PERMISSION_DENIED, reason NOT_GRANTED, with the line that the manifest would need.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from consort.plugin.call import Call
from consort.plugin.errors import PluginError

_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
# What decides which code a program loads is not the caller's; what begins so is the mesh's.
_RESERVED = ("LD_", "CONSORT_")


def need(call: Call, capability: str, *, field: str = "") -> None:
    """PERMISSION_DENIED unless the capability is granted; `field` is the member of the input that wants it."""
    if capability not in call.permissions.capabilities:
        raise denied(f"'{capability}' is not granted", f'capabilities = ["{capability}"]', field=field)


def has(call: Call, capability: str) -> bool:
    """Whether the capability is granted."""
    return capability in call.permissions.capabilities


def denied(problem: str, line: str, *, field: str = "") -> PluginError:
    """The error for what is not granted: the problem, and the line of the manifest that would ask for it."""
    text = f"{problem}; its manifest would say `{line}`"
    return PluginError("PERMISSION_DENIED", text, field=field, reason="NOT_GRANTED")


def program(call: Call, name: str, *, field: str = "program") -> str:
    """The path of a program that may be run. A name without a slash is looked for as a shell would.

    Links are followed before the path is held against `exec`. NOT_FOUND if there is no such program.
    """
    found = shutil.which(name, path=_PATH) if "/" not in name else name
    if found is None:
        raise PluginError("NOT_FOUND", f"there is no program '{name}' in {_PATH}", field=field, reason="NO_PROGRAM")
    if not os.path.isabs(found):
        raise PluginError("INVALID_ARGUMENT", f"{name!r} is no absolute path", field=field)
    granted = list(call.permissions.exec)
    if "*" not in granted and not _within(Path(os.path.realpath(found)), granted):
        raise denied(f"{found} may not be run", f'exec = ["{found}"]', field=field)
    if not os.access(found, os.X_OK) or not os.path.isfile(found):
        raise PluginError("NOT_FOUND", f"{found} is no program", field=field, reason="NO_PROGRAM")
    return found


def readable(call: Call, path: str, *, field: str = "path") -> Path:
    """The path without links, if it may be read. Nothing is said of whether others are there."""
    real = _real(path, field)
    if not _within(real, places(call)):
        raise denied(f"{path} may not be read", f'fs_read = ["{path}"]', field=field)
    return real


def writable(call: Call, path: str, *, field: str = "path") -> Path:
    """The path without links, if it may be changed; a socket, if it may be connected to."""
    real = _real(path, field)
    if not _within(real, [*call.permissions.fs_write, *_own(call)]):
        raise denied(f"{path} may not be changed", f'fs_write = ["{path}"]', field=field)
    return real


def places(call: Call) -> list[str]:
    """All that may be read: what is granted, and the plugin's own folder."""
    return [*call.permissions.fs_read, *call.permissions.fs_write, *_own(call)]


def folder(call: Call, path: str, *, field: str = "cwd") -> Path:
    """The folder in which a program runs, without links: the plugin's own if none is named."""
    real = readable(call, path, field=field) if path else call.data
    if not real.is_dir():
        raise PluginError("NOT_FOUND", f"{path} is no folder", field=field, reason="NO_FOLDER")
    return real


def environment(call: Call, wanted: Mapping[str, str], terminal: str = "dumb", *, field: str = "env") -> dict[str, str]:
    """The whole environment of a program: little, what is granted of the mesh's, and what the caller wants.

    INVALID_ARGUMENT for what begins with LD_ or CONSORT_.
    """
    for name, value in wanted.items():
        if not name or "=" in name or "\0" in name + value or name.startswith(_RESERVED):
            problem = f"{name!r} cannot be set; leave out what begins with {' or '.join(_RESERVED)}"
            raise PluginError("INVALID_ARGUMENT", problem, field=field)
    granted = {name: os.environ[name] for name in call.permissions.env if name in os.environ}
    return {"PATH": _PATH, "LANG": "C.UTF-8", "TERM": terminal, **granted, **wanted}


def _real(path: str, field: str) -> Path:
    if not os.path.isabs(path) or "\0" in path:
        raise PluginError("INVALID_ARGUMENT", f"{path!r} is no absolute path", field=field)
    return Path(os.path.realpath(path))


def _own(call: Call) -> list[str]:
    with contextlib.suppress(PluginError):  # It was given none.
        return [str(call.data)]
    return []


def _within(path: Path, grants: Iterable[str]) -> bool:
    return any(path.is_relative_to(os.path.realpath(grant)) for grant in grants)
