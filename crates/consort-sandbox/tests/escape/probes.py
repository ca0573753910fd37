"""Attempts to get out of the sandbox, each a function with a name. Prints JSON: name to what came of it.

Run with names of groups, or of single attempts, and `--harmless` for those that may be tried outside.
"""

import errno
import json
import os
import signal
import sys

import files  # noqa: F401
import limits  # noqa: F401
import machine  # noqa: F401
import processes  # noqa: F401
import programs  # noqa: F401
import sockets  # noqa: F401
from attempt import PROBES


def attempt(function):
    """Makes one attempt, and says what came of it."""
    try:
        return {"denied": False, "what": repr(function())[:200]}
    except OSError as error:
        return {"denied": True, "what": errno.errorcode.get(error.errno, str(error))}
    except (MemoryError, ValueError) as error:
        return {"denied": True, "what": type(error).__name__}


def apart(function):
    """The same in a process of its own: what one attempt changes is not there for the next."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        try:
            with open(theirs, "w") as pipe:
                json.dump(attempt(function), pipe)
        finally:
            os._exit(0)
    os.close(theirs)
    with open(ours) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else {"denied": False, "what": "the attempt broke off"}


def main():
    """Prints a JSON object."""
    wanted = sys.argv[1:]
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    chosen = {name: made for name, made in PROBES.items() if name in wanted or made[0] in wanted}
    chosen = {name: made for name, made in chosen.items() if made[1] or "--harmless" not in wanted}
    print(json.dumps({name: apart(function) for name, (_, _, function) in chosen.items()}))


if __name__ == "__main__":
    main()
