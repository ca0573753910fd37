"""A build, whoever does it."""

from typing import Literal, TypedDict

State = Literal["queued", "running", "succeeded", "failed", "cancelled", "unknown"]
OVER = ("succeeded", "failed", "cancelled")


class Build(TypedDict):
    """A build.

    `build` names it to its service: the number of a run of GitHub, and of Jenkins `queue/7` as long as it waits, then
    `job/name/12`. `detail` is the service's own word for its state. Times are RFC 3339, empty if there is none yet.
    """

    build: str
    state: State
    detail: str
    url: str
    started: str
    finished: str
