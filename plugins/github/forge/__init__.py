"""Repositories, issues, pull requests, commits and releases on GitHub (REST API, version 2022-11-28)."""
