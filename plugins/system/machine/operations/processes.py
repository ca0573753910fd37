"""Operations on processes: list them, look at one, wait for one, end one."""

import heapq
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypedDict

import psutil

from consort.plugin import Call, Limits, PluginError, grants
from machine import table
from machine.jobs import jobs
from machine.operations._plugin import WAIT_S, Grace, Seconds, plugin
from machine.table import Detail, Process

_LOOK_S = 0.05
_ORDERS: dict[str, Callable[[Process], Any]] = {
    "cpu": lambda each: (-each["cpu_s"], each["pid"]),
    "memory": lambda each: (-each["rss_bytes"], each["pid"]),
    "started": lambda each: (-each["started"], each["pid"]),
    "pid": lambda each: (each["pid"],),
}


class Processes(TypedDict):
    """Processes; `truncated` says that there are more."""

    processes: list[Process]
    truncated: bool


class Ended(TypedDict):
    """Whether it has ended."""

    ended: bool


class Stopped(TypedDict):
    """`stopped` is false if it had ended before; `forced` says that it did not go by itself."""

    stopped: bool
    forced: bool


@plugin.operation(effect="read")
def processes(
    call: Call,
    name: str = "",
    command: str = "",
    user: str = "",
    parent: int | None = None,
    order: Literal["cpu", "memory", "started", "pid"] = "pid",
    limit: Annotated[int, Limits(minimum=1, maximum=1000)] = 100,
) -> Processes:
    """Lists processes: the machine's if `machine-processes` is granted, else those that were started here.

    Args:
        name: Part of their program's name, in any case.
        command: Part of their command line.
        user: Name of their user.
        parent: Process id of their parent.
        order: What comes first: most time on processors, most memory, the youngest, or the smallest id.

    """
    grants.need(call, "processes")
    found = [
        each
        for each in (table.brief(process.info) for process in table.visible(call))
        if name.lower() in each["name"].lower()
        and command in each["command"]
        and user in ("", each["user"])
        and parent in (None, each["parent"])
    ]
    shown = heapq.nsmallest(limit, found, key=_ORDERS[order])
    return {"processes": shown, "truncated": len(found) > limit}


@plugin.operation(effect="read")
def process(call: Call, pid: Annotated[int, Limits(minimum=1)]) -> Detail:
    """Tells of one process what it uses: processor, memory, threads, files, bytes read and written."""
    grants.need(call, "processes")
    return table.detail(call, pid)


@plugin.operation(effect="read", timeout=WAIT_S)
def wait_process(call: Call, pid: Annotated[int, Limits(minimum=1)], seconds: Seconds = 60.0) -> Ended:
    """Waits until a process ends. One that is not there has ended."""
    grants.need(call, "processes")
    try:
        found = table.find(call, pid)
    except PluginError:
        return {"ended": True}
    end = time.monotonic() + seconds
    while not _has_ended(found):
        if time.monotonic() >= end:
            return {"ended": False}
        call.sleep(_LOOK_S)
    return {"ended": True}


@plugin.operation(effect="idempotent_write", dry_run=True)
def stop_process(
    call: Call, pid: Annotated[int, Limits(minimum=1)], started: float, grace: Grace = 5.0
) -> Stopped | None:
    """Ends a process: SIGTERM, and SIGKILL after a while. One that was not started here needs `signal`.

    Args:
        started: When it was started, as `processes` tells it, so that no other of the same id is meant.
        grace: Seconds that it may take to go by itself.

    """
    job = jobs.of(pid)
    grants.need(call, "start" if job else "signal")
    found = table.victim(call, pid, started)
    line = f"end process {pid} ({found.name()})"
    if call.dry_run:
        call.would(line)
        return None
    if job:
        job.stop(grace)
        call.did(f"ended program {job.id}: {job.argv[0]}, process {pid}")
        return {"stopped": True, "forced": job.exit_code == -9}
    forced = table.end(found, grace)
    call.did(f"{line}{', by force' if forced else ''}")
    return {"stopped": True, "forced": forced}


def _has_ended(process: psutil.Process) -> bool:
    """A zombie has ended, too: only its parent has not looked yet."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
