"""What a time log shows again and again, and what was done twice.

Recurring work. Tasks are compared by their pattern: lower case, without addresses, ids, hashes, tickets, dates and
numbers, so that `Restart worker 12` and `restart worker 7` are one. Entries of the categories fix, chore, merge and
other whose pattern comes at least three times are recurring. The first time had to be done by somebody; the friction is
the hours of all later times. This is toil as B. Beyer et al. define it (Site Reliability Engineering, 2016, chapter 5):
manual, repetitive work that automation or a lasting fix would end. Three times is the usual rule of thumb, and an
assumption. Building, testing and writing (feature, refactor, test, docs) may go on for days under one name without
being friction, and meetings and reviews are work together; none of these recurs here.

Redundant work. A task, compared by its text without regard to case and spaces, was done twice if
- the same author logged it again with the same start: the log itself is double; or
- another author than the one who began it logged it at most 14 days after its last entry: the same work in two hands,
  or a hand-over that cost its time again. That the two did not simply work as a pair is an assumption.
The friction is the hours of these later entries. Meetings, reviews, merges and reverts are left out, and so are entries
that count as recurring. After a pause of more than 14 days the next author begins the task anew.

`friction_hours` is the sum of all hours given, each entry counted once. Time and memory grow with n log n of the
entries.
"""

import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

MAX_ENTRIES = 200_000
CATEGORIES = frozenset(
    ["feature", "fix", "refactor", "test", "docs", "chore", "merge", "revert", "meeting", "review", "other"]
)
RECURRING_CATEGORIES = frozenset(["fix", "chore", "merge", "other"])
TOGETHER_CATEGORIES = frozenset(["meeting", "review", "merge", "revert"])
TIMES_TO_RECUR = 3
REDUNDANT_WINDOW = timedelta(days=14)
MAX_EXAMPLES = 3

# In this order: what is most specific goes first, so that no number of it is left over.
_NOISE = [
    re.compile(r"\w+://\S+"),
    re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"),
    re.compile(r"\b[a-z][a-z0-9]+-\d+\b"),
    re.compile(r"\b(?=[a-f]*\d)[0-9a-f]{7,64}\b"),
    re.compile(r"#?\bv?\d[\w.:/-]*"),
    re.compile(r"[^\w\s]+|_+"),
]
_ADVICE = {
    "fix": "Find the cause once: the same thing is mended again and again.",
    "chore": "Automate it, or let one scheduled job do it.",
    "merge": "Merge smaller pieces more often, or let the pipeline merge what is green.",
    "other": "Ask why it comes back; a checklist, a script or a clear owner may end it.",
}


