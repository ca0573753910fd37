"""Serves the agent `time-waste`: `python main.py`, with the mesh at CONSORT_ADDR."""

from typing import Any

from consort import TaskError, Worker
from time_waste import InputError, analyse

worker = Worker("time-waste", slots=4)


@worker.agent("time-waste", type="analysis", capabilities=["time-log"])
def time_waste(entries: list[Any]) -> dict[str, Any]:
    """Finds the hours of a time log that were lost to undone work, rework and switching."""
    try:
        return analyse(entries)
    except InputError as error:
        raise TaskError("INVALID_ARGUMENT", str(error), retryable=False, details={"field": error.field}) from error


if __name__ == "__main__":
    worker.run()
