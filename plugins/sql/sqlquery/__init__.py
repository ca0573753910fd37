"""Reads SQLite and PostgreSQL: queries that can change nothing, with limits of rows and time."""
