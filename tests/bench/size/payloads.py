"""Large values: runs whose first step answers with bytes that the second takes."""

from bench.size.base import Part, Point

# More would make of the largest a test of the disk's size.
_LANES = 16
_IN_FLIGHT = 64 << 20


def sizes(largest: int) -> list[int]:
    """1 KiB and every tenfold, up to the largest. Above 64 KiB a value is a blob."""
    known = [1 << 10, 10 << 10, 100 << 10, 1 << 20, 10 << 20]
    return [*(size for size in known if size < largest), largest]


def measure(part: Part, largest: int) -> list[Point]:
    """Each size on the same server; payloads are never the same twice."""
    with part.server() as server:
        for size in sizes(largest):
            lanes = max(1, min(_LANES, _IN_FLIGHT // size))
            figures = server.figures("--payload", str(size), "--concurrency", str(lanes))
            memory = server.process.memory()
            part.add(
                {
                    "bytes": size,
                    "clients": lanes,
                    **figures,
                    "rss_mib": memory.resident,
                    "peak_mib": memory.peak,
                    "store_mib": server.store_mib(),
                }
            )
    return part.points
