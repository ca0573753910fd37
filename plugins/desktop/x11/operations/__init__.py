"""The operations of the plugin, by what they are about."""

from x11.operations import keys, mouse, notes, pictures, windows
from x11.operations._plugin import plugin

__all__ = ["keys", "mouse", "notes", "pictures", "plugin", "windows"]
