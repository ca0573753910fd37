"""What the operator sets."""

from dataclasses import dataclass
from typing import Annotated

from consort.plugin import Limits


@dataclass
class Settings:
    """The most sessions at once, and which tmux.

    `server` is the path of another server's socket, or its name as `tmux -L` takes it; that needs the capability
    `user-server`. Left out, the plugin has a server of its own, which ends with it unless `keep`: then the next start
    finds it, where no sandbox has ended it.
    """

    program: str = "/usr/bin/tmux"
    sessions: Annotated[int, Limits(minimum=1, maximum=100)] = 16
    server: str = ""
    keep: bool = False
