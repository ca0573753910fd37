"""Regular expressions of callers, of which none may hold up the others.

It needs the package `regex` (`consort-sdk[patterns]`), because a search of the standard library cannot be given up.
"""

from typing import NamedTuple

import regex

from consort.plugin.errors import PluginError

_SEARCH_S = 1.0


class Match(NamedTuple):
    """Which of the patterns was found, where, and its groups."""

    pattern: int
    start: int
    end: int
    groups: list[str]


def compiled(patterns: list[str], *, exact: bool) -> list[regex.Pattern[str]]:
    """The patterns, in which `^` and `$` are the ends of lines; `exact` ones stand for themselves.

    INVALID_ARGUMENT names the one that is none as `patterns[N]`.
    """
    found = []
    for number, pattern in enumerate(patterns):
        try:
            found.append(regex.compile(regex.escape(pattern) if exact else pattern, regex.MULTILINE))
        except regex.error as error:
            raise PluginError("INVALID_ARGUMENT", f"is no pattern: {error}", field=f"patterns[{number}]") from None
    return found


def first(wanted: list[regex.Pattern[str]], text: str) -> Match | None:
    """The match that begins first, None without one. INVALID_ARGUMENT for a pattern that takes longer than a second."""
    best: Match | None = None
    for number, pattern in enumerate(wanted):
        try:
            found = pattern.search(text, timeout=_SEARCH_S, concurrent=True)
        except TimeoutError:
            problem = f"was looked for longer than {_SEARCH_S:g} s; make it simpler"
            raise PluginError("INVALID_ARGUMENT", problem, field=f"patterns[{number}]") from None
        if found and (best is None or found.start() < best.start):
            best = Match(number, found.start(), found.end(), [group or "" for group in found.groups()])
    return best
