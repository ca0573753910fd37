"""Serves the plugin `http`; the mesh starts it."""

from webcalls.operations import plugin

if __name__ == "__main__":
    plugin.serve()
