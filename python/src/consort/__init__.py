"""The Python SDK of Consort: workers that perform tasks, and a client that starts runs and follows them."""

from consort.client import Client
from consort.errors import ConsortError, RefusedError, RpcError, TaskError
from consort.task import Task
from consort.views import Decision, Event, Run, Step, Workflow
from consort.worker import Worker

__all__ = [
    "Client",
    "ConsortError",
    "Decision",
    "Event",
    "RefusedError",
    "RpcError",
    "Run",
    "Step",
    "Task",
    "TaskError",
    "Worker",
    "Workflow",
]
