"""The targets of the durable engine, each held against the medians of a sitting."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.figures import Medians, short

OURS = "consort"
PEER = "restate"
CEILING = "shape"


@dataclass(frozen=True, slots=True)
class Bound:
    """One inequality: a figure of ours, and what it must not be above (or below)."""

    text: str
    # Ours and the bound, from the medians; None if one of them was not measured.
    sides: Callable[[Medians], tuple[float | None, float | None]]
    at_least: bool = False
    unit: str = ""

    def verdict(self, table: Medians) -> dict[str, Any]:
        """The bound with what was read: `met` is None if it could not be told."""
        ours, bound = self.sides(table)
        met = None
        if ours is not None and bound is not None:
            met = ours >= bound if self.at_least else ours <= bound
        shown = [None if side is None else float(f"{side:.4g}") for side in (ours, bound)]
        return {"bound": self.text, "unit": self.unit, "ours": shown[0], "limit": shown[1], "met": met}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: what is measured, and what it must reach first and in the end."""

    measure: str
    first: tuple[Bound, ...]
    final: tuple[Bound, ...]


def _at(table: Medians, scenario: str, system: str, metric: str) -> float | None:
    return table.get(scenario, {}).get(system, {}).get(metric)


def _against(
    text: str, scenario: str, metric: str, factor: float, system: str, *, at_least: bool = False, other: str = ""
) -> Bound:
    """Ours against a multiple of another system's figure, in the same scenario or in another one."""

    def sides(table: Medians) -> tuple[float | None, float | None]:
        theirs = _at(table, other or scenario, system, metric)
        return _at(table, scenario, OURS, metric), None if theirs is None else theirs * factor

    return Bound(text, sides, at_least, _UNITS[metric])


def _plain(text: str, scenario: str, metric: str, limit: float) -> Bound:
    return Bound(text, lambda table: (_at(table, scenario, OURS, metric), limit), unit=_UNITS[metric])


_UNITS = {
    "runs_per_s": "runs/s",
    "steps_per_s": "steps/s",
    "p50_ms": "ms",
    "p99_ms": "ms",
    "ready_ms": "ms",
    "idle_mib": "MiB",
    "loaded_mib": "MiB",
    "peak_mib": "MiB",
}

ROWS = (
    Row(
        "1 step, runs/s",
        (_against("10x Restate at 64", "one-64", "runs_per_s", 10, PEER, at_least=True),),
        (_against("60 % of the shape at 64", "one-64", "runs_per_s", 0.6, CEILING, at_least=True),),
    ),
    Row(
        "10 steps, steps/s",
        tuple(_against(f"10x Restate at {n}", f"ten-{n}", "steps_per_s", 10, PEER, at_least=True) for n in (64, 256)),
        tuple(
            _against(f"55 % of the shape at {n}", f"ten-{n}", "steps_per_s", 0.55, CEILING, at_least=True)
            for n in (64, 256)
        ),
    ),
    Row(
        "10 steps with a Python worker, steps/s",
        (_against("4x Restate at 64", "ten-64-python", "steps_per_s", 4, PEER, at_least=True, other="ten-64"),),
        (_against("65 % of the shape at 64", "ten-64-python", "steps_per_s", 0.65, CEILING, at_least=True),),
    ),
    Row(
        "1 step, p50 / p99 at 1",
        (_against("p50 1/3 of Restate", "one-1", "p50_ms", 1 / 3, PEER),),
        (
            _plain("p50 1.5 ms", "one-1", "p50_ms", 1.5),
            _against("p99 1/2 of Restate", "one-1", "p99_ms", 1 / 2, PEER),
        ),
    ),
    Row(
        "1 step, p50 / p99 at 16",
        (
            _against("p50 1/6 of Restate", "one-16", "p50_ms", 1 / 6, PEER),
            _against("p99 1/3 of Restate", "one-16", "p99_ms", 1 / 3, PEER),
        ),
        (
            _against("p50 2x the shape", "one-16", "p50_ms", 2, CEILING),
            _against("p99 2x the shape", "one-16", "p99_ms", 2, CEILING),
        ),
    ),
    Row(
        "1,000 parallel steps of one run",
        (_plain("100 ms", "fan-1", "p50_ms", 100),),
        (_plain("15 ms", "fan-1", "p50_ms", 15), _plain("30 ms, Python worker", "fan-1-python", "p50_ms", 30)),
    ),
    Row(
        "memory idle / 10,000 live runs under load",
        (_plain("50 MiB idle", "live", "idle_mib", 50), _plain("150 MiB loaded", "live", "loaded_mib", 150)),
        (_plain("20 MiB idle", "live", "idle_mib", 20), _plain("100 MiB loaded", "live", "loaded_mib", 100)),
    ),
    Row(
        "process start to ready",
        (_plain("150 ms", "one-1", "ready_ms", 150),),
        (_plain("50 ms", "one-1", "ready_ms", 50),),
    ),
)


def verdicts(table: Medians) -> list[dict[str, Any]]:
    """Each row with its bounds, what was read, and whether it is met."""
    return [
        {
            "measure": row.measure,
            "first": [bound.verdict(table) for bound in row.first],
            "final": [bound.verdict(table) for bound in row.final],
        }
        for row in ROWS
    ]


def as_text(rows: list[dict[str, Any]]) -> str:
    """The rows as a table of Markdown, for a note."""
    lines = ["| measure | first | final |", "| --- | --- | --- |"]
    for row in rows:
        cells = ["; ".join(_said(bound) for bound in row[column]) for column in ("first", "final")]
        lines.append(f"| {row['measure']} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def _said(bound: dict[str, Any]) -> str:
    if bound["met"] is None:
        return f"{bound['bound']}: not measured"
    word = "met" if bound["met"] else "missed"
    return f"{bound['bound']}: {word} ({short(bound['ours'])} of {short(bound['limit'])} {bound['unit']})"
