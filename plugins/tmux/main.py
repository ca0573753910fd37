"""Serves the plugin `tmux`; the mesh starts it."""

from sessions.hiding import hide
from sessions.operations import plugin

if __name__ == "__main__":
    hide()
    plugin.serve()
