"""The operations of the plugin, by what they are about."""

from machine.operations import files, processes, programs, shells, state
from machine.operations._plugin import plugin

__all__ = ["files", "plugin", "processes", "programs", "shells", "state"]
