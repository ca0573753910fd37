"""Serves the plugin `system`; the mesh starts it."""

from machine.hiding import hide
from machine.operations import plugin

if __name__ == "__main__":
    hide()
    plugin.serve()
