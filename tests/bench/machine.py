"""What a sitting was made on: machine, disk and how fast it syncs, and the state of the repository."""

import os
import platform
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_SYNCS = 200
_BLOCK = b"x" * 4096


def describe(folder: Path) -> dict[str, Any]:
    """The machine, and the disk that holds `folder`."""
    return {
        "cpu": _field(Path("/proc/cpuinfo"), "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": _memory(),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
        "disk": disk(folder),
    }


def disk(folder: Path) -> dict[str, Any]:
    """Device, file system and free space below a folder, and what a sync of 4 KiB takes there, in milliseconds."""
    stats = os.statvfs(folder)
    source, kind = _mount(folder)
    return {
        "folder": str(folder),
        "device": source,
        "file_system": kind,
        "free_gib": round(stats.f_bavail * stats.f_frsize / 2**30, 1),
        **sync_probe(folder),
    }


def sync_probe(folder: Path, count: int = _SYNCS) -> dict[str, float]:
    """Appends 4 KiB and syncs, `count` times: the median and the 99th percentile in milliseconds."""
    path = folder / ".sync-probe"
    took: list[float] = []
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        for _ in range(count):
            os.write(handle, _BLOCK)
            begun = time.perf_counter()
            os.fdatasync(handle)
            took.append((time.perf_counter() - begun) * 1e3)
    finally:
        os.close(handle)
        path.unlink()
    took.sort()
    return {
        "sync_p50_ms": round(statistics.median(took), 3),
        "sync_p99_ms": round(took[min(int(0.99 * count), count - 1)], 3),
    }


def repository() -> dict[str, Any]:
    """The commit that was checked out, and whether files differed from it. Empty outside a repository."""
    commit = _git("rev-parse", "HEAD")
    return {"commit": commit, "changed": bool(_git("status", "--porcelain", "--untracked-files=no"))} if commit else {}


def version_of(*command: str | Path) -> str:
    """The first line that a program prints about its version; empty if it does not run."""
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    except OSError:
        return ""
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _field(path: Path, name: str) -> str:
    for line in path.read_text().splitlines():
        found, _, value = line.partition(":")
        if found.strip() == name:
            return value.strip()
    return platform.machine()


def _memory() -> int:
    return int(_field(Path("/proc/meminfo"), "MemTotal").split()[0]) // 1024


def _mount(folder: Path) -> tuple[str, str]:
    """Device and file system of the mount that holds the folder."""
    best = ("", "", "")
    for line in Path("/proc/mounts").read_text().splitlines():
        source, point, kind = line.split()[:3]
        point = point.replace("\\040", " ")
        if folder.resolve().is_relative_to(point) and len(point) >= len(best[1]):
            best = (source, point, kind)
    return best[0], best[2]
