import datetime

from consort._gen.agent.v1 import agent_service_pb2 as _agent_service_pb2
from consort._gen.blob.v1 import payload_pb2 as _payload_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ConnectRequest(_message.Message):
    __slots__ = ("hello", "renew", "reports", "completed", "failed", "released", "draining", "asked", "asks", "replies", "withdrawn")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    RENEW_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    ASKS_FIELD_NUMBER: _ClassVar[int]
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    renew: Renew
    reports: _containers.RepeatedCompositeFieldContainer[TaskReport]
    completed: _containers.RepeatedCompositeFieldContainer[Completed]
    failed: _containers.RepeatedCompositeFieldContainer[Failed]
    released: _containers.RepeatedCompositeFieldContainer[Release]
    draining: bool
    asked: _containers.RepeatedCompositeFieldContainer[Asked]
    asks: _containers.RepeatedCompositeFieldContainer[Ask]
    replies: _containers.RepeatedCompositeFieldContainer[Reply]
    withdrawn: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., renew: _Optional[_Union[Renew, _Mapping]] = ..., reports: _Optional[_Iterable[_Union[TaskReport, _Mapping]]] = ..., completed: _Optional[_Iterable[_Union[Completed, _Mapping]]] = ..., failed: _Optional[_Iterable[_Union[Failed, _Mapping]]] = ..., released: _Optional[_Iterable[_Union[Release, _Mapping]]] = ..., draining: _Optional[bool] = ..., asked: _Optional[_Iterable[_Union[Asked, _Mapping]]] = ..., asks: _Optional[_Iterable[_Union[Ask, _Mapping]]] = ..., replies: _Optional[_Iterable[_Union[Reply, _Mapping]]] = ..., withdrawn: _Optional[_Iterable[int]] = ...) -> None: ...

