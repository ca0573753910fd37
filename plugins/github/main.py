"""Serves the plugin `github`; the mesh starts it."""

from forge.operations import plugin

if __name__ == "__main__":
    plugin.serve()
