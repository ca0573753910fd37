"""The charts of a sitting."""

from collections.abc import Sequence
from pathlib import Path

from bench import svg
from bench.figures import Medians, of_bytes, short
from bench.plugins import goals
from bench.sitting import Document, kind_of, named

_WIDTH = 1000
_CLIENTS = ("1", "16", "64", "256")
_LABELS = {"consort": "Consort", "restate": "Restate", "temporal": "Temporal (dev server)", "shape": "bare shape"}


def draw(document: Document) -> str:
    """The chart of a sitting as SVG."""
    return {"durable": _durable, "plugins": _plugins, "size": _size}[kind_of(document)](document)


def write(document: Document, path: Path) -> Path:
    """Draws the chart of a sitting beside its file, and returns the chart's path."""
    chart = path.with_suffix(".svg")
    chart.write_text(draw(document))
    return chart


def _durable(document: Document) -> str:
    table: Medians = document["medians"]
    systems = [name for name in _LABELS if any(name in row for row in table.values())]
    labels = [_LABELS[name] for name in systems]
    settings = document["settings"]
    canvas = svg.Canvas(_WIDTH, 900, "Durable runs: Consort, its peers, and the bare shape on this machine")
    canvas.text(24, 34, canvas.title, "title ink")
    many = "s" if settings["rounds"] > 1 else ""
    rounds = f"median of {settings['rounds']} round{many} of {settings['seconds']} s, logarithmic scale"
    canvas.text(24, 54, f"steps that do nothing, every acknowledgement on disk, closed loop; {rounds}", "dim")
    svg.legend(canvas, 24, 80, labels)

    def panel(column: int, row: int, title: str, keys: Sequence[str], groups: Sequence[str], metric: str) -> None:
        box = svg.Box(24 + column * 486, 100 + row * 252, 466, 240)
        series = {
            label: [table.get(key, {}).get(name, {}).get(metric) for key in keys]
            for name, label in zip(systems, labels, strict=True)
        }
        svg.bars(canvas, box, title, groups, series)

    clients = [f"{count} client{'s' if count != '1' else ''}" for count in _CLIENTS]
    ones, tens = ([f"{name}-{count}" for count in _CLIENTS] for name in ("one", "ten"))
    panel(0, 0, "1 step: runs/s (more is better)", ones, clients, "runs_per_s")
    panel(1, 0, "10 steps: steps/s (more is better)", tens, clients, "steps_per_s")
    panel(0, 1, "1 step: median latency in ms (less is better)", ones, clients, "p50_ms")
    panel(1, 1, "1 step: 99th percentile in ms (less is better)", ones, clients, "p99_ms")
    box = svg.Box(24, 604, 466, 240)
    fan = [("fan-1", "1,000 parallel steps, ms"), ("one-1", "start to ready, ms")]
    metrics = {"fan-1": "p50_ms", "one-1": "ready_ms"}
    series: svg.Series = {
        label: [table.get(key, {}).get(name, {}).get(metrics[key]) for key, _ in fan]
        for name, label in zip(systems, labels, strict=True)
    }
    svg.bars(canvas, box, "One wide run, and a cold start (less is better)", [said for _, said in fan], series)
    live = f"{settings['live_runs']:,} live runs, loaded"
    memory: svg.Series = {
        label: [table.get("live", {}).get(name, {}).get(metric) for metric in ("idle_mib", "loaded_mib")]
        for name, label in zip(systems, labels, strict=True)
    }
    svg.bars(canvas, svg.Box(510, 604, 466, 240), "Memory of the server, MiB (less is better)", ["idle", live], memory)
    canvas.text(24, 872, named(document), "small dim")
    canvas.text(24, 888, "; ".join(_version(document, name) for name in systems), "small dim")
    return canvas.render()


def _version(document: Document, name: str) -> str:
    return f"{_LABELS[name]}: {document['systems'].get(name, {}).get('version', '')}"


