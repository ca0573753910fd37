"""Where the hours of a time log were lost.

An hour is counted in at most one finding; the findings take in this order, and a later one gets what is left:

1. `revert`: undone work. The hours of a revert, and those of the latest earlier entry it undoes: for `Revert "T"` the
   one whose task is T, unless that revert was itself reverted. Nothing of either remains in the product. (Defects and
   extra work are among the seven wastes of M. and T. Poppendieck, Lean Software Development, 2003, chapter 1.)
2. `rework`: mending what was just built. The hours of each fix in an area where a feature or a refactoring was begun at
   most 21 days before, by anyone. Three weeks is the usual window in which change to fresh code is called churn; it is
   an assumption, as is that the fix would have been needless had the feature been right.
3. `context-switching`: a person moving between areas. Of the switches between known areas within one sitting, two a day
   are free; each one further costs 0.25 h, at most what is left of the entry switched to. The quarter of an hour is an
   assumption at the low end of what was observed: 10 to 15 minutes until programmers edit again after an interruption
   (Parnin and Rugaber, Resumption strategies for interrupted programming tasks, 2011), 23 minutes for office work
   (Mark, Gudith and Klocke, The cost of interrupted work, 2008).
4. `fragmented`: a day in pieces. A sitting ends where the next entry begins more than half an hour after the last one's
   end. Three sittings a day are free; each one further costs 0.25 h for finding back in, as above, at most what is left
   of its first entry.
5. `off-hours`: an observation and no waste, so its `hours` are 0: the hours of entries begun before 7:00, from 20:00
   on, or on a Saturday or Sunday, by the clock of the place where they were logged. They are in the title.

An area is what a task belongs to, the first of: the scope of a conventional commit (`fix(parser): ...`), the words
before a colon (`Parser: ...`), its ticket (`ABC-12`, `#12`), or the task itself if it is logged more than once. Other
tasks have no area; they are neither rework nor a switch. Time and memory grow with n log n of the number of entries.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

MAX_ENTRIES = 200_000
CATEGORIES = frozenset(
    ["feature", "fix", "refactor", "test", "docs", "chore", "merge", "revert", "meeting", "review", "other"]
)
REWORK_WINDOW = timedelta(days=21)
FREE_SWITCHES = 2
FREE_SITTINGS = 3
RESUME_HOURS = 0.25
SITTING_GAP = timedelta(minutes=30)
DAY_BEGINS, DAY_ENDS = 7, 20
SATURDAY = 5
MAX_EVIDENCE = 5

_REVERT = re.compile(r'^revert:?\s+"(?P<task>.+)"\s*$', re.IGNORECASE)
_TICKET = re.compile(r"\b([A-Z][A-Z0-9]+-\d+)\b|(?<!\w)(#\d+)\b")
_SCOPE = re.compile(r"^\w+\((?P<scope>[^)]+)\)!?:\s")
_PREFIX = re.compile(r"^(?P<prefix>[\w./-]+(?: [\w./-]+){0,2}):\s")
_KINDS_OF_COMMIT = frozenset(
    ["feat", "feature", "fix", "chore", "docs", "doc", "test", "tests", "refactor", "style", "perf", "build", "ci"]
)


class InputError(ValueError):
    """Names the field that is wrong, and what is wrong about it."""

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        super().__init__(f"{field}: {problem}")


@dataclass(slots=True)
class Entry:
    """A stretch of work. `left` are the hours that no finding has counted yet."""

    author: str
    start: datetime
    hours: float
    task: str
    category: str
    left: float

    @property
    def end(self) -> datetime:
        """When it ended, by its hours."""
        return self.start + timedelta(hours=self.hours)


@dataclass(slots=True)
class Loss:
    """Hours taken from an entry by a finding."""

    entry: Entry
    hours: float


def analyse(entries: Any) -> dict[str, Any]:
    """Finds the waste in `entries`, a list of objects with `author`, `start`, `hours`, `task` and `category`.

    Returns `total_hours`, `waste_hours`, `waste_share` (0 to 1) and `findings`, the dearest first, each with `kind`,
    `title`, `hours`, `share` of all hours, `count`, up to five lines of `evidence` and `advice`. Hours are rounded to 2
    digits, shares to 4. Raises InputError.
    """
    log = parse(entries)
    areas = _areas(log)
    total = math.fsum(entry.hours for entry in log)
    days = _days(log)
    findings = [
        _finding("revert", _reverts(log), total, "{count} entries went into work that was undone", _ADVICE["revert"]),
        _finding("rework", _rework(log, areas), total, "{count} fixes mended fresh work", _ADVICE["rework"]),
        _finding(
            "context-switching",
            _switching(days, areas),
            total,
            "{count} switches between areas beyond two a day",
            _ADVICE["context-switching"],
        ),
        _finding("fragmented", _fragmented(days), total, "{count} sittings beyond three a day", _ADVICE["fragmented"]),
        _off_hours(log),
    ]
    found = [finding for finding in findings if finding["count"]]
    found.sort(key=lambda finding: (-finding["hours"], finding["kind"]))
    waste = math.fsum(entry.hours - entry.left for entry in log)
    return {
        "total_hours": round(total, 2),
        "waste_hours": round(waste, 2),
        "waste_share": _share(waste, total),
        "findings": found,
    }


_ADVICE = {
    "revert": "Agree on the approach and try it behind a switch before it is merged; keep changes small.",
    "rework": "Review and test where these fixes came from; write the test that would have found each.",
    "context-switching": "Give each person one area at a time, and gather small requests into one hour of the day.",
    "fragmented": "Keep mornings or afternoons free of meetings, so that work can be done in one sitting.",
    "off-hours": "Ask why: an unhealthy load, a release at night, or simply somebody's choice.",
}


def parse(entries: Any) -> list[Entry]:
    """Checks the entries and returns them, oldest first. Raises InputError."""
    if not isinstance(entries, list):
        raise InputError("entries", "is no list; give a list of time-log entries")
    if len(entries) > MAX_ENTRIES:
        raise InputError("entries", f"has {len(entries)} entries; at most {MAX_ENTRIES} are taken")
    log = [_entry(f"entries[{index}]", entry) for index, entry in enumerate(entries)]
    log.sort(key=lambda entry: (entry.start, entry.author, entry.task, entry.category))
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
        start + timedelta(hours=hours)
    except (ValueError, OverflowError):
        start = None
    if start is None or start.tzinfo is None:
        raise InputError(f"{place}.start", f"is {entry['start']!r}; give a time such as 2026-01-31T09:00:00+01:00")
    return Entry(entry["author"], start, float(hours), entry["task"].strip(), entry["category"], float(hours))


def _areas(log: list[Entry]) -> Callable[[Entry], str]:
    """Makes the function that tells the area of an entry; empty if it is not known."""
    times: dict[str, int] = defaultdict(int)
    for entry in log:
        times[_folded(entry.task)] += 1

    def area(entry: Entry) -> str:
        named = _named_area(entry.task)
        if named:
            return named
        folded = _folded(entry.task)
        return folded if times[folded] > 1 else ""

    known = {entry.task: area(entry) for entry in log}
    return lambda entry: known[entry.task]


def _named_area(task: str) -> str:
    if scope := _SCOPE.match(task):
        return scope["scope"].strip().lower()
    if (prefix := _PREFIX.match(task)) and prefix["prefix"].lower() not in _KINDS_OF_COMMIT:
        return prefix["prefix"].lower()
    if ticket := _TICKET.search(task):
        return ticket.group().lower()
    return ""


def _folded(task: str) -> str:
    return " ".join(task.casefold().split())


def _days(log: list[Entry]) -> list[list[Entry]]:
    """The entries of each author's days, without meetings: nobody chooses when these are."""
    days: dict[tuple[str, date], list[Entry]] = defaultdict(list)
    for entry in log:
        if entry.category != "meeting":
            days[entry.author, entry.start.date()].append(entry)
    return list(days.values())


