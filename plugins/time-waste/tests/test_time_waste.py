"""Small logs whose waste was worked out by hand."""

import random
import time
from typing import Any

import pytest

from time_waste import InputError, analyse


def entry(start: str, hours: float, task: str, category: str = "feature", author: str = "ada") -> dict[str, Any]:
    """An entry; `start` is a day of March 2026 and a time, such as `02 09:00` (a Monday)."""
    day, clock = start.split()
    return {"author": author, "start": f"2026-03-{day}T{clock}:00+01:00", "hours": hours, "task": task} | {
        "category": category
    }


def check(entries: list[dict[str, Any]], **wanted: float) -> dict[str, Any]:
    """Asserts the hours of every finding by kind (`_` for `-`), that no other is there, and that they add up."""
    result = analyse(entries)
    found = {finding["kind"].replace("-", "_"): finding["hours"] for finding in result["findings"]}
    assert found == wanted
    assert result["waste_hours"] == pytest.approx(sum(wanted.values()), abs=0.01)
    return result


def test_no_entries_are_no_waste() -> None:
    assert analyse([]) == {"total_hours": 0.0, "waste_hours": 0.0, "waste_share": 0.0, "findings": []}


def test_a_revert_wastes_itself_and_what_it_undoes() -> None:
    result = check(
        [
            entry("02 09:00", 3, "Add export"),
            entry("02 13:00", 1, "Add import"),
            entry("03 09:00", 0.5, 'Revert "Add export"', "revert"),
        ],
        revert=3.5,
    )
    assert (result["total_hours"], result["waste_share"]) == (4.5, 0.7778)
    (finding,) = result["findings"]
    assert (finding["count"], finding["share"]) == (2, 0.7778)
    assert finding["evidence"] == [
        "2026-03-02 09:00 ada: Add export (3.00 h)",
        '2026-03-03 09:00 ada: Revert "Add export" (0.50 h)',
    ]


def test_a_reverted_revert_gives_the_work_back() -> None:
    check(
        [
            entry("02 09:00", 3, "Add export"),
            entry("03 09:00", 0.5, 'Revert "Add export"', "revert"),
            entry("04 09:00", 0.25, 'Revert "Revert "Add export""', "revert"),
        ],
        revert=0.75,
    )


def test_a_fix_within_three_weeks_of_its_feature_is_rework() -> None:
    check(
        [
            entry("02 09:00", 4, "feat(parser): read dates"),
            entry("05 09:00", 1.5, "fix(parser): read leap days", "fix", "bob"),
            entry("06 09:00", 2, "fix(printer): margins", "fix"),
            entry("23 09:00", 0.5, "Parser: accept spaces", "fix"),
            entry("24 09:00", 0.75, "Parser: accept tabs", "fix"),
        ],
        rework=2.0,
    )


def test_areas_are_tickets_and_named_tasks_too() -> None:
    check(
        [
            entry("02 09:00", 4, "Login page AB-12"),
            entry("03 09:00", 1, "Typo on login AB-12", "fix"),
            entry("04 09:00", 4, "Invoices"),
            entry("05 09:00", 2, "invoices ", "fix"),
            entry("06 09:00", 8, "Something else", "fix"),
        ],
        rework=3.0,
    )


def test_switches_beyond_two_a_day_cost_a_quarter_of_an_hour_each() -> None:
    # A B A B A: four switches, two free. The last entry is too short to hold a whole quarter.
    day = [entry(f"02 {9 + n:02}:00", 1 if n < 4 else 0.2, f"{'AB'[n % 2]}: part {n}") for n in range(5)]
    result = check(day, context_switching=0.45)
    assert result["findings"][0]["count"] == 2
    assert result["findings"][0]["share"] == pytest.approx(0.45 / 4.2, abs=1e-4)


def test_switches_of_two_people_or_two_days_do_not_add_up() -> None:
    check(
        [entry(f"02 {9 + n:02}:00", 1, f"{'AB'[n % 2]}: x") for n in range(3)]
        + [entry(f"02 {9 + n:02}:00", 1, f"{'AB'[n % 2]}: x", author="bob") for n in range(3)]
        + [entry(f"03 {9 + n:02}:00", 1, f"{'AB'[n % 2]}: x") for n in range(3)]
    )


