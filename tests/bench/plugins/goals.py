"""The targets of calls to plugins, held against the medians of a sitting, and a sitting as text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.figures import Medians, short
from bench.plugins.callers import DIRECT, OURS
from bench.sitting import Document, named

CONCURRENCIES = (1, 16)
LABELS = {
    OURS: "Consort, through the mesh",
    DIRECT: "the same plugin, direct gRPC",
    "go-plugin": "go-plugin, KV.Get over gRPC",
    "go-plugin-ping": "go-plugin, health check over gRPC",
    "go-plugin-greet": "go-plugin, Greet over net/rpc",
    "mcp-python": "MCP over stdio, Python SDK",
    "mcp-typescript": "MCP over stdio, TypeScript SDK",
}
# Of the mesh's calls to those of an MCP SDK.
_MCP_FACTOR = 5.0


def row_of(concurrency: int) -> str:
    """The key of a row."""
    return f"calls-{concurrency}"


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure that follows from the medians, and what it must reach; `limit` is None where it is only told."""

    measure: str
    figure: Callable[[Medians], float | None]
    unit: str
    limit: float | None = None
    at_least: bool = True

    def verdict(self, table: Medians) -> dict[str, Any]:
        """The goal with what was read: `met` is None if it could not be told, or nothing is asked."""
        ours = self.figure(table)
        met = None
        if ours is not None and self.limit is not None:
            met = ours >= self.limit if self.at_least else ours <= self.limit
        told = None if ours is None else float(f"{ours:.4g}")
        return {
            "measure": self.measure,
            "unit": self.unit,
            "ours": told,
            "limit": self.limit,
            "at_least": self.at_least,
            "met": met,
        }


def _at(table: Medians, lanes: int, system: str, metric: str) -> float | None:
    return table.get(row_of(lanes), {}).get(system, {}).get(metric)


def _rate(other: str, lanes: int, limit: float | None = None) -> Goal:
    """Calls a second through the mesh, as a multiple of another system's."""

    def figure(table: Medians) -> float | None:
        ours, theirs = (_at(table, lanes, system, "calls_per_s") for system in (OURS, other))
        return ours / theirs if ours is not None and theirs else None

    return Goal(f"calls/s, mesh / {other} at {lanes}", figure, "x", limit)


def _added(lanes: int, limit: float | None = None) -> Goal:
    """Milliseconds that the mesh adds to the median of a direct call."""

    def figure(table: Medians) -> float | None:
        ours, alone = (_at(table, lanes, system, "p50_ms") for system in (OURS, DIRECT))
        return ours - alone if ours is not None and alone is not None else None

    return Goal(f"p50 that the mesh adds at {lanes}", figure, "ms", limit, at_least=False)


GOALS = (
    _rate(DIRECT, 16, 0.6),
    _rate(DIRECT, 1),
    _added(1, 0.15),
    _added(16),
    *(_rate(sdk, lanes, _MCP_FACTOR) for sdk in ("mcp-python", "mcp-typescript") for lanes in (16, 1)),
    *(_rate(call, lanes) for call in ("go-plugin", "go-plugin-ping", "go-plugin-greet") for lanes in (16, 1)),
)


def verdicts(table: Medians) -> list[dict[str, Any]]:
    """Each goal with what was read, and whether it is met."""
    return [goal.verdict(table) for goal in GOALS]


def said(verdict: dict[str, Any]) -> str:
    """A verdict in one line."""
    if verdict["ours"] is None:
        return f"{verdict['measure']}: not measured"
    line = f"{verdict['measure']}: {short(verdict['ours'])} {verdict['unit']}"
    if verdict["met"] is None:
        return line
    bound = f"{'at least' if verdict['at_least'] else 'at most'} {short(verdict['limit'])}"
    return f"{line} ({bound}: {'met' if verdict['met'] else 'missed'})"


def as_text(document: Document) -> str:
    """A sitting as a person reads it: machine, settings, the figures of each system, and the goals."""
    settings = document["settings"]
    rounds = f"{settings['rounds']} round{'s' if settings['rounds'] > 1 else ''} of {settings['seconds']} s"
    lines = [named(document), f"medians of {rounds}, seed {document['seed']}; closed loop, one connection", ""]
    head = ["system", *(f"{what} at {lanes}" for lanes in CONCURRENCIES for what in ("calls/s", "p50 ms", "p99 ms"))]
    rows = []
    for system, label in LABELS.items():
        figures = [
            _at(document["medians"], lanes, system, metric)
            for lanes in CONCURRENCIES
            for metric in ("calls_per_s", "p50_ms", "p99_ms")
        ]
        if any(figure is not None for figure in figures):
            rows.append([label, *("-" if figure is None else short(figure) for figure in figures)])
    lines += [*_table(head, rows), ""]
    missing = {name: about["missing"] for name, about in document["systems"].items() if about.get("missing")}
    lines += [f"left out: {name}: {why}" for name, why in missing.items()]
    lines += [f"- {said(verdict)}" for verdict in document["targets"]]
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as a table of Markdown, aligned."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        return f"| {' | '.join(cells)} |"

    rule = [f"{'-' * width}" for width in widths]
    return [line(head), line(rule), *(line(row) for row in rows)]
