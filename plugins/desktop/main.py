"""Serves the plugin `desktop`; the mesh starts it."""

from x11.operations import plugin

if __name__ == "__main__":
    plugin.serve()
