"""The plugin itself."""

from typing import Annotated

from consort.plugin import Limits, Plugin
from x11.settings import Settings

plugin = Plugin(
    "desktop",
    version="0.1.0",
    description="An X11 desktop: its screen, mouse, keyboard, windows, clipboard and notifications.",
    config=Settings,
)

Place = Annotated[int, Limits(minimum=-32768, maximum=32767)]
Size = Annotated[int, Limits(minimum=1, maximum=32767)]
WindowId = Annotated[int, Limits(minimum=1, maximum=0xFFFFFFFF)]
