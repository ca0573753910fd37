"""The plugin itself."""

import atexit
from typing import Annotated

from consort.plugin import Limits, Plugin
from machine.jobs import jobs
from machine.settings import Settings
from machine.shells import shells

plugin = Plugin(
    "system",
    version="0.1.0",
    description="The machine: its processes, programs, shell sessions, files and state.",
    config=Settings,
    # Most of them wait.
    threads=48,
)
# What the sandbox does besides, where there is one.
atexit.register(jobs.close)
atexit.register(shells.close_all)

Program = Annotated[str, Limits(minLength=1, maxLength=4096)]
Arguments = Annotated[list[Annotated[str, Limits(maxLength=128 * 1024)]], Limits(maxItems=1000)]
Variables = dict[str, Annotated[str, Limits(maxLength=32 * 1024)]]
Seconds = Annotated[float, Limits(minimum=0, maximum=600)]
Grace = Annotated[float, Limits(minimum=0, maximum=60)]
# Of operations that wait, if their caller says nothing.
WAIT_S = 660.0
