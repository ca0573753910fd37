"""Serves the plugin `tmux`; the mesh starts it."""

from sessions.operations import plugin

if __name__ == "__main__":
    plugin.serve()
