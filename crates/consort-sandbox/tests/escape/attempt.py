"""What all attempts share. An attempt that works returns what it got; one that is refused raises OSError.

What is attempted stands in PROBE_TARGETS, as JSON: paths, ports and processes that the test has set up outside.
"""

import ctypes
import errno
import json
import os
import platform

LIBC = ctypes.CDLL(None, use_errno=True)
T = json.loads(os.environ.get("PROBE_TARGETS", "{}"))
X86 = platform.machine() == "x86_64"
PROBES = {}

# Who started this program, and the program: each attempt is made by a child of it.
HELPER, MAIN = os.getppid(), os.getpid()


def probe(group, harmless=True):
    """Registers an attempt. `harmless`: it may be tried outside, too, and works there for root."""

    def register(function):
        PROBES[function.__name__] = (group, harmless, function)
        return function

    return register


def call(number, *arguments):
    """A system call by number; raises what it sets. None: this machine has no such call."""
    if number is None:
        raise OSError(errno.ENOSYS, "not on this machine")
    LIBC.syscall.restype = ctypes.c_long
    fixed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = LIBC.syscall(ctypes.c_long(number), *fixed)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def number(x86, arm=None):
    """A call's number here."""
    return x86 if X86 else arm


def read(path):
    with open(path, "rb") as file:
        return len(file.read(64))


def write(path, data=b"x"):
    with open(path, "r+b") as file:
        return file.write(data)


def fail(code):
    """Says that an attempt was refused where the kernel does not."""
    raise OSError(code, os.strerror(code))
