"""A sitting: one JSON file that holds everything that was read, and on what."""

import json
import os
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import machine

RESULTS = Path(__file__).resolve().parent / "results"
# The file that a chart is copied to, for documents to show.
LATEST = "latest"
KINDS = ("durable", "plugins", "size")
_SCHEMA = "consort-bench/{kind}/1"
# What a document must have, and of which type.
_COMMON: dict[str, type] = {
    "schema": str,
    "date": str,
    "command": str,
    "seed": int,
    "settings": dict,
    "repository": dict,
    "machine": dict,
    "readings": list,
}
_BY_KIND: dict[str, dict[str, type]] = {
    "durable": {"systems": dict, "medians": dict, "ratios": dict, "targets": list},
    "plugins": {"systems": dict, "medians": dict, "ratios": dict, "targets": list},
    "size": {"version": str, "curves": dict},
}

Document = dict[str, Any]


class DocumentError(ValueError):
    """A file that is no sitting; its text says what is wrong."""


def begin(kind: str, folder: Path, seed: int, settings: dict[str, Any]) -> Document:
    """A document with what is known before the first reading. `folder` is on the disk that is measured."""
    return {
        "schema": _SCHEMA.format(kind=kind),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_line(sys.argv[1:]),
        "seed": seed,
        "settings": settings,
        "repository": machine.repository(),
        "machine": machine.describe(folder),
        "readings": [],
    }


def command_line(arguments: Sequence[str]) -> str:
    """How the bench was called. Of paths only the last part is kept: where things lay is nobody's business."""
    kept = [Path(argument).name if argument.startswith("/") else argument for argument in arguments]
    return shlex.join(["python", "-m", "bench", *kept])


def kind_of(document: Document) -> str:
    """`durable` or `size`. DocumentError names all that is missing or of a wrong type."""
    schema = document.get("schema")
    kind = next((kind for kind in KINDS if schema == _SCHEMA.format(kind=kind)), None)
    if kind is None:
        raise DocumentError(f"schema: {schema!r} is none of {', '.join(_SCHEMA.format(kind=kind) for kind in KINDS)}")
    wrong = [
        f"{name}: {'missing' if name not in document else f'no {wanted.__name__}'}"
        for name, wanted in (_COMMON | _BY_KIND[kind]).items()
        if not isinstance(document.get(name), wanted)
    ]
    if wrong:
        raise DocumentError("; ".join(wrong))
    return kind


def read(path: Path) -> Document:
    """A sitting from its file. DocumentError if it is none."""
    try:
        document = json.loads(path.read_text())
    except ValueError as error:
        raise DocumentError(f"{path} is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise DocumentError(f"{path} holds no object")
    kind_of(document)
    return document


def write(document: Document, folder: Path, mark: str = "") -> Path:
    """Writes the sitting as `<kind>-<date><mark>.json`, whole or not at all, and returns the path."""
    kind = kind_of(document)
    folder.mkdir(parents=True, exist_ok=True)
    stamp = document["date"][:19].replace(":", "").replace("T", "-")
    path = folder / f"{kind}-{stamp}{mark}.json"
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    os.replace(draft, path)
    return path


def merged(documents: Sequence[Document]) -> Document:
    """Sittings of one kind, on one machine, as one: their rounds after each other, or their parts beside each other.

    DocumentError if they are not alike.
    """
    first = documents[0]
    for other in documents[1:]:
        for what in ("schema", "cpu", "kernel", "seconds", "version"):
            sides = [_told(each, what) for each in (first, other)]
            if sides[0] != sides[1]:
                raise DocumentError(f"{what}: one sitting has {sides[0]!r} and another {sides[1]!r}")
    whole = {**first, "command": "; ".join(each["command"] for each in documents), "readings": []}
    whole["settings"] = dict(first["settings"])
    if kind_of(first) == "size":
        whole["curves"] = {name: points for each in documents for name, points in each["curves"].items()}
        whole["readings"] = [reading for each in documents for reading in each["readings"]]
        return whole
    whole["systems"] = {name: about for each in documents for name, about in each["systems"].items()}
    rounds = 0
    for each in documents:
        whole["readings"] += [{**reading, "round": reading["round"] + rounds} for reading in each["readings"]]
        rounds = max((reading["round"] for reading in whole["readings"]), default=0)
    whole["settings"]["rounds"] = rounds
    return whole


def _told(document: Document, what: str) -> Any:
    """A property that sittings to be merged share, wherever it stands."""
    return next((part[what] for part in (document, document["machine"], document["settings"]) if what in part), None)


def named(document: Document) -> str:
    """Machine and date in one line, for a chart."""
    about = document["machine"]
    disk = about["disk"]
    commit = document["repository"].get("commit", "")[:10]
    changed = " with changes" if document["repository"].get("changed") else ""
    return (
        f"{document['date'][:10]} · {about['cpu']}, {about['cores']} cores, {about['memory_mib'] // 1024} GiB · "
        f"{disk['file_system']}, sync {disk['sync_p50_ms']} ms · {commit}{changed}"
    )