def _take(entry: Entry, hours: float) -> Loss:
    taken = min(hours, entry.left)
    entry.left -= taken
    return Loss(entry, taken)


def _reverts(log: list[Entry]) -> list[Loss]:
    losses = []
    earlier: dict[str, list[Entry]] = defaultdict(list)
    undone_by: dict[int, Loss] = {}
    for entry in log:
        if entry.category == "revert":
            losses.append(_take(entry, entry.left))
            quoted = _REVERT.match(entry.task)
            victims = earlier[_folded(quoted["task"])] if quoted else []
            victim = victims.pop() if victims else None
            if victim is not None and victim.category != "revert":
                undone_by[id(entry)] = _take(victim, victim.left)
            elif victim is not None and (back := undone_by.pop(id(victim), None)):
                back.entry.left += back.hours  # The revert was reverted, so the work is in the product again.
        earlier[_folded(entry.task)].append(entry)
    losses.extend(undone_by.values())
    return [loss for loss in losses if loss.hours > 0]


def _rework(log: list[Entry], area: Callable[[Entry], str]) -> list[Loss]:
    losses = []
    built: dict[str, datetime] = {}
    for entry in log:
        where = area(entry)
        if not where:
            continue
        if entry.category in ("feature", "refactor"):
            built[where] = entry.start
        elif entry.category == "fix" and where in built and entry.start - built[where] <= REWORK_WINDOW:
            losses.append(_take(entry, entry.left))
    return [loss for loss in losses if loss.hours > 0]


