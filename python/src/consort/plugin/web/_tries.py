"""Tries what may fail in passing, with pauses that grow to a limit."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo

from consort.errors import DOMAIN
from consort.plugin.call import Call
from consort.plugin.errors import PluginError

_Result = TypeVar("_Result")
LONGEST_PAUSE = 8.0


@dataclass(frozen=True, slots=True)
class Tries:
    """How often and how long something is tried; all times are in seconds.

    `attempts` counts the first one, `timeout_s` is for each, `pause_s` is the first pause between two, which doubles up
    to 8 s. Who asks to wait for more than `longest_wait_s` is not waited for.
    """

    attempts: int = 4
    timeout_s: float = 15.0
    pause_s: float = 0.5
    longest_wait_s: float = 60.0


class Trouble(Exception):  # noqa: N818 - it is no failure yet.
    """An attempt that came to nothing.

    `code` and `reason` are how the call fails if there is no other attempt; `again` says whether another one is safe
    and may help, `wait` how many seconds the other side asks to wait.
    """

    def __init__(self, code: str, message: str, *, again: bool, reason: str = "", wait: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.again = again
        self.wait = wait


def unknown(message: str) -> Trouble:
    """It may have been done, and doing it again might do it twice: a person decides."""
    return Trouble("ABORTED", f"{message}; it may have been done", again=False, reason="OUTCOME_UNKNOWN")


def tried(call: Call, tries: Tries, once: Callable[[float], _Result]) -> _Result:
    """Calls `once`, which gets the seconds it may take, until it returns or there is no sense in another attempt.

    PluginError has the last attempt's code and reason; where the other side said how long to wait, RetryInfo tells it.
    """
    pause = tries.pause_s
    for attempt in range(1, tries.attempts + 1):
        call.raise_if_cancelled()
        try:
            return once(max(0.001, min(tries.timeout_s, call.remaining)))
        except Trouble as trouble:
            # Those who were asked to wait together do not return together.
            asked = trouble.wait
            wait = random.uniform(pause / 2, pause) if asked is None else random.uniform(asked, 1.05 * asked)
            is_last = attempt == tries.attempts or (asked or 0) > tries.longest_wait_s or wait >= call.remaining
            if not trouble.again or is_last:
                raise _failure(trouble, attempt, tries.attempts) from None
            call.log("warn", f"attempt {attempt} of {tries.attempts}: {trouble}; again in {wait:.1f} s")
            call.sleep(wait)
            pause = min(2 * pause, LONGEST_PAUSE)
    raise AssertionError("there is at least one attempt")


def _failure(trouble: Trouble, attempt: int, attempts: int) -> PluginError:
    if not trouble.again:
        return PluginError(trouble.code, str(trouble), reason=trouble.reason)
    message = f"{trouble} (attempt {attempt} of {attempts})"
    if trouble.wait is None:
        return PluginError(trouble.code, message, reason=trouble.reason)
    retry = RetryInfo()
    retry.retry_delay.FromMilliseconds(round(trouble.wait * 1e3))
    info = [ErrorInfo(reason=trouble.reason, domain=DOMAIN)] if trouble.reason else []
    error = PluginError(trouble.code, message, details=[*info, retry])
    error.reason = trouble.reason
    return error
