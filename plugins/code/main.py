"""Serves the plugin `code`; the mesh starts it."""

from runner.hiding import hide
from runner.operations import plugin

if __name__ == "__main__":
    hide()
    plugin.serve()
