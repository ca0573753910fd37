"""The processes of the machine, or of this plugin alone."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any, TypedDict

import psutil

from consort.plugin import Call, PluginError, grants

_BRIEF = ("pid", "ppid", "name", "username", "status", "create_time", "cmdline", "memory_info", "cpu_times")
_LINE = 500
_SAMPLE_S = 0.1
# Between what two looks at the same process may say of its start.
_SAME_S = 1.5


class Process(TypedDict):
    """A process. `started` is in seconds since 1970, `cpu_s` of user and system time, `rss_bytes` resident memory."""

    pid: int
    parent: int
    name: str
    user: str
    status: str
    started: float
    cpu_s: float
    rss_bytes: int
    command: str


class Detail(Process):
    """A process with its resources; null is what the system does not tell. `cpu_percent` is of the last 0.1 s."""

    cpu_percent: float
    threads: int | None
    open_files: int | None
    read_bytes: int | None
    written_bytes: int | None
    cwd: str | None
    children: list[int]


def visible(call: Call) -> Iterator[psutil.Process]:
    """The processes that the call may see: all, or those that were started here."""
    if grants.has(call, "machine-processes"):
        yield from psutil.process_iter(list(_BRIEF), ad_value=None)
        return
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.info = process.as_dict(list(_BRIEF), ad_value=None)
            yield process


def brief(info: dict[str, Any]) -> Process:
    """A process as it is listed."""
    memory, cpu = info["memory_info"], info["cpu_times"]
    return {
        "pid": info["pid"],
        "parent": info["ppid"] or 0,
        "name": info["name"] or "",
        "user": info["username"] or "",
        "status": str(info["status"] or ""),
        "started": info["create_time"] or 0.0,
        "cpu_s": round(cpu.user + cpu.system, 3) if cpu else 0.0,
        "rss_bytes": memory.rss if memory else 0,
        "command": " ".join(info["cmdline"] or [])[:_LINE],
    }


def find(call: Call, pid: int) -> psutil.Process:
    """One that the call may see. NOT_FOUND otherwise, whether it is there or not."""
    for process in visible(call):
        if process.pid == pid:
            return process
    problem = f"no process {pid}"
    if not grants.has(call, "machine-processes"):
        problem += ' was started here; to see others the manifest would say `capabilities = ["machine-processes"]`'
    raise PluginError("NOT_FOUND", problem, field="pid", reason="NO_PROCESS")


def detail(call: Call, pid: int) -> Detail:
    """One with its resources."""
    process = find(call, pid)
    try:
        info: dict[str, Any] = process.as_dict(list(_BRIEF), ad_value=None)
        more = process.as_dict(["num_threads", "num_fds", "cwd", "io_counters"], ad_value=None)
        percent = process.cpu_percent(_SAMPLE_S)
        children = [child.pid for child in process.children()]
    except psutil.NoSuchProcess:
        raise PluginError("NOT_FOUND", f"process {pid} has ended", field="pid", reason="NO_PROCESS") from None
    io = more["io_counters"]
    return {
        **brief(info),
        "cpu_percent": percent,
        "threads": more["num_threads"],
        "open_files": more["num_fds"],
        "read_bytes": io.read_bytes if io else None,
        "written_bytes": io.write_bytes if io else None,
        "cwd": more["cwd"],
        "children": children[:1000],
    }


def victim(call: Call, pid: int, started: float) -> psutil.Process:
    """A process that may be ended: it is the one that was meant, and neither this plugin nor what it lives in."""
    protected = {os.getpid(), 1, *(parent.pid for parent in psutil.Process().parents())}
    if pid in protected:
        raise PluginError("PERMISSION_DENIED", f"{pid} is what this plugin lives in", field="pid", reason="PROTECTED")
    process = find(call, pid)
    if abs(process.create_time() - started) > _SAME_S:
        problem = f"process {pid} was started at {process.create_time():.2f}, so it is another one; look again"
        raise PluginError("FAILED_PRECONDITION", problem, field="started", reason="OTHER_PROCESS")
    return process


def end(process: psutil.Process, grace: float) -> bool:
    """Ends a process, after `grace` seconds by force; whether that was needed."""
    with contextlib.suppress(psutil.NoSuchProcess):
        try:
            process.terminate()
            try:
                process.wait(grace)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(5.0)
                return True
        except psutil.AccessDenied:
            problem = f"process {process.pid} is another user's"
            raise PluginError("PERMISSION_DENIED", problem, field="pid", reason="NOT_YOURS") from None
        except psutil.TimeoutExpired:
            raise PluginError("INTERNAL", f"process {process.pid} outlives SIGKILL", field="pid") from None
    return False
