"""What the operator sets: the most of everything."""

from dataclasses import dataclass
from typing import Annotated

from consort.plugin import Limits


@dataclass
class Settings:
    """The most programs that run, and shell sessions that are open, at once, and the KiB of output kept of each."""

    jobs: Annotated[int, Limits(minimum=1, maximum=64)] = 16
    shells: Annotated[int, Limits(minimum=1, maximum=64)] = 16
    output_kib: Annotated[int, Limits(minimum=1, maximum=16 * 1024)] = 512
