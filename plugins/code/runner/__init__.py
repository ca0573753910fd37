"""Runs code of agents, in a fresh folder and with limits."""
