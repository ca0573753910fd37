"""Files: what they are, what lies in folders, and what changes."""

import os
import stat as modes
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypedDict

from consort.plugin import Call, PluginError

# Files that are watched at once; how often they are looked at; looks that are kept for whoever goes on from one.
MOST_WATCHED = 10_000
_LOOK_S = 0.1
_MOST_LOOKS = 32
_KINDS = {modes.S_IFREG: "file", modes.S_IFDIR: "folder", modes.S_IFLNK: "link"}
_Look = dict[str, tuple[int, int, int]]


class Entry(TypedDict):
    """A file, folder, link or something else. `modified` is in seconds since 1970, `mode` octal."""

    path: str
    kind: str
    size_bytes: int
    modified: float
    mode: str
    user: int
    group: int
    target: str | None


class Change(TypedDict):
    """What became of a file."""

    path: str
    change: Literal["created", "changed", "deleted"]


def entry(path: Path) -> Entry:
    """What is there. A link is told as such, not followed."""
    try:
        found = path.lstat()
    except OSError as error:
        raise failure(path, error) from None
    is_link = modes.S_ISLNK(found.st_mode)
    return {
        "path": str(path),
        "kind": _KINDS.get(modes.S_IFMT(found.st_mode), "other"),
        "size_bytes": found.st_size,
        "modified": found.st_mtime,
        "mode": f"{modes.S_IMODE(found.st_mode):04o}",
        "user": found.st_uid,
        "group": found.st_gid,
        "target": os.readlink(path) if is_link else None,
    }


def walk(folder: Path, depth: int) -> Iterator[Path]:
    """What lies in a folder, by name, `depth` folders deep. Links are not followed."""
    try:
        found = sorted(os.scandir(folder), key=lambda each: each.name)
    except OSError as error:
        raise failure(folder, error) from None
    for each in found:
        yield Path(each.path)
        if depth > 1 and each.is_dir(follow_symlinks=False):
            try:
                yield from walk(Path(each.path), depth - 1)
            except PluginError:
                continue  # It went, or may not be read.


def failure(path: Path, error: OSError) -> PluginError:
    """A failed look, as callers are told."""
    if isinstance(error, FileNotFoundError):
        return PluginError("NOT_FOUND", f"{path} is not there", field="path", reason="NO_FILE")
    code = "PERMISSION_DENIED" if isinstance(error, PermissionError) else "FAILED_PRECONDITION"
    return PluginError(code, f"{path}: {error.strerror}", field="path")


class Watches:
    """Looks at folders that callers came with, so that the next call misses nothing in between."""

    def __init__(self) -> None:
        self._looks: OrderedDict[str, tuple[Path, _Look]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, call: Call, path: Path, depth: int, since: str, seconds: float) -> tuple[list[Change], str]:
        """Waits until something differs from the look `since`, or from now; what, and the name of the new look.

        Changes that come together are told together: it waits until two looks are equal.
        """
        before = self._known(path, since) if since else _look(path, depth)
        end = time.monotonic() + seconds
        now = _look(path, depth)
        while now == before and time.monotonic() < end:
            call.sleep(min(_LOOK_S, max(0.0, end - time.monotonic())))
            now = _look(path, depth)
        while now != before and time.monotonic() < end:
            call.sleep(_LOOK_S)
            settled, now = now, _look(path, depth)
            if settled == now:
                break
        return _changes(before, now), self._keep(path, now)

    def _known(self, path: Path, since: str) -> _Look:
        with self._lock:
            kept = self._looks.get(since)
        if kept is None or kept[0] != path:
            problem = f"'{since}' is no look at {path} that is still known; leave it out"
            raise PluginError("FAILED_PRECONDITION", problem, field="since", reason="LOOK_FORGOTTEN")
        return kept[1]

    def _keep(self, path: Path, look: _Look) -> str:
        name = uuid.uuid4().hex[:12]
        with self._lock:
            self._looks[name] = (path, look)
            while len(self._looks) > _MOST_LOOKS:
                self._looks.popitem(last=False)
        return name


def _look(path: Path, depth: int) -> _Look:
    """Time, size and number of each file. A path that is not there is an empty look."""
    found: _Look = {}
    try:
        paths = [path, *walk(path, depth)] if path.is_dir() else [path]
    except PluginError:
        return found
    for each in paths:
        if len(found) >= MOST_WATCHED:
            problem = f"more than {MOST_WATCHED} files lie in {path}; watch a part, or with less depth"
            raise PluginError("RESOURCE_EXHAUSTED", problem, field="path", reason="TOO_MANY_FILES")
        try:
            told = each.lstat()
        except OSError:
            continue
        # A folder's own time changes with what lies in it, which is told by itself.
        is_folder = modes.S_ISDIR(told.st_mode)
        found[str(each)] = (0, 0, told.st_ino) if is_folder else (told.st_mtime_ns, told.st_size, told.st_ino)
    return found


def _changes(before: _Look, now: _Look) -> list[Change]:
    changes: list[Change] = []
    for path in sorted(before.keys() | now.keys()):
        if before.get(path) != now.get(path):
            kind: Literal["created", "changed", "deleted"] = (
                "created" if path not in before else "deleted" if path not in now else "changed"
            )
            changes.append({"path": path, "change": kind})
    return changes


watches = Watches()
