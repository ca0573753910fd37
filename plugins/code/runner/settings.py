"""What the operator sets: the interpreters, and the most that code may take."""

from dataclasses import dataclass
from typing import Annotated

from consort.plugin import Limits

Mebibytes = Annotated[int, Limits(minimum=1, maximum=1024 * 1024)]


@dataclass
class Settings:
    """Interpreters by absolute path; seconds, memory of each process, size of all files, and output of a run.

    `without_sandbox` runs code where nothing holds it but these limits: it can do what the mesh's user can.
    """

    python: str = "/usr/bin/python3"
    javascript: str = "/usr/bin/node"
    shell: str = "/bin/sh"
    max_seconds: Annotated[float, Limits(exclusiveMinimum=0, maximum=3600)] = 300.0
    memory_mib: Mebibytes = 1024
    disk_mib: Mebibytes = 256
    output_kib: Annotated[int, Limits(minimum=1, maximum=16 * 1024)] = 256
    waiting_s: Annotated[float, Limits(minimum=0, maximum=3600)] = 60.0
    without_sandbox: bool = False
