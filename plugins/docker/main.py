"""Serves the plugin `docker`; the mesh starts it."""

from engine.operations import plugin

if __name__ == "__main__":
    plugin.serve()
