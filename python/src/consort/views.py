"""What the client returns: plain, frozen records of the mesh's messages."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.status_pb2 import Status

from consort._gen.blob.v1.payload_pb2 import Payload
from consort._gen.decision.v1 import decision_service_pb2 as decision_pb
from consort._gen.orchestrator.v1 import orchestrator_service_pb2, run_event_pb2, run_pb2, workflow_pb2
from consort._net import to_datetime
from consort._values import Blobs, decode_inline
from consort.errors import status_code


@dataclass(frozen=True, slots=True)
class Workflow:
    """A revision of a workflow: `name` is `namespaces/{namespace}/workflows/{id}`, `revision` counts from 1."""

    name: str
    revision: int
    digest: str
    description: str
    source: str


@dataclass(frozen=True, slots=True)
class Failure:
    """An error: `code` is the name of a gRPC status code."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Step:
    """How a step stands: `state` is such as "DONE", `progress` lies between 0 and 1."""

    id: str
    state: str
    attempt: int
    output: Any
    error: Failure | None
    worker: str
    progress: float
    progress_text: str


@dataclass(frozen=True, slots=True)
class Run:
    """A run: `name` is `namespaces/{namespace}/runs/{uuid}`, `state` such as "SUCCEEDED".

    `sequence` is the number of its last event. `steps` is filled by `get` and `wait`. `project` is the name of the
    project it belongs to, or empty.
    """

    name: str
    workflow: str
    revision: int
    state: str
    sequence: int
    inputs: Any
    output: Any
    error: Failure | None
    create_time: datetime | None
    end_time: datetime | None
    labels: dict[str, str]
    steps: tuple[Step, ...]
    project: str

    @property
    def is_over(self) -> bool:
        """Whether it has ended, well or not."""
        return self.state in ("SUCCEEDED", "FAILED", "CANCELLED")


@dataclass(frozen=True, slots=True)
class Event:
    """A fact of a run's history: `kind` is such as "step_succeeded", `fact` its fields as plain values.

    `sequence` counts from 1 without a gap. `step` is empty for the run as a whole.
    """

    run: str
    sequence: int
    time: datetime | None
    step: str
    kind: str
    fact: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Decision:
    """A question to a person: `state` is such as "OPEN", `form` the JSON Schema that goes with an answer, or None.

    `kind` is "CHOICE" for a step that decides, "CLARIFICATION" for a step that cannot go on; `project` is the name of
    its run's project, or empty.
    """

    name: str
    run: str
    step: str
    title: str
    description: str
    options: tuple[str, ...]
    form: Any
    default_option: str
    deadline: datetime | None
    state: str
    option: str
    answer: Any
    answered_by: str
    kind: str
    project: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule of a workflow: number `index` of its definition, counted from 0.

    `cron` is such as "0 7 * * MON", read in `timezone`. `overlap` is "skip", "allow", "cancel" or "queue", `catch_up`
    "none", "last" or "all". `last_run` is the run it last started, or empty; `skipped` counts the times it started
    none.
    """

    workflow: str
    index: int
    cron: str
    timezone: str
    overlap: str
    catch_up: str
    next_time: datetime | None
    last_time: datetime | None
    last_run: str
    skipped: int


def workflow_from(message: workflow_pb2.Workflow) -> Workflow:
    """The record of a workflow."""
    return Workflow(message.name, message.revision, message.digest, message.description, message.source)


async def run_from(message: run_pb2.Run, blobs: Blobs) -> Run:
    """The record of a run; large values are downloaded."""
    return Run(
        name=message.name,
        workflow=message.workflow,
        revision=message.revision,
        state=run_pb2.RunState.Name(message.state).removeprefix("RUN_STATE_"),
        sequence=message.sequence,
        inputs=await blobs.value(message.inputs),
        output=await blobs.value(message.output),
        error=_failure(message.error) if message.HasField("error") else None,
        create_time=time_of(message, "create_time"),
        end_time=time_of(message, "end_time"),
        labels=dict(message.labels),
        steps=tuple([await _step(step, blobs) for step in message.steps]),
        project=message.project,
    )


async def _step(message: run_pb2.StepStatus, blobs: Blobs) -> Step:
    return Step(
        id=message.step,
        state=run_pb2.StepState.Name(message.state).removeprefix("STEP_STATE_"),
        attempt=message.attempt,
        output=await blobs.value(message.output),
        error=_failure(message.error) if message.HasField("error") else None,
        worker=message.worker,
        progress=message.progress,
        progress_text=message.progress_text,
    )


async def event_from(message: run_event_pb2.RunEvent, blobs: Blobs) -> Event:
    """The record of an event; large values are downloaded."""
    kind = message.WhichOneof("fact") or ""
    fact = await _plain(getattr(message, kind), blobs) if kind else {}
    return Event(message.run, message.sequence, time_of(message, "time"), message.step, kind, fact)


async def decision_from(message: decision_pb.Decision, blobs: Blobs) -> Decision:
    """The record of a decision; large values are downloaded."""
    return Decision(
        name=message.name,
        run=message.run,
        step=message.step,
        title=message.title,
        description=message.description,
        options=tuple(message.options),
        form=await blobs.value(message.form),
        default_option=message.default_option,
        deadline=time_of(message, "deadline"),
        state=decision_pb.DecisionState.Name(message.state).removeprefix("DECISION_STATE_"),
        option=message.option,
        answer=await blobs.value(message.answer),
        answered_by=message.answered_by,
        kind=decision_pb.DecisionKind.Name(message.kind).removeprefix("DECISION_KIND_"),
        project=message.project,
    )


def schedule_from(message: orchestrator_service_pb2.Schedule) -> Schedule:
    """The record of a schedule."""
    return Schedule(
        workflow=message.workflow,
        index=message.index,
        cron=message.cron,
        timezone=message.timezone,
        overlap=message.overlap,
        catch_up=message.catch_up,
        next_time=time_of(message, "next_time"),
        last_time=time_of(message, "last_time"),
        last_run=message.last_run,
        skipped=message.skipped,
    )


def _failure(status: Status) -> Failure:
    return Failure(status_code(status.code).name, status.message)


def time_of(message: Message, field: str) -> datetime | None:
    """The time in a field of a message; None if it is absent."""
    return to_datetime(getattr(message, field)) if message.HasField(field) else None


async def _plain(message: Message, blobs: Blobs) -> Any:
    """A message as plain values: payloads as what they carry, times and errors as such, all else as dictionaries."""
    if isinstance(message, Payload):
        return await blobs.value(message) if message.WhichOneof("kind") == "blob" else decode_inline(message)
    if isinstance(message, Timestamp):
        return to_datetime(message)
    if isinstance(message, Duration):
        return timedelta(seconds=message.seconds, microseconds=message.nanos // 1000)
    if isinstance(message, Status):
        return _failure(message)
    fields: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.type != FieldDescriptor.TYPE_MESSAGE:
            fields[field.name] = list(value) if isinstance(value, list) or field.is_repeated else value
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            fields[field.name] = dict(value)
        elif field.is_repeated:
            fields[field.name] = [await _plain(item, blobs) for item in value]
        else:
            fields[field.name] = await _plain(value, blobs)
    return fields
