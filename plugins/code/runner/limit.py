"""Takes on limits and becomes an interpreter: MEMORY_BYTES FILE_BYTES SECONDS PROGRAM ARGUMENT...

Run by itself, in a process that was just started: what has threads cannot safely do this between fork and exec.
"""

import os
import resource
import sys

if __name__ == "__main__":
    memory, size, seconds = (int(each) for each in sys.argv[1:4])
    for kind, most in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_FSIZE, size),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)  # noqa: PLW2901
        resource.setrlimit(kind, (most, most))
    try:
        os.execve(sys.argv[4], sys.argv[4:], os.environ)  # noqa: S606 - what it is for.
    except OSError as error:
        sys.exit(f"{sys.argv[4]}: {error.strerror}")
