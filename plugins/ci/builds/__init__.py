"""Builds of GitHub Actions and Jenkins."""
