"""Serves the plugin `s3`; the mesh starts it."""

from objectstore.operations import plugin

if __name__ == "__main__":
    plugin.serve()
