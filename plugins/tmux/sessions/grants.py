"""Holds calls to what was granted, whatever the sandbox does besides."""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from consort.plugin import Call, PluginError

_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
# What decides which code a program loads is not the caller's; what begins so is the mesh's.
_RESERVED = ("LD_", "CONSORT_")


def need(call: Call, capability: str) -> None:
    """PERMISSION_DENIED unless the capability is granted."""
    if capability not in call.permissions.capabilities:
        raise _denied(f"'{capability}' is not granted", f'capabilities = ["{capability}"]')


def program(call: Call, name: str) -> str:
    """The path of a program that may be run. A name without a slash is looked for as a shell would."""
    found = shutil.which(name, path=_PATH) if "/" not in name else name
    if found is None:
        raise PluginError("NOT_FOUND", f"there is no program '{name}' in {_PATH}", field="program", reason="NO_PROGRAM")
    if not os.path.isabs(found):
        raise PluginError("INVALID_ARGUMENT", f"{name!r} is no absolute path", field="program")
    granted = list(call.permissions.exec)
    if "*" not in granted and not _within(Path(os.path.realpath(found)), granted):
        raise _denied(f"{found} may not be run", f'exec = ["{found}"]', field="program")
    if not os.access(found, os.X_OK) or not os.path.isfile(found):
        raise PluginError("NOT_FOUND", f"{found} is no program", field="program", reason="NO_PROGRAM")
    return found


def folder(call: Call, path: str) -> Path:
    """The folder in which a program runs, without links: the plugin's own if none is named."""
    if not path:
        return call.data
    if not os.path.isabs(path) or "\0" in path:
        raise PluginError("INVALID_ARGUMENT", f"{path!r} is no absolute path", field="cwd")
    real = Path(os.path.realpath(path))
    if not _within(real, [*call.permissions.fs_read, *call.permissions.fs_write, str(call.data)]):
        raise _denied(f"{path} may not be worked in", f'fs_write = ["{path}"]', field="cwd")
    if not real.is_dir():
        raise PluginError("NOT_FOUND", f"{path} is no folder", field="cwd", reason="NO_FOLDER")
    return real


def environment(call: Call, wanted: Mapping[str, str], terminal: str = "dumb") -> dict[str, str]:
    """The whole environment of a program: little, what is granted of the mesh's, and what the caller wants."""
    for name, value in wanted.items():
        if not name or "=" in name or "\0" in name + value or name.startswith(_RESERVED):
            problem = f"{name!r} cannot be set; leave out what begins with {' or '.join(_RESERVED)}"
            raise PluginError("INVALID_ARGUMENT", problem, field="env")
    granted = {name: os.environ[name] for name in call.permissions.env if name in os.environ}
    return {"PATH": _PATH, "LANG": "C.UTF-8", "TERM": terminal, **granted, **wanted}


def _within(path: Path, grants: Iterable[str]) -> bool:
    return any(path.is_relative_to(os.path.realpath(grant)) for grant in grants)


def _denied(problem: str, line: str, field: str = "") -> PluginError:
    text = f"{problem}; its manifest would say `{line}`"
    return PluginError("PERMISSION_DENIED", text, field=field, reason="NOT_GRANTED")
