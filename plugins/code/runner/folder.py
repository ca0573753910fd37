"""The fresh folder of a run: what is put there, and what is found afterwards."""

import base64
import fnmatch
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TypedDict

from consort.plugin import PluginError

MOST_FILES = 100
MOST_FILE_BYTES = 256 * 1024
MOST_BYTES = 2 * 1024 * 1024
# Entries that are looked at, so that a folder of millions costs its maker and nobody else.
_MOST_ENTRIES = 20_000


class Found(TypedDict):
    """A file that was left. One of these is null: `text`, or `base64` for what is no UTF-8; both if it is too large."""

    path: str
    size_bytes: int
    text: str | None
    base64: str | None


def fill(folder: Path, files: Mapping[str, str]) -> None:
    """Writes files. INVALID_ARGUMENT for a path that leads out."""
    for name, text in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name or len(name) > 1000:
            problem = f"{name!r} is no path within the folder; write for example data/input.csv"
            raise PluginError("INVALID_ARGUMENT", problem, field="files")
        target = folder / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        except OSError as error:
            raise PluginError("INVALID_ARGUMENT", f"{name!r}: {error.strerror}", field="files") from None


def size_of(folder: Path) -> int:
    """Bytes of all files, as they lie on the disk."""
    return sum(told.st_blocks * 512 for _, told in _entries(folder))


def collect(folder: Path, patterns: list[str], given: Mapping[str, str]) -> tuple[list[Found], bool]:
    """Files that match a pattern and are not as they were given; and whether there is more than is told.

    Nothing may run in the folder any more. Links are neither followed nor told.
    """
    found: list[Found] = []
    room, truncated = MOST_BYTES, False
    for path, told in _entries(folder):
        name = path.relative_to(folder).as_posix()
        if not stat.S_ISREG(told.st_mode) or not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
            continue
        is_small = told.st_size <= min(MOST_FILE_BYTES, room)
        data = _read(path) if is_small else b""
        if is_small and name in given and data == given[name].encode():
            continue
        if len(found) >= MOST_FILES:
            return found, True
        found.append(_told(name, told.st_size, data if is_small else None))
        room -= len(data)
        truncated |= not is_small
    return found, truncated


def _told(name: str, size: int, data: bytes | None) -> Found:
    if data is None:
        return {"path": name, "size_bytes": size, "text": None, "base64": None}
    try:
        return {"path": name, "size_bytes": size, "text": data.decode(), "base64": None}
    except UnicodeDecodeError:
        return {"path": name, "size_bytes": size, "text": None, "base64": base64.b64encode(data).decode()}


def _read(path: Path) -> bytes:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        return file.read(MOST_FILE_BYTES)


def _entries(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """What lies in it, by name, without following links; the first 20,000."""
    waiting, seen = [folder], 0
    while waiting:
        try:
            inside = sorted(os.scandir(waiting.pop()), key=lambda each: each.name)
        except OSError:
            continue  # It went, or was closed.
        for entry in inside:
            seen += 1
            if seen > _MOST_ENTRIES:
                return
            try:
                told = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            yield Path(entry.path), told
            if stat.S_ISDIR(told.st_mode):
                waiting.append(Path(entry.path))
