"""The Node that peers in TypeScript run on."""

import shutil
from pathlib import Path

from bench.machine import version_of


def find(cache: Path) -> str:
    """The one that setup.sh took from npm, else the system's; empty if there is none."""
    own = cache / "node/bin/node"
    return str(own) if own.is_file() else shutil.which("node") or ""


def version(node: str) -> str:
    """What it says it is, such as v22.1.0; empty if there is none."""
    return version_of(node, "--version") if node else ""


def too_old(node: str, least: int) -> str:
    """Why it cannot be used where major version `least` is needed; empty if it can."""
    said = version(node)
    major = said.removeprefix("v").partition(".")[0]
    if said.startswith("v") and major.isdigit() and int(major) >= least:
        return ""
    return f"Node {least} or newer is needed and {said or 'none'} was found"
