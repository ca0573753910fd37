"""Makes the terminal on standard input its own, and becomes the program that is named after it.

Run by itself, in a process that was just started: what has threads cannot safely do this between fork and exec.
"""

import fcntl
import os
import sys
import termios

if __name__ == "__main__":
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    try:
        os.execve(sys.argv[1], sys.argv[1:], os.environ)  # noqa: S606 - what it is for.
    except OSError as error:
        sys.exit(f"{sys.argv[1]}: {error.strerror}")
