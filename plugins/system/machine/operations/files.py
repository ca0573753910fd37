"""Operations on files: what they are, what lies in folders, what changes."""

import itertools
from pathlib import Path
from typing import Annotated, TypedDict

from consort.plugin import Call, Limits, PluginError, grants
from machine import files
from machine.files import Change, Entry
from machine.operations._plugin import WAIT_S, Seconds, plugin

_MOST_CHANGES = 1000
Depth = Annotated[int, Limits(minimum=1, maximum=32)]


class Listing(TypedDict):
    """What lies in a folder; `truncated` says that there is more."""

    entries: list[Entry]
    truncated: bool


class Changes(TypedDict):
    """What changed, if anything did. A later call that says `since` misses nothing that happened in between."""

    changes: list[Change]
    truncated: bool
    since: str


@plugin.operation(effect="read")
def stat(call: Call, path: str) -> Entry:
    """Tells what is at a path: kind, size, time, mode. A link is followed if it stays in what is granted."""
    grants.need(call, "files")
    return files.entry(grants.readable(call, path))


@plugin.operation("list", effect="read")
def list_folder(
    call: Call, path: str, depth: Depth = 1, limit: Annotated[int, Limits(minimum=1, maximum=5000)] = 1000
) -> Listing:
    """Lists what lies in a folder, by name.

    Args:
        depth: How many folders deep.

    """
    grants.need(call, "files")
    folder = grants.readable(call, path)
    found = list(itertools.islice(files.walk(folder, depth), limit + 1))
    entries = [entry for each in found[:limit] if (entry := _entry(each)) is not None]
    return {"entries": entries, "truncated": len(found) > limit}


@plugin.operation(effect="read", timeout=WAIT_S)
def watch(call: Call, path: str, depth: Depth = 8, since: str = "", seconds: Seconds = 60.0) -> Changes:
    """Waits until something in a folder, or a file, is created, changed or deleted, or time is up.

    Args:
        depth: How many folders deep.
        since: What the last call answered, to go on from there.

    """
    grants.need(call, "files")
    changes, name = files.watches.wait(call, grants.readable(call, path), depth, since, seconds)
    return {"changes": changes[:_MOST_CHANGES], "truncated": len(changes) > _MOST_CHANGES, "since": name}


def _entry(path: Path) -> Entry | None:
    """None if it went meanwhile."""
    try:
        return files.entry(path)
    except PluginError as error:
        if error.reason == "NO_FILE":
            return None
        raise
