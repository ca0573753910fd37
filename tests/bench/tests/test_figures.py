"""Statistics, and the targets that are held against them."""

import pytest

from bench import figures, targets


def reading(system: str, scenario: str = "one-64", **seen: float) -> dict[str, object]:
    return {"system": system, "scenario": scenario, "runs": 10, **seen}


def test_a_median_is_of_the_rounds_that_count() -> None:
    rounds = [reading("consort", runs_per_s=rate, p50_ms=rate / 10) for rate in (300.0, 100.0, 200.0)]
    spoilt = [
        {**reading("consort", runs_per_s=9e9), "failure": "it broke"},
        {**reading("consort", runs_per_s=0.0), "runs": 0},
    ]
    row = figures.medians([*rounds, *spoilt])["one-64"]["consort"]
    assert row == {"runs_per_s": 200.0, "p50_ms": 20.0, "rounds": 3.0}
    assert figures.medians([]) == {}


def test_a_ratio_above_one_is_in_our_favour() -> None:
    table = figures.medians(
        [
            reading("consort", runs_per_s=1000.0, p50_ms=2.0, idle_mib=10.0),
            reading("restate", runs_per_s=100.0, p50_ms=20.0),
            reading("restate", scenario="ten-64", runs_per_s=1.0),
        ]
    )
    assert figures.ratios(table, "consort") == {"one-64": {"restate": {"runs_per_s": 10.0, "p50_ms": 10.0}}}
    assert figures.ratios(table, "nobody") == {}


@pytest.mark.parametrize(
    ("value", "said"), [(0.914, "0.91"), (2.1, "2.1"), (9.96, "10"), (999, "999"), (17_900, "18k")]
)
def test_a_figure_is_written_briefly(value: float, said: str) -> None:
    assert figures.brief(value) == said


def test_bytes_are_written_as_people_say_them() -> None:
    assert [figures.of_bytes(size) for size in (7, 1 << 10, 100 << 10, 10 << 20)] == [
        "7 B",
        "1 KiB",
        "100 KiB",
        "10 MiB",
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (0.914, "0.91"),
        (9.96, "10.0"),
        (12.34, "12.3"),
        (99.7, "100"),
        (5300, "5,300"),
        (9999, "10k"),
        (12_345, "12.3k"),
        (1_250_000, "1.25M"),
    ],
)
def test_a_figure_is_written_short(value: float, said: str) -> None:
    assert figures.short(value) == said


def test_rounds_lie_so_far_apart() -> None:
    assert figures.spread([10.0, 12.0, 8.0]) == pytest.approx(0.4)
    assert figures.spread([10.0]) == 0.0
    assert figures.spread([0.0, 0.0]) == 0.0


def verdict(table: figures.Medians, measure: str, column: str) -> list[bool | None]:
    row = next(row for row in targets.verdicts(table) if row["measure"].startswith(measure))
    return [bound["met"] for bound in row[column]]


def test_targets_are_met_missed_or_unknown() -> None:
    table: figures.Medians = {
        "one-64": {
            "consort": {"runs_per_s": 1000.0},
            "restate": {"runs_per_s": 100.0},
            "shape": {"runs_per_s": 2000.0},
        },
        "one-1": {"consort": {"ready_ms": 60.0, "p50_ms": 1.0, "p99_ms": 9.0}, "restate": {"p50_ms": 3.0}},
        "fan-1": {"consort": {"p50_ms": 20.0}},
    }
    assert verdict(table, "1 step, runs/s", "first") == [True]
    assert verdict(table, "1 step, runs/s", "final") == [False]
    assert verdict(table, "10 steps, steps/s", "first") == [None, None]
    assert verdict(table, "1 step, p50 / p99 at 1", "first") == [True]
    assert verdict(table, "1 step, p50 / p99 at 1", "final") == [True, None]
    assert verdict(table, "process start", "first") == [True]
    assert verdict(table, "process start", "final") == [False]
    assert verdict(table, "1,000 parallel", "final") == [False, None]


def test_the_python_worker_is_held_against_restates_own() -> None:
    table: figures.Medians = {
        "ten-64-python": {"consort": {"steps_per_s": 400.0}, "shape": {"steps_per_s": 500.0}},
        "ten-64": {"restate": {"steps_per_s": 100.0}},
    }
    assert verdict(table, "10 steps with a Python", "first") == [True]
    assert verdict(table, "10 steps with a Python", "final") == [True]


def test_the_table_names_each_bound() -> None:
    text = targets.as_text(targets.verdicts({"fan-1": {"consort": {"p50_ms": 20.0}}}))
    assert "100 ms: met (20 of 100 ms)" in text
    assert "10x Restate at 64: not measured" in text
    assert len(text.splitlines()) == len(targets.ROWS) + 2