def _plugins(document: Document) -> str:
    table: Medians = document["medians"]
    systems = {name: label for name, label in goals.LABELS.items() if any(name in row for row in table.values())}
    settings = document["settings"]
    canvas = svg.Canvas(_WIDTH, 710, "Calls of a plugin: through the mesh, directly, and what could be used instead")
    canvas.text(24, 34, canvas.title, "title ink")
    many = "s" if settings["rounds"] > 1 else ""
    rounds = f"median of {settings['rounds']} round{many} of {settings['seconds']} s, logarithmic scale"
    canvas.text(24, 54, f"calls that do next to nothing, closed loop over one connection; {rounds}", "dim")
    labels = list(systems.values())
    svg.legend(canvas, 24, 80, labels[:3])
    svg.legend(canvas, 24, 98, labels[3:], first_hue=3)
    groups = [f"{lanes} call{'s' if lanes > 1 else ''} at once" for lanes in goals.CONCURRENCIES]

    def panel(column: int, row: int, title: str, metric: str) -> None:
        box = svg.Box(24 + column * 486, 122 + row * 272, 466, 260)
        series: svg.Series = {
            label: [table.get(goals.row_of(lanes), {}).get(name, {}).get(metric) for lanes in goals.CONCURRENCIES]
            for name, label in systems.items()
        }
        svg.bars(canvas, box, title, groups, series)

    panel(0, 0, "calls/s (more is better)", "calls_per_s")
    panel(1, 0, "median latency in ms (less is better)", "p50_ms")
    panel(0, 1, "99th percentile in ms (less is better)", "p99_ms")
    canvas.text(510, 406, "What follows", "head ink")
    for line, verdict in enumerate(document["targets"]):
        canvas.text(510, 428 + 16 * line, goals.said(verdict), "ink" if verdict["limit"] is not None else "dim")
    canvas.text(24, 690, named(document), "small dim")
    return canvas.render()


def _size(document: Document) -> str:
    found = document["curves"]
    canvas = svg.Canvas(_WIDTH, 896, "What size costs")
    canvas.text(24, 34, canvas.title, "title ink")
    canvas.text(24, 54, f"{document['version']}; flat is good where nothing else is said", "dim")

    def panel(column: int, row: int, title: str, name: str, along: str, lines: dict[str, str], hue: int) -> None:
        points = found.get(name, [])
        series: svg.Series = {label: [point.get(metric) for point in points] for label, metric in lines.items()}
        box = svg.Box(24 + column * 486, 80 + row * 252, 466, 240)
        said = of_bytes if along == "bytes" else short
        svg.curves(canvas, box, title, [point[along] for point in points], series, first_hue=hue, said=said)

    panel(
        0, 0, "1-step runs/s at 64 clients, over events in the store", "growth", "events", {"runs/s": "runs_per_s"}, 0
    )
    panel(
        1,
        0,
        "latency in ms at 64 clients, over events in the store",
        "growth",
        "events",
        {"p50": "p50_ms", "p99": "p99_ms"},
        1,
    )
    lines = {"one after the other": "chain_ms_per_step", "all at once": "fan_ms_per_step"}
    panel(0, 1, "ms per step, over the steps of one run", "long_runs", "steps", lines, 2)
    panel(1, 1, "runs/s, over the workers attached", "workers", "workers", {"runs/s": "runs_per_s"}, 0)
    panel(0, 2, "runs/s, over bytes handed from step to step", "payloads", "bytes", {"runs/s": "runs_per_s"}, 3)
    panel(1, 2, "MiB/s, over bytes handed from step to step", "payloads", "bytes", {"MiB/s": "mib_per_s"}, 4)
    for line, said in enumerate(_waiting(found.get("waiting", []))):
        canvas.text(24, 848 + 16 * line, said, "dim")
    canvas.text(24, 886, named(document), "small dim")
    return canvas.render()


def _waiting(points: Sequence[dict[str, float]]) -> list[str]:
    return [
        f"{short(point['runs'])} waiting runs: {point['rss_mib']:.0f} MiB in all, {point['kib_per_run']:.1f} KiB each, "
        f"{point['cpu_percent']:.2f} % of a core; after kill -9 ready in {point['restart_ms']:.0f} ms"
        for point in points
    ]
