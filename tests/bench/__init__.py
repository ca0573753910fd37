"""Measures Consort beside what could be used instead, and what size costs. README.md says how to run it."""