class ConnectResponse(_message.Message):
    __slots__ = ("welcome", "assignments", "cancels", "acks", "drain", "inquiries", "replies", "withdrawn")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    CANCELS_FIELD_NUMBER: _ClassVar[int]
    ACKS_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    INQUIRIES_FIELD_NUMBER: _ClassVar[int]
    REPLIES_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    assignments: _containers.RepeatedCompositeFieldContainer[Assignment]
    cancels: _containers.RepeatedCompositeFieldContainer[Cancel]
    acks: _containers.RepeatedCompositeFieldContainer[Ack]
    drain: bool
    inquiries: _containers.RepeatedCompositeFieldContainer[Inquiry]
    replies: _containers.RepeatedCompositeFieldContainer[Reply]
    withdrawn: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., assignments: _Optional[_Iterable[_Union[Assignment, _Mapping]]] = ..., cancels: _Optional[_Iterable[_Union[Cancel, _Mapping]]] = ..., acks: _Optional[_Iterable[_Union[Ack, _Mapping]]] = ..., drain: _Optional[bool] = ..., inquiries: _Optional[_Iterable[_Union[Inquiry, _Mapping]]] = ..., replies: _Optional[_Iterable[_Union[Reply, _Mapping]]] = ..., withdrawn: _Optional[_Iterable[int]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("worker_id", "session_id", "parent", "min_protocol", "max_protocol", "agents", "slots", "sdk", "answers")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    MIN_PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    MAX_PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    SDK_FIELD_NUMBER: _ClassVar[int]
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    session_id: str
    parent: str
    min_protocol: int
    max_protocol: int
    agents: _containers.RepeatedCompositeFieldContainer[AgentOffer]
    slots: _containers.RepeatedCompositeFieldContainer[SlotOffer]
    sdk: str
    answers: _containers.RepeatedCompositeFieldContainer[AnswerOffer]
    def __init__(self, worker_id: _Optional[str] = ..., session_id: _Optional[str] = ..., parent: _Optional[str] = ..., min_protocol: _Optional[int] = ..., max_protocol: _Optional[int] = ..., agents: _Optional[_Iterable[_Union[AgentOffer, _Mapping]]] = ..., slots: _Optional[_Iterable[_Union[SlotOffer, _Mapping]]] = ..., sdk: _Optional[str] = ..., answers: _Optional[_Iterable[_Union[AnswerOffer, _Mapping]]] = ...) -> None: ...

class AnswerOffer(_message.Message):
    __slots__ = ("agent", "at_once", "description")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    AT_ONCE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    agent: str
    at_once: int
    description: str
    def __init__(self, agent: _Optional[str] = ..., at_once: _Optional[int] = ..., description: _Optional[str] = ...) -> None: ...

class AgentOffer(_message.Message):
    __slots__ = ("agent", "type", "description", "capabilities", "slot")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    agent: str
    type: str
    description: str
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    slot: str
    def __init__(self, agent: _Optional[str] = ..., type: _Optional[str] = ..., description: _Optional[str] = ..., capabilities: _Optional[_Iterable[str]] = ..., slot: _Optional[str] = ...) -> None: ...

class SlotOffer(_message.Message):
    __slots__ = ("slot", "credits")
    SLOT_FIELD_NUMBER: _ClassVar[int]
    CREDITS_FIELD_NUMBER: _ClassVar[int]
    slot: str
    credits: int
    def __init__(self, slot: _Optional[str] = ..., credits: _Optional[int] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol", "lease_ttl", "resumed", "server")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    LEASE_TTL_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    lease_ttl: _duration_pb2.Duration
    resumed: _containers.RepeatedCompositeFieldContainer[LeaseRef]
    server: str
    def __init__(self, protocol: _Optional[int] = ..., lease_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., resumed: _Optional[_Iterable[_Union[LeaseRef, _Mapping]]] = ..., server: _Optional[str] = ...) -> None: ...

class LeaseRef(_message.Message):
    __slots__ = ("task", "lease_token")
    TASK_FIELD_NUMBER: _ClassVar[int]
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    task: str
    lease_token: int
    def __init__(self, task: _Optional[str] = ..., lease_token: _Optional[int] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("task", "lease_token", "agent", "input", "idempotency_key", "attempt", "deadline", "workflow", "clarifications")
    TASK_FIELD_NUMBER: _ClassVar[int]
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    CLARIFICATIONS_FIELD_NUMBER: _ClassVar[int]
    task: str
    lease_token: int
    agent: str
    input: _payload_pb2.Payload
    idempotency_key: str
    attempt: int
    deadline: _timestamp_pb2.Timestamp
    workflow: str
    clarifications: _containers.RepeatedCompositeFieldContainer[Clarification]
    def __init__(self, task: _Optional[str] = ..., lease_token: _Optional[int] = ..., agent: _Optional[str] = ..., input: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., attempt: _Optional[int] = ..., deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., workflow: _Optional[str] = ..., clarifications: _Optional[_Iterable[_Union[Clarification, _Mapping]]] = ...) -> None: ...

class Clarification(_message.Message):
    __slots__ = ("title", "option", "form", "answered_by")
    TITLE_FIELD_NUMBER: _ClassVar[int]
    OPTION_FIELD_NUMBER: _ClassVar[int]
    FORM_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_BY_FIELD_NUMBER: _ClassVar[int]
    title: str
    option: str
    form: _payload_pb2.Payload
    answered_by: str
    def __init__(self, title: _Optional[str] = ..., option: _Optional[str] = ..., form: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., answered_by: _Optional[str] = ...) -> None: ...

class Asked(_message.Message):
    __slots__ = ("lease", "question")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    lease: LeaseRef
    question: Question
    def __init__(self, lease: _Optional[_Union[LeaseRef, _Mapping]] = ..., question: _Optional[_Union[Question, _Mapping]] = ...) -> None: ...

class Question(_message.Message):
    __slots__ = ("title", "description", "options", "form", "deadline", "default_option")
    TITLE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    FORM_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_OPTION_FIELD_NUMBER: _ClassVar[int]
    title: str
    description: str
    options: _containers.RepeatedScalarFieldContainer[str]
    form: _payload_pb2.Payload
    deadline: _duration_pb2.Duration
    default_option: str
    def __init__(self, title: _Optional[str] = ..., description: _Optional[str] = ..., options: _Optional[_Iterable[str]] = ..., form: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., deadline: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., default_option: _Optional[str] = ...) -> None: ...

class Renew(_message.Message):
    __slots__ = ("cpu", "memory_bytes")
    CPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    cpu: float
    memory_bytes: int
    def __init__(self, cpu: _Optional[float] = ..., memory_bytes: _Optional[int] = ...) -> None: ...

class TaskReport(_message.Message):
    __slots__ = ("lease", "report", "time")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    lease: LeaseRef
    report: _agent_service_pb2.StepReport
    time: _timestamp_pb2.Timestamp
    def __init__(self, lease: _Optional[_Union[LeaseRef, _Mapping]] = ..., report: _Optional[_Union[_agent_service_pb2.StepReport, _Mapping]] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Completed(_message.Message):
    __slots__ = ("lease", "output", "plan")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    lease: LeaseRef
    output: _payload_pb2.Payload
    plan: str
    def __init__(self, lease: _Optional[_Union[LeaseRef, _Mapping]] = ..., output: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., plan: _Optional[str] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("lease", "error", "retryable", "retry_after")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    lease: LeaseRef
    error: _status_pb2.Status
    retryable: bool
    retry_after: _duration_pb2.Duration
    def __init__(self, lease: _Optional[_Union[LeaseRef, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., retryable: _Optional[bool] = ..., retry_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("lease",)
    LEASE_FIELD_NUMBER: _ClassVar[int]
    lease: LeaseRef
    def __init__(self, lease: _Optional[_Union[LeaseRef, _Mapping]] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("lease", "reason")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    lease: LeaseRef
    reason: str
    def __init__(self, lease: _Optional[_Union[LeaseRef, _Mapping]] = ..., reason: _Optional[str] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("lease", "error")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    lease: LeaseRef
    error: _status_pb2.Status
    def __init__(self, lease: _Optional[_Union[LeaseRef, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class Ask(_message.Message):
    __slots__ = ("number", "agent", "payload", "timeout", "lease", "within")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    WITHIN_FIELD_NUMBER: _ClassVar[int]
    number: int
    agent: str
    payload: _payload_pb2.Payload
    timeout: _duration_pb2.Duration
    lease: LeaseRef
    within: int
    def __init__(self, number: _Optional[int] = ..., agent: _Optional[str] = ..., payload: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., lease: _Optional[_Union[LeaseRef, _Mapping]] = ..., within: _Optional[int] = ...) -> None: ...

class Inquiry(_message.Message):
    __slots__ = ("number", "agent", "payload", "timeout", "asker", "task", "depth")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    ASKER_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    number: int
    agent: str
    payload: _payload_pb2.Payload
    timeout: _duration_pb2.Duration
    asker: str
    task: str
    depth: int
    def __init__(self, number: _Optional[int] = ..., agent: _Optional[str] = ..., payload: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., asker: _Optional[str] = ..., task: _Optional[str] = ..., depth: _Optional[int] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("number", "answer", "error", "retryable")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    number: int
    answer: _payload_pb2.Payload
    error: _status_pb2.Status
    retryable: bool
    def __init__(self, number: _Optional[int] = ..., answer: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., retryable: _Optional[bool] = ...) -> None: ...

class LeaseTasksRequest(_message.Message):
    __slots__ = ("worker_id", "session_id", "parent", "agents", "max_tasks", "wait")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    MAX_TASKS_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    session_id: str
    parent: str
    agents: _containers.RepeatedScalarFieldContainer[str]
    max_tasks: int
    wait: _duration_pb2.Duration
    def __init__(self, worker_id: _Optional[str] = ..., session_id: _Optional[str] = ..., parent: _Optional[str] = ..., agents: _Optional[_Iterable[str]] = ..., max_tasks: _Optional[int] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class LeaseTasksResponse(_message.Message):
    __slots__ = ("assignments", "lease_ttl")
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    LEASE_TTL_FIELD_NUMBER: _ClassVar[int]
    assignments: _containers.RepeatedCompositeFieldContainer[Assignment]
    lease_ttl: _duration_pb2.Duration
    def __init__(self, assignments: _Optional[_Iterable[_Union[Assignment, _Mapping]]] = ..., lease_ttl: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class RenewLeasesRequest(_message.Message):
    __slots__ = ("worker_id", "session_id", "parent", "reports")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    session_id: str
    parent: str
    reports: _containers.RepeatedCompositeFieldContainer[TaskReport]
    def __init__(self, worker_id: _Optional[str] = ..., session_id: _Optional[str] = ..., parent: _Optional[str] = ..., reports: _Optional[_Iterable[_Union[TaskReport, _Mapping]]] = ...) -> None: ...

class RenewLeasesResponse(_message.Message):
    __slots__ = ("held", "cancels")
    HELD_FIELD_NUMBER: _ClassVar[int]
    CANCELS_FIELD_NUMBER: _ClassVar[int]
    held: _containers.RepeatedCompositeFieldContainer[LeaseRef]
    cancels: _containers.RepeatedCompositeFieldContainer[Cancel]
    def __init__(self, held: _Optional[_Iterable[_Union[LeaseRef, _Mapping]]] = ..., cancels: _Optional[_Iterable[_Union[Cancel, _Mapping]]] = ...) -> None: ...

class CompleteTaskRequest(_message.Message):
    __slots__ = ("task", "lease_token", "output", "plan")
    TASK_FIELD_NUMBER: _ClassVar[int]
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    task: str
    lease_token: int
    output: _payload_pb2.Payload
    plan: str
    def __init__(self, task: _Optional[str] = ..., lease_token: _Optional[int] = ..., output: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., plan: _Optional[str] = ...) -> None: ...

class CompleteTaskResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FailTaskRequest(_message.Message):
    __slots__ = ("task", "lease_token", "error", "retryable", "retry_after")
    TASK_FIELD_NUMBER: _ClassVar[int]
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_FIELD_NUMBER: _ClassVar[int]
    task: str
    lease_token: int
    error: _status_pb2.Status
    retryable: bool
    retry_after: _duration_pb2.Duration
    def __init__(self, task: _Optional[str] = ..., lease_token: _Optional[int] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., retryable: _Optional[bool] = ..., retry_after: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class FailTaskResponse(_message.Message):
    __slots__ = ("will_retry",)
    WILL_RETRY_FIELD_NUMBER: _ClassVar[int]
    will_retry: bool
    def __init__(self, will_retry: _Optional[bool] = ...) -> None: ...

class AskTaskRequest(_message.Message):
    __slots__ = ("task", "lease_token", "question")
    TASK_FIELD_NUMBER: _ClassVar[int]
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    task: str
    lease_token: int
    question: Question
    def __init__(self, task: _Optional[str] = ..., lease_token: _Optional[int] = ..., question: _Optional[_Union[Question, _Mapping]] = ...) -> None: ...

class AskTaskResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
