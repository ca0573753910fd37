"""Serves the plugin `sql`; the mesh starts it."""

from sqlquery.operations import plugin

if __name__ == "__main__":
    plugin.serve()
