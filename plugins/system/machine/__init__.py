"""The machine: its processes, programs, shell sessions, files and state."""
