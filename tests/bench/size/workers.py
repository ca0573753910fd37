"""Many workers: what their connections take, and what goes through them."""

import time

from bench.processes import BenchError, Command, Process, output_of
from bench.size.base import Part, Point, Served

_ATTACH = 60.0
# Besides the workers: the connections of the load and of the bench itself.
_OTHERS = 50
_SLOTS = 4_096


def counts(workers: int) -> list[int]:
    """1 and every tenfold, up to the most."""
    return [*(10**power for power in range(4) if 10**power < workers), workers]


def measure(part: Part, workers: int) -> list[Point]:
    """Workers of one process, each with a connection of its own, that share the load."""
    for count in counts(workers):
        with part.server("--max-connections", str(workers + _OTHERS)) as server:
            empty = server.process.memory().resident
            slots = str(max(_SLOTS // count, 1))
            command: Command = [
                part.binary,
                "bench-worker",
                "--addr",
                server.address,
                "--workers",
                str(count),
                "--slots",
                slots,
            ]
            with Process("workers", command, part.folder) as process:
                begun = time.monotonic()
                _wait_for(server, count)
                attached = time.monotonic() - begun
                memory, cpu = server.process.memory().resident, server.idle_cpu()
                process.check()
            figures = server.figures("--concurrency", "64", "--workers", str(count), warmup=5)
            part.add(
                {
                    "workers": count,
                    "attach_s": round(attached, 2),
                    "empty_rss_mib": empty,
                    "rss_mib": memory,
                    "kib_per_worker": round((memory - empty) * 1024 / count, 1),
                    "cpu_percent": cpu,
                    **figures,
                    "loaded_rss_mib": server.process.memory().resident,
                }
            )
    return part.points


def _wait_for(server: Served, count: int) -> None:
    command: Command = [server.part.binary, "workers", "--addr", server.address, "-o", "json"]
    end = time.monotonic() + _ATTACH
    found = 0
    while time.monotonic() < end:
        found = len(output_of(command, server.part.folder, _ATTACH).get("workers", []))
        if found >= count:
            return
        time.sleep(0.1)
    raise BenchError(f"only {found} of {count} workers were attached after {_ATTACH:.0f} s")
