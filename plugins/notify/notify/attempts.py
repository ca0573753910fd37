"""Tries what may fail in passing, with pauses that grow to a limit."""

import random
from collections.abc import Callable
from typing import TypeVar

from consort.plugin import Call, PluginError
from notify.settings import Settings

_Result = TypeVar("_Result")
_LONGEST_PAUSE = 8.0
# A receiver that asks for a longer pause than this is not waited for.
_LONGEST_WISH = 30.0


class Trouble(Exception):  # noqa: N818 - it is no failure yet.
    """An attempt that came to nothing.

    `code` and `reason` are how the call fails if there is no other attempt; `again` says whether another one is safe
    and may help, `wait` how many seconds the receiver asks to wait.
    """

    def __init__(self, code: str, message: str, *, again: bool, reason: str = "", wait: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.again = again
        self.wait = wait


def unknown(message: str) -> Trouble:
    """It may have arrived, and doing it again might do it twice: a person decides."""
    return Trouble("ABORTED", f"{message}; it may have arrived", again=False, reason="OUTCOME_UNKNOWN")


def tried(call: Call, settings: Settings, once: Callable[[float], _Result]) -> _Result:
    """Calls `once`, which gets the seconds it may take, until it returns or there is no sense in another attempt."""
    pause = settings.pause_s
    for attempt in range(1, settings.attempts + 1):
        call.raise_if_cancelled()
        try:
            return once(min(settings.timeout_s, call.remaining))
        except Trouble as trouble:
            wait = random.uniform(pause / 2, pause) if trouble.wait is None else trouble.wait
            is_last = attempt == settings.attempts or wait > _LONGEST_WISH or wait >= call.remaining
            if not trouble.again or is_last:
                count = f" (attempt {attempt} of {settings.attempts})" if trouble.again else ""
                raise PluginError(trouble.code, f"{trouble}{count}", reason=trouble.reason) from None
            call.log("warn", f"attempt {attempt} of {settings.attempts}: {trouble}; again in {wait:.1f} s")
            call.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE)
    raise AssertionError("there is at least one attempt")