def _sittings(day: list[Entry]) -> list[list[Entry]]:
    sittings: list[list[Entry]] = []
    end: datetime | None = None
    for entry in day:
        if end is None or entry.start - end > SITTING_GAP:
            sittings.append([])
        sittings[-1].append(entry)
        end = entry.end if end is None else max(end, entry.end)
    return sittings


def _switching(days: list[list[Entry]], area: Callable[[Entry], str]) -> list[Loss]:
    losses: list[Loss] = []
    for day in days:
        switched_to = [
            after
            for sitting in _sittings(day)
            for before, after in pairwise(sitting)
            if area(before) and area(after) and area(before) != area(after)
        ]
        losses.extend(_take(entry, RESUME_HOURS) for entry in switched_to[FREE_SWITCHES:])
    return [loss for loss in losses if loss.hours > 0]


def _fragmented(days: list[list[Entry]]) -> list[Loss]:
    losses = [_take(sitting[0], RESUME_HOURS) for day in days for sitting in _sittings(day)[FREE_SITTINGS:]]
    return [loss for loss in losses if loss.hours > 0]


def _off_hours(log: list[Entry]) -> dict[str, Any]:
    late = [
        entry for entry in log if not DAY_BEGINS <= entry.start.hour < DAY_ENDS or entry.start.weekday() >= SATURDAY
    ]
    hours = math.fsum(entry.hours for entry in late)
    title = f"{hours:.2f} h were worked at night or at weekends (not counted as waste)"
    finding = _finding("off-hours", [Loss(entry, entry.hours) for entry in late], 0.0, title, _ADVICE["off-hours"])
    return finding | {"hours": 0.0, "share": 0.0}


def _finding(kind: str, losses: list[Loss], total: float, title: str, advice: str) -> dict[str, Any]:
    hours = math.fsum(loss.hours for loss in losses)
    dearest = sorted(losses, key=lambda loss: -loss.hours)[:MAX_EVIDENCE]
    return {
        "kind": kind,
        "title": title.format(count=len(losses)),
        "hours": round(hours, 2),
        "share": _share(hours, total),
        "count": len(losses),
        "evidence": [
            f"{loss.entry.start:%Y-%m-%d %H:%M} {loss.entry.author}: {loss.entry.task} ({loss.hours:.2f} h)"
            for loss in dearest
        ],
        "advice": advice,
    }


def _share(hours: float, total: float) -> float:
    return round(hours / total, 4) if total > 0 else 0.0
