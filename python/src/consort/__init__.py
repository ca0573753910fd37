"""The Python SDK of Consort: workers that perform tasks, and a client that starts runs and follows them."""

from consort._events import DeadLetter
from consort._projects import Project, ProjectFigures
from consort._signals import Signal
from consort.client import Client
from consort.errors import AskError, ConsortError, RefusedError, RpcError, TaskError
from consort.group import Delivery, Envelope, Group
from consort.inquiry import Inquiry
from consort.plan import Plan
from consort.question import Clarification
from consort.task import Task
from consort.views import Decision, Event, Run, Schedule, Step, Workflow
from consort.worker import Worker

__all__ = [
    "AskError",
    "Clarification",
    "Client",
    "ConsortError",
    "DeadLetter",
    "Decision",
    "Delivery",
    "Envelope",
    "Event",
    "Group",
    "Inquiry",
    "Plan",
    "Project",
    "ProjectFigures",
    "RefusedError",
    "RpcError",
    "Run",
    "Schedule",
    "Signal",
    "Step",
    "Task",
    "TaskError",
    "Worker",
    "Workflow",
]
