"""Files of sittings, and the charts that are drawn from them."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from bench import charts, durable, machine, sitting, svg


def document(kind: str = "durable", **more: Any) -> sitting.Document:
    settings: dict[str, Any] = {"rounds": 5, "seconds": 5, "live_runs": 10_000}
    found: sitting.Document = {
        "schema": f"consort-bench/{kind}/1",
        "date": "2026-01-02T03:04:05+00:00",
        "command": "python -m bench",
        "seed": 7,
        "settings": settings,
        "repository": {"commit": "0123456789abcdef", "changed": True},
        "machine": {
            "cpu": "A & B <C>",
            "cores": 2,
            "memory_mib": 8192,
            "disk": {"file_system": "ext4", "sync_p50_ms": 0.9},
        },
        "readings": [],
    }
    parts: dict[str, dict[str, Any]] = {
        "durable": {"systems": {}},
        "size": {"version": "consort 0.1.0", "curves": {}},
    }
    return found | parts[kind] | more


def some_readings() -> list[dict[str, Any]]:
    return [
        {
            "scenario": scenario,
            "system": system,
            "runs": 3,
            "runs_per_s": 100.0 * factor,
            "steps_per_s": 100.0 * factor,
            "p50_ms": 1.0 / factor,
            "p99_ms": 9.0 / factor,
            "ready_ms": 20.0,
            "idle_mib": 10.0,
            "peak_mib": 40.0,
        }
        for scenario in ("one-1", "one-64", "ten-64", "fan-1", "live")
        for factor, system in enumerate(("consort", "restate", "shape"), 1)
    ]


def texts(chart: str) -> list[str]:
    root = ET.fromstring(chart)  # noqa: S314 - our own.
    return [part.text or "" for part in root.iter("{http://www.w3.org/2000/svg}text")]


def test_a_sitting_is_written_whole_and_read_again(tmp_path: Path) -> None:
    path = durable.finish(document(readings=some_readings()), tmp_path)
    assert path.name == "durable-2026-01-02-030405.json"
    found = sitting.read(path)
    assert found["medians"]["one-64"]["restate"]["runs_per_s"] == 200.0
    assert found["ratios"]["one-64"]["restate"]["runs_per_s"] == 0.5
    assert len(found["targets"]) > 5
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


def test_the_command_line_tells_no_paths() -> None:
    said = sitting.command_line(["durable", "--consort", "/home/me/target/release/consort", "--only", "one-64"])
    assert said == "python -m bench durable --consort consort --only one-64"


def test_what_is_no_sitting_is_named(tmp_path: Path) -> None:
    with pytest.raises(sitting.DocumentError, match="'consort-bench/durable/9' is none of"):
        sitting.kind_of({"schema": "consort-bench/durable/9"})
    broken = document() | {"medians": {}, "ratios": [], "targets": []}
    del broken["seed"]
    with pytest.raises(sitting.DocumentError, match="seed: missing; ratios: no dict"):
        sitting.kind_of(broken)
    for text, said in (("{", "is no JSON"), ("[]", "holds no object")):
        path = tmp_path / "broken.json"
        path.write_text(text)
        with pytest.raises(sitting.DocumentError, match=said):
            sitting.read(path)


def test_the_chart_of_a_sitting_says_what_was_read(tmp_path: Path) -> None:
    path = durable.finish(document(readings=some_readings()), tmp_path)
    chart = charts.write(sitting.read(path), path)
    assert chart == path.with_suffix(".svg")
    said = texts(chart.read_text())
    assert "median of 5 rounds of 5 s" in " ".join(said)
    assert {"Consort", "Restate", "bare shape", "300"} <= set(said)
    assert "Temporal (dev server)" not in said
    assert any("A & B <C>" in line and "0123456789 with changes" in line for line in said)


def test_a_chart_of_nothing_says_so(tmp_path: Path) -> None:
    path = durable.finish(document(), tmp_path)
    assert "not measured" in texts(charts.draw(sitting.read(path)))
    assert "not measured" in texts(charts.draw(document("size")))


def test_the_chart_of_size_has_a_point_for_each_reading() -> None:
    curves = {
        "growth": [
            {"events": 10.0**power, "runs_per_s": 5000.0 - power, "p50_ms": 1.0, "p99_ms": 9.0} for power in (3, 5, 7)
        ],
        "waiting": [
            {"runs": 10_000, "rss_mib": 50.0, "kib_per_run": 3.2, "cpu_percent": 0.01, "restart_ms": 80.0},
        ],
    }
    chart = charts.draw(document("size", curves=curves))
    assert chart.count("<circle") == 9
    assert "10k waiting runs: 50 MiB in all, 3.2 KiB each, 0.01 % of a core; after kill -9 ready in 80 ms" in texts(
        chart
    )


def test_a_scale_is_of_whole_decades() -> None:
    scale = svg.Scale.over([3.0, 250.0], 300, 0)
    assert scale.ticks() == [1.0, 10.0, 100.0, 1000.0]
    assert scale.at(1.0) == 300
    assert scale.at(1000.0) == 0
    assert scale.at(0.0) == 300


def test_this_machine_is_described(tmp_path: Path) -> None:
    about = machine.describe(tmp_path)
    assert about["cores"] >= 1
    assert about["memory_mib"] > 0
    assert 0 < about["disk"]["sync_p50_ms"] <= about["disk"]["sync_p99_ms"]
    assert json.dumps(about)
    assert list(tmp_path.iterdir()) == []


def test_sittings_of_one_machine_are_merged(tmp_path: Path) -> None:
    readings = [{**reading, "round": 1} for reading in some_readings()]
    path = durable.finish(sitting.merged([_whole(readings), _whole(readings)]), tmp_path)
    found = sitting.read(path)
    assert found["settings"]["rounds"] == 2
    assert {reading["round"] for reading in found["readings"]} == {1, 2}
    assert found["medians"]["one-1"]["consort"]["rounds"] == 2
    other = _whole(readings)
    other["machine"] = {**other["machine"], "cpu": "another"}
    with pytest.raises(sitting.DocumentError, match="cpu: one sitting has 'A & B <C>' and another 'another'"):
        sitting.merged([_whole(readings), other])
    parts = [document("size", curves={name: [{"runs": 1}]}) for name in ("growth", "waiting")]
    assert set(sitting.merged(parts)["curves"]) == {"growth", "waiting"}


def _whole(readings: list[dict[str, Any]]) -> sitting.Document:
    return document(readings=readings, medians={}, ratios={}, targets=[])
