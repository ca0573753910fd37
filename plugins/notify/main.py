"""Serves the plugin `notify`; the mesh starts it."""

from notify.operations import plugin

if __name__ == "__main__":
    plugin.serve()
