"""How the machine is: load, memory, disks, power."""

import contextlib
import os
import platform
import time
from typing import TypedDict

import psutil

from consort.plugin import Call
from consort.plugin.grants import places


class Disk(TypedDict):
    """The file system on which a granted path lies."""

    path: str
    total_bytes: int
    free_bytes: int


class Battery(TypedDict):
    """`seconds_left` is null while it is charged, and where nobody knows."""

    percent: float
    charging: bool
    seconds_left: int | None


class Machine(TypedDict):
    """`load` is that of 1, 5 and 15 minutes; `battery` is null without one, or where the sandbox hides it."""

    system: str
    release: str
    architecture: str
    hostname: str
    uptime_s: float
    processors: int
    load: list[float]
    memory_bytes: int
    available_bytes: int
    swap_bytes: int
    swap_free_bytes: int
    disks: list[Disk]
    battery: Battery | None


def machine(call: Call) -> Machine:
    """All of it, now."""
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return {
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "hostname": platform.node(),
        "uptime_s": round(time.time() - psutil.boot_time(), 1),
        "processors": psutil.cpu_count() or 1,
        "load": [round(each, 2) for each in os.getloadavg()],
        "memory_bytes": memory.total,
        "available_bytes": memory.available,
        "swap_bytes": swap.total,
        "swap_free_bytes": swap.free,
        "disks": _disks(call),
        "battery": _battery(),
    }


def _disks(call: Call) -> list[Disk]:
    found: dict[int, Disk] = {}
    for path in places(call):
        with contextlib.suppress(OSError):
            device = os.stat(path).st_dev
            if device not in found:
                usage = psutil.disk_usage(path)
                found[device] = {"path": path, "total_bytes": usage.total, "free_bytes": usage.free}
    return list(found.values())


def _battery() -> Battery | None:
    try:
        found = psutil.sensors_battery()
    except OSError:
        return None
    if found is None:
        return None
    left = int(found.secsleft) if found.secsleft is not None and found.secsleft >= 0 else None
    return {"percent": round(found.percent, 1), "charging": bool(found.power_plugged), "seconds_left": left}
