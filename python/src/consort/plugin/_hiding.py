"""Keeps what this process knows from the programs that it starts."""

import ctypes
import sys

_PR_SET_DUMPABLE = 4


def hide() -> None:
    """Closes /proc/<pid>/environ and /proc/<pid>/mem to others of the same user: the mesh's token is there.

    It also means no core dumps, and no debugger of that user. What anybody may read, such as /proc/<pid>/status, stays
    open; programs that are started do not inherit it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
