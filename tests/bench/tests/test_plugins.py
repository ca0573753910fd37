"""Calls of plugins: what is read of the loads, the order of a sitting, and the targets that are held against it."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench import charts, figures, sitting
from bench.plugins import goals, run
from bench.plugins.callers import Caller, Consort, Figures, GoPlugin, Load, _Peer, peers, readings_of
from bench.processes import BenchError
from bench.systems import node

_LOAD = Load(concurrency=16, seconds=2, warmup=1)
# What `consort bench plugins` prints.
_PRINTED = {
    "per_s": 6000.0,
    "direct_per_s": 8000.0,
    "p50_ms": 2.5,
    "p99_ms": 9.0,
    "direct_p50_ms": 1.9,
    "server_rss_mib": 45.2,
    "server_cores": 0.4,
}


class FakeCaller:
    """Answers at once; or breaks, or is not there."""

    def __init__(self, name: str, per_s: float = 100.0) -> None:
        self.name = name
        self.settings: dict[str, Any] = {}
        self._per_s = per_s

    def missing(self) -> str:
        return "not here" if self.name == "mcp-python" else ""

    def version(self) -> str:
        return "fake"

    def call(self, folder: Path, load: Load) -> dict[str, Figures]:
        assert list(folder.iterdir()) == []
        (folder / "left").write_text("over")
        if self.name == "mcp-typescript":
            raise BenchError("it does not start")
        rate = self._per_s * load.concurrency
        read = {"calls": 7, "calls_per_s": rate, "p50_ms": 100 / self._per_s, "p99_ms": 900 / self._per_s, "errors": 0}
        return dict.fromkeys([self.name, "direct"] if self.name == "consort" else [self.name], read)


def settings(scratch: Path, **changes: Any) -> run.Settings:
    usual: dict[str, Any] = {"rounds": 2, "seconds": 3, "warmup": 1, "seed": 7, "only": (), "scratch": scratch}
    return run.Settings(**usual | changes)


def test_the_mesh_and_direct_calls_are_two_readings() -> None:
    found = readings_of({**_PRINTED, "direct_p99_ms": 8.5}, _LOAD)
    assert found == {
        "consort": {
            "calls": 12_000,
            "calls_per_s": 6000.0,
            "p50_ms": 2.5,
            "p99_ms": 9.0,
            "loaded_mib": 45.2,
            "server_cores": 0.4,
        },
        "direct": {"calls": 16_000, "calls_per_s": 8000.0, "p50_ms": 1.9, "p99_ms": 8.5},
    }
    assert "p99_ms" not in readings_of(_PRINTED, _LOAD)["direct"]


def test_latencies_that_the_rate_contradicts_are_left_out_and_the_rate_stays() -> None:
    # A histogram that clamps what is beyond its range to its lowest value looks like this.
    found = readings_of({**_PRINTED, "p50_ms": 0.002, "p99_ms": 2.02}, _LOAD)
    for name, rate in (("consort", 6000.0), ("direct", 8000.0)):
        assert found[name]["calls_per_s"] == rate
        assert "p50_ms" not in found[name]
        assert "less than a call between processes takes" in found[name]["doubtful"]["why"]
    assert found["consort"]["doubtful"]["p50_ms"] == 0.002
    readings = [{"scenario": "calls-16", "system": name, **read} for name, read in found.items()]
    added = next(one for one in goals.verdicts(figures.medians(readings)) if one["measure"].endswith("adds at 16"))
    assert added["ours"] is None


@pytest.mark.parametrize(
    ("lanes", "per_s", "p50", "p99", "said"),
    [
        (1, 1000.0, 0.9, 1.5, ""),
        (16, 8000.0, 1.8, 4.0, ""),
        (16, 0.0, 1.8, 4.0, ""),
        (16, 8000.0, 1.8, float("inf"), ""),
        (1, 1000.0, 0.002, 1.5, "less than a call between processes"),
        (1, 1000.0, 2.0, 1.5, "is above p99"),
        (16, 4822.0, 1.0, 2.023, "mean 3.32 ms a call"),
    ],
)
def test_latencies_agree_with_the_rate_of_a_closed_loop(
    lanes: int, per_s: float, p50: float, p99: float, said: str
) -> None:
    doubt = figures.contradiction(lanes, per_s, p50, p99)
    assert said in doubt
    assert bool(said) == bool(doubt)


@pytest.mark.parametrize("spoilt", [{"per_s": None}, {"direct_p50_ms": "fast"}])
def test_figures_that_are_not_there_are_named(spoilt: dict[str, Any]) -> None:
    with pytest.raises(BenchError, match="other figures than were expected"):
        readings_of({**_PRINTED, **spoilt}, _LOAD)
    with pytest.raises(BenchError, match="per_s"):
        readings_of({}, _LOAD)


@pytest.mark.parametrize(("p50", "doubtful"), [(1.0, False), (0.001, True)])
def test_what_a_load_prints_is_its_reading(tmp_path: Path, p50: float, doubtful: bool) -> None:
    script = (
        "import json, sys; "
        f"print(json.dumps({{'calls': 9, 'calls_per_s': 9e3, 'p50_ms': {p50}, 'p99_ms': 8.0, 'flags': sys.argv[1:]}}))"
    )
    found = _Peer("mcp-python", [sys.executable, "-c", script], {}).call(tmp_path, _LOAD)["mcp-python"]
    assert found["flags"] == ["--concurrency", "16", "--seconds", "2", "--warmup", "1"]
    assert ("doubtful" in found, "p50_ms" in found) == (doubtful, not doubtful)


def test_what_is_not_installed_says_how_to_get_it(tmp_path: Path) -> None:
    said = {caller.name: caller.missing() for caller in peers(tmp_path)}
    assert list(said) == [name for name in goals.LABELS if name not in ("consort", "direct")]
    for name, why in said.items():
        item = "go-plugin" if name.startswith("go-plugin") else name
        assert f"run tests/bench/setup.sh {item}" in why
    assert GoPlugin(tmp_path, "go-plugin", "get", "kv-grpc", "").version() == ""


def test_a_plugin_that_cannot_be_built_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary, plugin = tmp_path / "consort", tmp_path / "plugin"
    assert "cargo build --release" in Consort(binary, plugin).missing()
    binary.touch()
    assert "consort-plugin.toml is not there" in Consort(binary, plugin).missing()
    plugin.mkdir()
    (plugin / "consort-plugin.toml").write_text('id = "p"\ncommand = ["p"]\n')
    assert Consort(binary, plugin).missing() == ""
    (plugin / "main.go").write_text("package main\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    Consort(binary, plugin).build()
    assert "Go is missing" in Consort(binary, plugin).missing()
    (plugin / "p").touch()
    assert Consort(binary, plugin).missing() == ""


def test_node_must_be_new_enough(tmp_path: Path) -> None:
    program = tmp_path / "node/bin/node"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho v20.3.1\n")
    program.chmod(0o755)
    assert node.find(tmp_path) == str(program)
    assert node.too_old(str(program), 20) == ""
    assert node.too_old(str(program), 22) == "Node 22 or newer is needed and v20.3.1 was found"
    assert node.too_old("", 20) == "Node 20 or newer is needed and none was found"


def test_each_round_has_every_row_of_every_caller(tmp_path: Path) -> None:
    callers: list[Caller] = [FakeCaller("consort"), FakeCaller("go-plugin")]
    order = run.plan(settings(tmp_path), callers)
    counted = Counter((lanes, caller.name) for _, lanes, caller in order)
    assert counted == dict.fromkeys([(lanes, name) for lanes in (1, 16) for name in ("consort", "go-plugin")], 2)
    assert order == run.plan(settings(tmp_path), callers)
    assert {lanes for _, lanes, _ in run.plan(settings(tmp_path, only=("calls-16",)), callers)} == {16}


def test_peers_are_chosen_by_their_names(tmp_path: Path) -> None:
    everyone: list[Caller] = [FakeCaller("consort"), *peers(tmp_path)]
    assert [caller.name for caller in run.chosen(everyone, [])] == ["consort"]
    assert [caller.name for caller in run.chosen(everyone, ["mcp"])] == ["consort", "mcp-python", "mcp-typescript"]
    with pytest.raises(BenchError, match="dapr is no peer; there are go-plugin, go-plugin-ping"):
        run.chosen(everyone, ["mcp", "dapr"])


def test_a_sitting_goes_on_past_what_is_broken_or_absent(tmp_path: Path) -> None:
    callers: list[Caller] = [FakeCaller(name) for name in ("consort", "go-plugin", "mcp-python", "mcp-typescript")]
    path = run.run(settings(tmp_path), callers, tmp_path / "results")
    found = sitting.read(path)
    assert path.name.startswith("plugins-")
    assert Counter(each["system"] for each in found["readings"]) == dict.fromkeys(
        ("consort", "direct", "go-plugin", "mcp-typescript"), 4
    )
    assert found["systems"]["mcp-python"] == {"missing": "not here"}
    assert {each["failure"] for each in found["readings"] if "failure" in each} == {"it does not start"}
    assert found["medians"]["calls-16"]["go-plugin"]["calls_per_s"] == 1600.0
    assert found["ratios"]["calls-1"]["direct"]["calls_per_s"] == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    text = goals.as_text(found)
    assert "left out: mcp-python: not here" in text
    assert "calls/s, mesh / direct at 16: 1 x (at least 0.60: met)" in text
    assert "mcp-typescript at 16: not measured" in text
    chart = charts.write(found, path).read_text()
    assert "Consort, through the mesh" in chart
    assert "TypeScript SDK" not in chart


def test_nothing_to_measure_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="nothing can be measured"):
        run.run(settings(tmp_path, only=("one",)), [FakeCaller("consort")], tmp_path)


def test_goals_are_met_missed_told_or_unknown() -> None:
    table: figures.Medians = {
        "calls-1": {
            "consort": {"calls_per_s": 2000.0, "p50_ms": 0.4},
            "direct": {"calls_per_s": 4000.0, "p50_ms": 0.3},
        },
        "calls-16": {
            "consort": {"calls_per_s": 5000.0},
            "direct": {"calls_per_s": 10_000.0},
            "mcp-python": {"calls_per_s": 500.0},
            "mcp-typescript": {"calls_per_s": 2000.0},
            "go-plugin": {"calls_per_s": 4000.0},
        },
    }
    met = {one["measure"]: (one["ours"], one["met"]) for one in goals.verdicts(table)}
    assert met["calls/s, mesh / direct at 16"] == (0.5, False)
    assert met["p50 that the mesh adds at 1"] == (0.1, True)
    assert met["p50 that the mesh adds at 16"] == (None, None)
    assert met["calls/s, mesh / mcp-python at 16"] == (10.0, True)
    assert met["calls/s, mesh / mcp-typescript at 16"] == (2.5, False)
    assert met["calls/s, mesh / mcp-python at 1"] == (None, None)
    assert met["calls/s, mesh / go-plugin at 16"] == (1.25, None)
    assert json.dumps(goals.verdicts(table))
