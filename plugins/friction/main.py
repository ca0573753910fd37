"""Serves the agent `friction`: `python main.py`, with the mesh at CONSORT_ADDR."""

from typing import Any

from consort import TaskError, Worker
from friction import InputError, analyse

worker = Worker("friction", slots=4)


@worker.agent("friction", type="analysis", capabilities=["time-log"])
def friction(entries: list[Any]) -> dict[str, Any]:
    """Finds the chores a time log shows again and again, and the work that was done twice."""
    try:
        return analyse(entries)
    except InputError as error:
        raise TaskError("INVALID_ARGUMENT", str(error), retryable=False, details={"field": error.field}) from error


if __name__ == "__main__":
    worker.run()
