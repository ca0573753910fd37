"""Serves the plugin `ci`; the mesh starts it."""

from builds.operations import plugin

if __name__ == "__main__":
    plugin.serve()
