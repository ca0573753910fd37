"""What the operator sets."""

from dataclasses import dataclass
from typing import Annotated

from consort.plugin import Limits


@dataclass
class Settings:
    """The most pixels of a picture, the pause between two keys in milliseconds, and the program for notifications."""

    max_pixels: Annotated[int, Limits(minimum=1, maximum=1 << 27)] = 7680 * 4320
    key_pause_ms: Annotated[float, Limits(minimum=0, maximum=1000)] = 4.0
    notify_send: str = "/usr/bin/notify-send"