class InputError(ValueError):
    """Names the field that is wrong, and what is wrong about it."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        super().__init__(f"{field}: {problem}")


@dataclass(frozen=True, slots=True)
class Entry:
    """A stretch of work."""

    author: str
    start: datetime
    hours: float
    task: str
    category: str


def analyse(entries: Any) -> dict[str, Any]:
    """Finds friction in `entries`, a list of objects with `author`, `start`, `hours`, `task` and `category`.

    Returns `friction_hours`; `recurring`, each with `pattern`, `count` (all times), `hours` (of all but the first
    time), `authors` (how many), up to three `examples` and `advice`; and `redundant`, each with `task`, `count` (of
    double entries), `hours` (of these) and `authors` (by name). Both lists are dearest first; hours are rounded to 2
    digits. Raises InputError.
    """
    log = parse(entries)
    recurring, rest = _recurring(log)
    redundant = _redundant(rest)
    friction = math.fsum(item["hours"] for item in (*recurring, *redundant))
    for item in (*recurring, *redundant):
        item["hours"] = round(item["hours"], 2)
    return {"friction_hours": round(friction, 2), "recurring": recurring, "redundant": redundant}


def parse(entries: Any) -> list[Entry]:
    """Checks the entries and returns them, oldest first. Raises InputError."""
    if not isinstance(entries, list):
        raise InputError("entries", "is no list; give a list of time-log entries")
    if len(entries) > MAX_ENTRIES:
        raise InputError("entries", f"has {len(entries)} entries; at most {MAX_ENTRIES} are taken")
    log = [_entry(f"entries[{index}]", entry) for index, entry in enumerate(entries)]
    log.sort(key=lambda entry: (entry.start, entry.author, entry.task, entry.category, entry.hours))
    return log


def _entry(place: str, entry: Any) -> Entry:
    if not isinstance(entry, dict):
        raise InputError(place, "is no object; give author, start, hours, task and category")
    for field in ("author", "start", "task", "category"):
        if not isinstance(entry.get(field), str):
            raise InputError(f"{place}.{field}", f"is {entry.get(field)!r}; give a text")
    if not entry["author"]:
        raise InputError(f"{place}.author", "is empty; say who did the work")
    hours = entry.get("hours")
    if isinstance(hours, bool) or not isinstance(hours, int | float) or not 0 < hours < math.inf:
        raise InputError(f"{place}.hours", f"is {hours!r}; give a number greater than 0")
    if entry["category"] not in CATEGORIES:
        raise InputError(f"{place}.category", f"is {entry['category']!r}; use one of {', '.join(sorted(CATEGORIES))}")
    try:
        start = datetime.fromisoformat(entry["start"])
    except ValueError:
        start = None
    if start is None or start.tzinfo is None:
        raise InputError(f"{place}.start", f"is {entry['start']!r}; give a time such as 2026-01-31T09:00:00+01:00")
    return Entry(entry["author"], start, float(hours), entry["task"].strip(), entry["category"])


def pattern(task: str) -> str:
    """What is left of a task without what differs from one time to the next; empty if nothing is."""
    text = task.lower()
    for noise in _NOISE:
        text = noise.sub(" ", text)
    return " ".join(text.split())


def _recurring(log: list[Entry]) -> tuple[list[dict[str, Any]], list[Entry]]:
    groups: dict[str, list[Entry]] = defaultdict(list)
    rest = []
    for entry in log:
        shape = pattern(entry.task) if entry.category in RECURRING_CATEGORIES else ""
        if shape:
            groups[shape].append(entry)
        else:
            rest.append(entry)
    found: list[dict[str, Any]] = []
    for shape, group in groups.items():
        if len(group) < TIMES_TO_RECUR:
            rest.extend(group)
            continue
        category, _ = Counter(entry.category for entry in group).most_common(1)[0]
        found.append(
            {
                "pattern": shape,
                "count": len(group),
                "hours": math.fsum(entry.hours for entry in group[1:]),
                "authors": len({entry.author for entry in group}),
                "examples": list(dict.fromkeys(entry.task for entry in group))[:MAX_EXAMPLES],
                "advice": _ADVICE[category],
            }
        )
    found.sort(key=lambda item: (-item["hours"], item["pattern"]))
    rest.sort(key=lambda entry: (entry.start, entry.author, entry.task, entry.category, entry.hours))
    return found, rest


def _redundant(log: list[Entry]) -> list[dict[str, Any]]:
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in log:
        if entry.task and entry.category not in TOGETHER_CATEGORIES:
            groups[" ".join(entry.task.casefold().split())].append(entry)
    found: list[dict[str, Any]] = []
    for group in groups.values():
        double = _double(group)
        if double:
            authors = {entry.author for entry in double} | {group[0].author}
            found.append(
                {
                    "task": group[0].task,
                    "count": len(double),
                    "hours": math.fsum(entry.hours for entry in double),
                    "authors": sorted(authors),
                }
            )
    found.sort(key=lambda item: (-item["hours"], item["task"]))
    return found


def _double(group: list[Entry]) -> list[Entry]:
    """The entries of one task, oldest first, that did it again."""
    double = []
    seen: set[tuple[str, datetime]] = set()
    owner, last = group[0].author, group[0].start
    for entry in group:
        if entry.start - last > REDUNDANT_WINDOW:
            owner = entry.author
        if entry.author != owner or (entry.author, entry.start) in seen:
            double.append(entry)
        seen.add((entry.author, entry.start))
        last = entry.start
    return double