def test_sittings_beyond_three_a_day_cost_a_quarter_of_an_hour_each() -> None:
    # 9:00, 10:30, 12:00, 13:30 and 15:00, half an hour each: five sittings, two too many. A meeting is no sitting.
    day = [entry(f"02 {clock}", 0.5, "Core: rewrite") for clock in ("09:00", "10:30", "12:00", "13:30", "15:00")]
    check([*day, entry("02 17:00", 0.5, "Retro", "meeting")], fragmented=0.5)


def test_a_gap_of_half_an_hour_is_still_one_sitting() -> None:
    check([entry(f"02 {9 + n:02}:00", 0.5, "Core: rewrite") for n in range(5)])


def test_off_hours_are_told_and_are_no_waste() -> None:
    result = check(
        [
            entry("02 06:59", 1, "a"),
            entry("02 08:00", 1, "b"),
            entry("02 20:00", 1, "c"),
            entry("07 12:00", 2.5, "d"),
        ],
        off_hours=0.0,
    )
    (finding,) = result["findings"]
    assert finding["title"] == "4.50 h were worked at night or at weekends (not counted as waste)"
    assert finding["count"] == 3
    assert finding["evidence"][0] == "2026-03-07 12:00 ada: d (2.50 h)"


def test_an_hour_is_counted_once() -> None:
    # The fix is rework, and is then reverted: as undone work its hour is gone, nothing is left for rework.
    check(
        [
            entry("02 09:00", 2, "Core: build"),
            entry("03 09:00", 1, "Core: mend", "fix"),
            entry("04 09:00", 0.5, 'Revert "Core: mend"', "revert"),
        ],
        revert=1.5,
    )


def test_findings_come_dearest_first_whatever_the_order_of_the_log() -> None:
    log = [
        entry("02 09:00", 2, "Core: build"),
        entry("03 09:00", 1, "Core: mend", "fix"),
        entry("04 09:00", 3, 'Revert "Other"', "revert"),
        entry("07 12:00", 1, "Shell: weekend"),
    ]
    result = check(log, revert=3.0, rework=1.0, off_hours=0.0)
    assert [finding["kind"] for finding in result["findings"]] == ["revert", "rework", "off-hours"]
    assert analyse(log[::-1]) == result


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"hours": 0}, "entries[1].hours"),
        ({"hours": True}, "entries[1].hours"),
        ({"hours": float("nan")}, "entries[1].hours"),
        ({"hours": "1"}, "entries[1].hours"),
        ({"hours": 1e12}, "entries[1].start"),
        ({"start": "2026-03-02T09:00:00"}, "entries[1].start"),
        ({"start": "yesterday"}, "entries[1].start"),
        ({"author": ""}, "entries[1].author"),
        ({"task": None}, "entries[1].task"),
        ({"category": "fun"}, "entries[1].category"),
    ],
)
def test_bad_entries_are_named(change: dict[str, Any], field: str) -> None:
    good = entry("02 09:00", 1, "a")
    with pytest.raises(InputError) as caught:
        analyse([good, good | change])
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")


@pytest.mark.parametrize(("entries", "field"), [(None, "entries"), ({}, "entries"), ([3], "entries[0]")])
def test_what_is_no_log_is_named(entries: Any, field: str) -> None:
    with pytest.raises(InputError) as caught:
        analyse(entries)
    assert caught.value.field == field


def test_ten_thousand_entries_take_less_than_two_seconds() -> None:
    dice = random.Random(7)
    kinds = ["feature", "fix", "revert", "chore"]
    log = []
    for n in range(10_000):
        category = dice.choice(kinds)
        task = f"Area {dice.randrange(50)}: piece {dice.randrange(2000)}"
        log.append(
            entry(f"{1 + n % 31:02} {dice.randrange(24):02}:{dice.randrange(60):02}", dice.uniform(0.1, 3), task)
            | {"category": category, "author": f"author {dice.randrange(20)}"}
        )
    began = time.process_time()
    result = analyse(log)
    assert time.process_time() - began < 2.0
    assert 0 < result["waste_hours"] <= result["total_hours"]
    counted = sum(finding["hours"] for finding in result["findings"])
    assert counted == pytest.approx(result["waste_hours"], abs=0.05)
