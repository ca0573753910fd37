"""The folder of a build, as one archive."""

import os
import stat
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import IO, NamedTuple

from consort.plugin import Call, PluginError
from engine.patterns import matches

_IGNORE = ".dockerignore"
_MOST_IGNORE = 64 * 1024
_MOST_PATTERNS = 1000
_MOST_FILES = 100_000
_MOST_DOCKERFILE = 1024 * 1024
_MIB = 1024 * 1024


class _Rule(NamedTuple):
    """A line of .dockerignore: what fits is left out, or taken after all (`!`)."""

    pattern: str
    out: bool


def read(folder: Path, dockerfile: str) -> bytes:
    """A Dockerfile that lies in the folder itself, without a link on the way. NOT_FOUND without one."""
    path = folder / dockerfile
    try:
        is_plain = os.path.normpath(dockerfile) == dockerfile and os.path.realpath(path) == str(path)
        if is_plain and path.is_file():
            with open(path, "rb") as file:
                content = file.read(_MOST_DOCKERFILE + 1)
            if len(content) <= _MOST_DOCKERFILE:
                return content
    except OSError as error:
        raise PluginError("FAILED_PRECONDITION", f"{path}: {error.strerror}", field="dockerfile") from None
    problem = f"there is no {dockerfile} of at most 1 MiB in {folder}, without links on the way"
    raise PluginError("NOT_FOUND", problem, field="dockerfile", reason="NO_DOCKERFILE")


def pack(call: Call, folder: Path, dockerfile: str, content: bytes, archive: IO[bytes]) -> int:
    """Writes a folder into an archive, without what its .dockerignore leaves out; the archive's size in bytes.

    The Dockerfile has the given content, whatever became of it meanwhile. Links are taken as links, and never followed.
    RESOURCE_EXHAUSTED if there is more than the configuration allows.
    """
    rules = _rules(folder)
    most = call.config.context_mib * _MIB
    is_there = False
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for count, (path, told) in enumerate(_files(folder)):
            call.raise_if_cancelled()
            name = path.relative_to(folder).as_posix()
            if count >= _MOST_FILES or archive.tell() + told.st_size > most:
                problem = f"has more than {_MOST_FILES} files or {call.config.context_mib} MiB; add to {_IGNORE}"
                raise PluginError("RESOURCE_EXHAUSTED", problem, field="folder", reason="CONTEXT_TOO_LARGE")
            if name == dockerfile and stat.S_ISREG(told.st_mode):
                is_there = True
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, BytesIO(content))
            elif name == _IGNORE or not _is_out(name, rules):
                _add(tar, path, name, told)
    if not is_there:
        raise PluginError("ABORTED", f"{dockerfile} has changed meanwhile", field="dockerfile")
    return archive.tell()


def _add(tar: tarfile.TarFile, path: Path, name: str, told: os.stat_result) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.mtime = stat.S_IMODE(told.st_mode), int(told.st_mtime)
    if stat.S_ISDIR(told.st_mode):
        entry.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(told.st_mode):
        entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(path)
    elif stat.S_ISREG(told.st_mode):
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            entry.size = told.st_size
            try:
                tar.addfile(entry, file)
            except OSError as error:  # It became shorter meanwhile.
                raise PluginError("ABORTED", f"{name} has changed meanwhile: {error}", field="folder") from None
        return
    else:
        return  # Sockets, pipes and devices are nothing to a build.
    tar.addfile(entry)


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """What lies in a folder, by name, folders before what is in them."""
    waiting = [folder]
    while waiting:
        try:
            inside = sorted(os.scandir(waiting.pop()), key=lambda each: each.name)
            for each in inside:
                told = each.stat(follow_symlinks=False)
                yield Path(each.path), told
                if stat.S_ISDIR(told.st_mode):
                    waiting.append(Path(each.path))
        except OSError as error:
            problem = f"{error.filename} cannot be read: {error.strerror}"
            raise PluginError("FAILED_PRECONDITION", problem, field="folder") from None


def _rules(folder: Path) -> list[_Rule]:
    try:
        with open(folder / _IGNORE, "rb") as file:
            lines = file.read(_MOST_IGNORE).decode("utf-8", "replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines[:_MOST_PATTERNS]:
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        is_out = not pattern.startswith("!")
        found.append(_Rule(pattern.removeprefix("!").strip().strip("/").removeprefix("./"), is_out))
    return found


def _is_out(name: str, rules: list[_Rule]) -> bool:
    """The last rule that fits a file, or a folder in which it is, counts."""
    parts = name.split("/")
    places = ["/".join(parts[: length + 1]) for length in range(len(parts))]
    is_out = False
    for rule in rules:
        if any(matches(place, rule.pattern) for place in places):
            is_out = rule.out
    return is_out
