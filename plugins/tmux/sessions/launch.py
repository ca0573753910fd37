"""Becomes the program that is named after it, without a word of the tmux that it runs in."""

import os
import sys

if __name__ == "__main__":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TMUX")}
    try:
        os.execve(sys.argv[1], sys.argv[1:], environment)  # noqa: S606 - what it is for.
    except OSError as error:
        sys.exit(f"{sys.argv[1]}: {error.strerror}")
