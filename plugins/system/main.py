"""Serves the plugin `system`; the mesh starts it."""

from machine.operations import plugin

if __name__ == "__main__":
    plugin.serve()
