"""Statistics of rounds: medians, ratios, and how a figure is written."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

# What is taken from each reading.
METRICS = (
    "calls_per_s",
    "runs_per_s",
    "steps_per_s",
    "p50_ms",
    "p99_ms",
    "ready_ms",
    "idle_mib",
    "loaded_mib",
    "peak_mib",
    "server_cores",
)
# A call from one process to another and back takes at least so long, over any socket or pipe.
_QUICKEST_MS = 0.005
# Of these, less is better: their ratio is the other's figure through ours.
LESS_IS_BETTER = frozenset({"p50_ms", "p99_ms", "ready_ms", "idle_mib", "loaded_mib", "peak_mib", "server_cores"})

Reading = Mapping[str, Any]
Medians = dict[str, dict[str, dict[str, float]]]


def is_good(reading: Reading) -> bool:
    """Whether the reading counts: it was made, and some run or call ended well within its window."""
    return not reading.get("failure") and bool(reading.get("runs") or reading.get("calls"))


def contradiction(lanes: int, per_s: float, p50_ms: float, p99_ms: float) -> str:
    """Why latencies of a closed loop cannot be true; empty if they can.

    In such a loop each of the lanes always has one call under way: the mean latency is `lanes / per_s` (Little's law).
    """
    if p50_ms < _QUICKEST_MS:
        return f"p50 of {p50_ms:g} ms is less than a call between processes takes"
    if p50_ms > p99_ms:
        return f"p50 of {p50_ms:g} ms is above p99 of {p99_ms:g} ms"
    mean = lanes / per_s * 1e3 if per_s > 0 else 0.0
    if mean > p99_ms:
        return f"{lanes} lanes with {per_s:g} calls/s mean {mean:.3g} ms a call, which is above p99 of {p99_ms:g} ms"
    return ""


def medians(readings: Iterable[Reading]) -> Medians:
    """Scenario, system and metric to the median of the rounds, and `rounds`: how many of them counted."""
    found: dict[tuple[str, str], list[Reading]] = {}
    for reading in readings:
        if is_good(reading):
            found.setdefault((reading["scenario"], reading["system"]), []).append(reading)
    table: Medians = {}
    for (scenario, system), rounds in found.items():
        row = {
            metric: median(values)
            for metric in METRICS
            if (values := [float(each[metric]) for each in rounds if each.get(metric) is not None])
        }
        row["rounds"] = float(len(rounds))
        table.setdefault(scenario, {})[system] = row
    return table


def ratios(table: Medians, ours: str) -> Medians:
    """Scenario, other system and metric to how many times better ours is; below 1 it is worse."""
    found: Medians = {}
    for scenario, systems in table.items():
        mine = systems.get(ours)
        for system, row in systems.items():
            if mine is None or system == ours:
                continue
            for metric in METRICS:
                if row.get(metric) and mine.get(metric):
                    better = row[metric] / mine[metric] if metric in LESS_IS_BETTER else mine[metric] / row[metric]
                    found.setdefault(scenario, {}).setdefault(system, {})[metric] = round(better, 3)
    return found


def spread(values: Sequence[float]) -> float:
    """How far rounds lie apart: the widest through the median, 0 for fewer than two."""
    if len(values) < 2 or not median(values):
        return 0.0
    return (max(values) - min(values)) / median(values)


def short(value: float) -> str:
    """A figure with about three digits: 0.91, 12.3, 5,300, 12.3k, 1.25M."""
    size = abs(value)
    if size < 1_000 and float(value).is_integer():
        return f"{value:.0f}"
    if size >= 999_500:
        return f"{value / 1e6:.3g}M"
    if size >= 9_995:
        return f"{value / 1e3:.3g}k"
    if size >= 1_000:
        return f"{value:,.0f}"
    if size >= 99.5:
        return f"{value:.0f}"
    if size >= 9.95:
        return f"{value:.1f}"
    return f"{value:.2f}"


def brief(value: float) -> str:
    """A figure with about two digits, for a narrow place: 0.91, 2.1, 87, 4.2k, 18k."""
    size = abs(value)
    if size >= 999.5:
        return f"{value / 1e3:.0f}k" if size >= 9_950 else f"{value / 1e3:.1f}k"
    return f"{value:.0f}" if size >= 9.95 else f"{value:.1f}" if size >= 0.95 else f"{value:.2f}"


def of_bytes(value: float) -> str:
    """Bytes as people say them: 10 KiB, 1 MiB."""
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"
