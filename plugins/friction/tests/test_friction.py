"""Small logs whose friction was worked out by hand."""

import random
import time
from typing import Any

import pytest

from friction import InputError, analyse, pattern


def entry(day: int, hours: float, task: str, category: str = "chore", author: str = "ada") -> dict[str, Any]:
    """An entry at 9:00 of a day of March 2026."""
    start = f"2026-03-{day:02}T09:00:00+01:00"
    return {"author": author, "start": start, "hours": hours, "task": task, "category": category}


@pytest.mark.parametrize(
    ("task", "shape"),
    [
        ("Restart worker 12", "restart worker"),
        ("restart  Worker #7!", "restart worker"),
        ("Deploy v1.2.3 to eu-1", "deploy to"),
        ("Cherry-pick 9fceb02d0ae5 for OPS-17", "cherry pick for"),
        ("See https://example.org/x?id=5 again", "see again"),
        ("Sync 0192f0c1-5a9b-7cc0-8000-000000000001", "sync"),
        ("Feedback from acme", "feedback from acme"),
        ("Bump libfoo from 1.0 to 2.0 (#31)", "bump libfoo from to"),
        ("2026-03-01", ""),
    ],
)
def test_patterns_leave_out_what_differs(task: str, shape: str) -> None:
    assert pattern(task) == shape


def test_no_entries_are_no_friction() -> None:
    assert analyse([]) == {"friction_hours": 0.0, "recurring": [], "redundant": []}


def test_what_comes_three_times_recurs_and_the_first_time_is_free() -> None:
    result = analyse(
        [
            entry(2, 1, "Restart worker 1"),
            entry(3, 0.5, "restart worker 2", author="bob"),
            entry(4, 0.25, "Restart worker 3", "fix"),
            entry(5, 8, "Rotate keys 1"),
            entry(6, 8, "Rotate keys 2"),
        ]
    )
    assert result == {
        "friction_hours": 0.75,
        "recurring": [
            {
                "pattern": "restart worker",
                "count": 3,
                "hours": 0.75,
                "authors": 2,
                "examples": ["Restart worker 1", "restart worker 2", "Restart worker 3"],
                "advice": "Automate it, or let one scheduled job do it.",
            }
        ],
        "redundant": [],
    }


@pytest.mark.parametrize("category", ["feature", "refactor", "test", "docs", "meeting", "review", "revert"])
def test_building_and_meeting_do_not_recur(category: str) -> None:
    assert analyse([entry(day, 1, "Weekly", category) for day in range(2, 7)])["friction_hours"] == 0.0


def test_the_same_task_of_two_authors_within_two_weeks_is_redundant() -> None:
    result = analyse(
        [
            entry(2, 5, "Export to CSV", "feature"),
            entry(3, 1, "Export to CSV", "feature"),
            entry(9, 2, "export to  csv", "feature", "bob"),
            entry(10, 1.5, "Export to CSV", "feature", "cid"),
        ]
    )
    assert result["friction_hours"] == 3.5
    assert result["redundant"] == [
        {"task": "Export to CSV", "count": 2, "hours": 3.5, "authors": ["ada", "bob", "cid"]}
    ]


def test_after_two_weeks_another_author_begins_anew() -> None:
    log = [entry(2, 5, "Export", "feature"), entry(17, 2, "Export", "feature", "bob")]
    assert analyse(log)["redundant"] == []
    log.append(entry(18, 1, "Export", "feature"))
    assert analyse(log)["redundant"] == [{"task": "Export", "count": 1, "hours": 1.0, "authors": ["ada"]}]


def test_an_entry_that_was_logged_twice_is_redundant() -> None:
    log = [entry(2, 2, "Export", "feature"), entry(2, 2, "Export", "feature"), entry(3, 2, "Export", "feature")]
    assert analyse(log)["redundant"] == [{"task": "Export", "count": 1, "hours": 2.0, "authors": ["ada"]}]


def test_recurring_work_is_not_redundant_as_well() -> None:
    result = analyse([entry(2 + n, 1, "Restart worker", author=f"author {n}") for n in range(4)])
    assert (result["friction_hours"], result["redundant"]) == (3.0, [])


def test_two_times_are_too_few_to_recur_but_may_be_redundant() -> None:
    result = analyse([entry(2, 1, "Clean up"), entry(3, 2, "Clean up", author="bob")])
    assert (result["friction_hours"], result["recurring"]) == (2.0, [])


def test_dearest_first_whatever_the_order_of_the_log() -> None:
    log = [entry(2 + n, 0.5, f"Cheap {n}") for n in range(3)] + [
        entry(2 + n, 2, f"Dear {n}", "merge") for n in range(3)
    ]
    result = analyse(log)
    assert [(item["pattern"], item["hours"]) for item in result["recurring"]] == [("dear", 4.0), ("cheap", 1.0)]
    assert analyse(log[::-1]) == result


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"hours": -1}, "entries[1].hours"),
        ({"hours": float("inf")}, "entries[1].hours"),
        ({"start": "2026-03-02"}, "entries[1].start"),
        ({"author": 7}, "entries[1].author"),
        ({"task": None}, "entries[1].task"),
        ({"category": "fun"}, "entries[1].category"),
    ],
)
def test_bad_entries_are_named(change: dict[str, Any], field: str) -> None:
    good = entry(2, 1, "a")
    with pytest.raises(InputError) as caught:
        analyse([good, good | change])
    assert caught.value.field == field


@pytest.mark.parametrize(("entries", "field"), [("x", "entries"), ([None], "entries[0]")])
def test_what_is_no_log_is_named(entries: Any, field: str) -> None:
    with pytest.raises(InputError) as caught:
        analyse(entries)
    assert caught.value.field == field


def test_ten_thousand_entries_take_less_than_two_seconds() -> None:
    dice = random.Random(7)
    log = [
        entry(1 + n % 31, dice.uniform(0.1, 3), f"Job {dice.randrange(9999)} of kind {chr(97 + n % 26)} deadbeef{n:x}")
        | {"author": f"author {n % 20}"}
        for n in range(10_000)
    ]
    began = time.process_time()
    result = analyse(log)
    assert time.process_time() - began < 2.0
    assert result["recurring"][0]["count"] > 3
