"""Serves the plugin `code`; the mesh starts it."""

from runner.operations import plugin

if __name__ == "__main__":
    plugin.serve()
