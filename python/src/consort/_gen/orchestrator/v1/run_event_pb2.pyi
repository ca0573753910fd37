import datetime

from consort._gen.agent.v1 import agent_service_pb2 as _agent_service_pb2
from consort._gen.blob.v1 import payload_pb2 as _payload_pb2
from consort._gen.inference.v1 import generation_pb2 as _generation_pb2
from consort._gen.orchestrator.v1 import run_pb2 as _run_pb2
from consort._gen.plugin.v1 import plugin_service_pb2 as _plugin_service_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RunEvent(_message.Message):
    __slots__ = ("run", "sequence", "time", "event_id", "step", "run_started", "run_paused", "run_resumed", "run_cancelled", "run_retried", "run_succeeded", "run_failed", "signal_received", "step_scheduled", "step_leased", "step_lease_lost", "step_reported", "step_succeeded", "step_retry_scheduled", "step_failed", "step_skipped", "step_expanded", "wait_started", "decision_requested", "decision_answered", "child_started", "step_iterated", "signal_awaited", "run_compensating", "clarification_requested", "clarification_answered", "event_emitted", "model_called", "operation_began", "operation_called")
    RUN_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    RUN_STARTED_FIELD_NUMBER: _ClassVar[int]
    RUN_PAUSED_FIELD_NUMBER: _ClassVar[int]
    RUN_RESUMED_FIELD_NUMBER: _ClassVar[int]
    RUN_CANCELLED_FIELD_NUMBER: _ClassVar[int]
    RUN_RETRIED_FIELD_NUMBER: _ClassVar[int]
    RUN_SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    RUN_FAILED_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    STEP_SCHEDULED_FIELD_NUMBER: _ClassVar[int]
    STEP_LEASED_FIELD_NUMBER: _ClassVar[int]
    STEP_LEASE_LOST_FIELD_NUMBER: _ClassVar[int]
    STEP_REPORTED_FIELD_NUMBER: _ClassVar[int]
    STEP_SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    STEP_RETRY_SCHEDULED_FIELD_NUMBER: _ClassVar[int]
    STEP_FAILED_FIELD_NUMBER: _ClassVar[int]
    STEP_SKIPPED_FIELD_NUMBER: _ClassVar[int]
    STEP_EXPANDED_FIELD_NUMBER: _ClassVar[int]
    WAIT_STARTED_FIELD_NUMBER: _ClassVar[int]
    DECISION_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    DECISION_ANSWERED_FIELD_NUMBER: _ClassVar[int]
    CHILD_STARTED_FIELD_NUMBER: _ClassVar[int]
    STEP_ITERATED_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_AWAITED_FIELD_NUMBER: _ClassVar[int]
    RUN_COMPENSATING_FIELD_NUMBER: _ClassVar[int]
    CLARIFICATION_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    CLARIFICATION_ANSWERED_FIELD_NUMBER: _ClassVar[int]
    EVENT_EMITTED_FIELD_NUMBER: _ClassVar[int]
    MODEL_CALLED_FIELD_NUMBER: _ClassVar[int]
    OPERATION_BEGAN_FIELD_NUMBER: _ClassVar[int]
    OPERATION_CALLED_FIELD_NUMBER: _ClassVar[int]
    run: str
    sequence: int
    time: _timestamp_pb2.Timestamp
    event_id: str
    step: str
    run_started: RunStarted
    run_paused: RunPaused
    run_resumed: RunResumed
    run_cancelled: RunCancelled
    run_retried: RunRetried
    run_succeeded: RunSucceeded
    run_failed: RunFailed
    signal_received: SignalReceived
    step_scheduled: StepScheduled
    step_leased: StepLeased
    step_lease_lost: StepLeaseLost
    step_reported: StepReported
    step_succeeded: StepSucceeded
    step_retry_scheduled: StepRetryScheduled
    step_failed: StepFailed
    step_skipped: StepSkipped
    step_expanded: StepExpanded
    wait_started: WaitStarted
    decision_requested: DecisionRequested
    decision_answered: DecisionAnswered
    child_started: ChildStarted
    step_iterated: StepIterated
    signal_awaited: SignalAwaited
    run_compensating: RunCompensating
    clarification_requested: ClarificationRequested
    clarification_answered: ClarificationAnswered
    event_emitted: EventEmitted
    model_called: ModelCalled
    operation_began: OperationBegan
    operation_called: OperationCalled
    def __init__(self, run: _Optional[str] = ..., sequence: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., event_id: _Optional[str] = ..., step: _Optional[str] = ..., run_started: _Optional[_Union[RunStarted, _Mapping]] = ..., run_paused: _Optional[_Union[RunPaused, _Mapping]] = ..., run_resumed: _Optional[_Union[RunResumed, _Mapping]] = ..., run_cancelled: _Optional[_Union[RunCancelled, _Mapping]] = ..., run_retried: _Optional[_Union[RunRetried, _Mapping]] = ..., run_succeeded: _Optional[_Union[RunSucceeded, _Mapping]] = ..., run_failed: _Optional[_Union[RunFailed, _Mapping]] = ..., signal_received: _Optional[_Union[SignalReceived, _Mapping]] = ..., step_scheduled: _Optional[_Union[StepScheduled, _Mapping]] = ..., step_leased: _Optional[_Union[StepLeased, _Mapping]] = ..., step_lease_lost: _Optional[_Union[StepLeaseLost, _Mapping]] = ..., step_reported: _Optional[_Union[StepReported, _Mapping]] = ..., step_succeeded: _Optional[_Union[StepSucceeded, _Mapping]] = ..., step_retry_scheduled: _Optional[_Union[StepRetryScheduled, _Mapping]] = ..., step_failed: _Optional[_Union[StepFailed, _Mapping]] = ..., step_skipped: _Optional[_Union[StepSkipped, _Mapping]] = ..., step_expanded: _Optional[_Union[StepExpanded, _Mapping]] = ..., wait_started: _Optional[_Union[WaitStarted, _Mapping]] = ..., decision_requested: _Optional[_Union[DecisionRequested, _Mapping]] = ..., decision_answered: _Optional[_Union[DecisionAnswered, _Mapping]] = ..., child_started: _Optional[_Union[ChildStarted, _Mapping]] = ..., step_iterated: _Optional[_Union[StepIterated, _Mapping]] = ..., signal_awaited: _Optional[_Union[SignalAwaited, _Mapping]] = ..., run_compensating: _Optional[_Union[RunCompensating, _Mapping]] = ..., clarification_requested: _Optional[_Union[ClarificationRequested, _Mapping]] = ..., clarification_answered: _Optional[_Union[ClarificationAnswered, _Mapping]] = ..., event_emitted: _Optional[_Union[EventEmitted, _Mapping]] = ..., model_called: _Optional[_Union[ModelCalled, _Mapping]] = ..., operation_began: _Optional[_Union[OperationBegan, _Mapping]] = ..., operation_called: _Optional[_Union[OperationCalled, _Mapping]] = ...) -> None: ...

class RunStarted(_message.Message):
    __slots__ = ("workflow", "revision", "inputs", "parent", "parent_step", "labels", "project", "trigger", "plan")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PARENT_STEP_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TRIGGER_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    workflow: str
    revision: int
    inputs: _payload_pb2.Payload
    parent: str
    parent_step: str
    labels: _containers.ScalarMap[str, str]
    project: str
    trigger: _run_pb2.Trigger
    plan: _payload_pb2.Payload
    def __init__(self, workflow: _Optional[str] = ..., revision: _Optional[int] = ..., inputs: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., parent: _Optional[str] = ..., parent_step: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., project: _Optional[str] = ..., trigger: _Optional[_Union[_run_pb2.Trigger, _Mapping]] = ..., plan: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ...) -> None: ...

class RunPaused(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class RunResumed(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RunCancelled(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class RunRetried(_message.Message):
    __slots__ = ("steps",)
    STEPS_FIELD_NUMBER: _ClassVar[int]
    steps: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, steps: _Optional[_Iterable[str]] = ...) -> None: ...

class RunSucceeded(_message.Message):
    __slots__ = ("output",)
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    output: _payload_pb2.Payload
    def __init__(self, output: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ...) -> None: ...

class RunFailed(_message.Message):
    __slots__ = ("failed_step", "error")
    FAILED_STEP_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    failed_step: str
    error: _status_pb2.Status
    def __init__(self, failed_step: _Optional[str] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class SignalReceived(_message.Message):
    __slots__ = ("signal", "payload")
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    signal: str
    payload: _payload_pb2.Payload
    def __init__(self, signal: _Optional[str] = ..., payload: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ...) -> None: ...

class StepScheduled(_message.Message):
    __slots__ = ("agent", "attempt", "input")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    agent: str
    attempt: int
    input: _payload_pb2.Payload
    def __init__(self, agent: _Optional[str] = ..., attempt: _Optional[int] = ..., input: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ...) -> None: ...

class StepLeased(_message.Message):
    __slots__ = ("attempt", "worker", "session_id", "lease_token")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    worker: str
    session_id: str
    lease_token: int
    def __init__(self, attempt: _Optional[int] = ..., worker: _Optional[str] = ..., session_id: _Optional[str] = ..., lease_token: _Optional[int] = ...) -> None: ...

class StepLeaseLost(_message.Message):
    __slots__ = ("lease_token", "reason")
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    lease_token: int
    reason: str
    def __init__(self, lease_token: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class StepReported(_message.Message):
    __slots__ = ("report",)
    REPORT_FIELD_NUMBER: _ClassVar[int]
    report: _agent_service_pb2.StepReport
    def __init__(self, report: _Optional[_Union[_agent_service_pb2.StepReport, _Mapping]] = ...) -> None: ...

class StepSucceeded(_message.Message):
    __slots__ = ("attempt", "output")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    output: _payload_pb2.Payload
    def __init__(self, attempt: _Optional[int] = ..., output: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ...) -> None: ...

class StepRetryScheduled(_message.Message):
    __slots__ = ("attempt", "error", "retry_time")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RETRY_TIME_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    error: _status_pb2.Status
    retry_time: _timestamp_pb2.Timestamp
    def __init__(self, attempt: _Optional[int] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., retry_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class StepFailed(_message.Message):
    __slots__ = ("attempt", "error")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    error: _status_pb2.Status
    def __init__(self, attempt: _Optional[int] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class StepSkipped(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class StepExpanded(_message.Message):
    __slots__ = ("items", "list")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    LIST_FIELD_NUMBER: _ClassVar[int]
    items: int
    list: _payload_pb2.Payload
    def __init__(self, items: _Optional[int] = ..., list: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ...) -> None: ...

class WaitStarted(_message.Message):
    __slots__ = ("until",)
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    until: _timestamp_pb2.Timestamp
    def __init__(self, until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class DecisionRequested(_message.Message):
    __slots__ = ("decision", "title", "description", "options", "form", "deadline", "default_option")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    FORM_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_OPTION_FIELD_NUMBER: _ClassVar[int]
    decision: str
    title: str
    description: str
    options: _containers.RepeatedScalarFieldContainer[str]
    form: _payload_pb2.Payload
    deadline: _timestamp_pb2.Timestamp
    default_option: str
    def __init__(self, decision: _Optional[str] = ..., title: _Optional[str] = ..., description: _Optional[str] = ..., options: _Optional[_Iterable[str]] = ..., form: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., default_option: _Optional[str] = ...) -> None: ...

class DecisionAnswered(_message.Message):
    __slots__ = ("decision", "option", "form", "answered_by")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    OPTION_FIELD_NUMBER: _ClassVar[int]
    FORM_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_BY_FIELD_NUMBER: _ClassVar[int]
    decision: str
    option: str
    form: _payload_pb2.Payload
    answered_by: str
    def __init__(self, decision: _Optional[str] = ..., option: _Optional[str] = ..., form: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., answered_by: _Optional[str] = ...) -> None: ...

class ChildStarted(_message.Message):
    __slots__ = ("child", "workflow", "revision")
    CHILD_FIELD_NUMBER: _ClassVar[int]
    WORKFLOW_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    child: str
    workflow: str
    revision: int
    def __init__(self, child: _Optional[str] = ..., workflow: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class StepIterated(_message.Message):
    __slots__ = ("iteration",)
    ITERATION_FIELD_NUMBER: _ClassVar[int]
    iteration: int
    def __init__(self, iteration: _Optional[int] = ...) -> None: ...

class SignalAwaited(_message.Message):
    __slots__ = ("signal", "until")
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    signal: str
    until: _timestamp_pb2.Timestamp
    def __init__(self, signal: _Optional[str] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RunCompensating(_message.Message):
    __slots__ = ("failed_step", "error", "goto_step")
    FAILED_STEP_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    GOTO_STEP_FIELD_NUMBER: _ClassVar[int]
    failed_step: str
    error: _status_pb2.Status
    goto_step: str
    def __init__(self, failed_step: _Optional[str] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., goto_step: _Optional[str] = ...) -> None: ...

class ClarificationRequested(_message.Message):
    __slots__ = ("question", "attempt")
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    question: DecisionRequested
    attempt: int
    def __init__(self, question: _Optional[_Union[DecisionRequested, _Mapping]] = ..., attempt: _Optional[int] = ...) -> None: ...

class ClarificationAnswered(_message.Message):
    __slots__ = ("answer",)
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    answer: DecisionAnswered
    def __init__(self, answer: _Optional[_Union[DecisionAnswered, _Mapping]] = ...) -> None: ...

class EventEmitted(_message.Message):
    __slots__ = ("event_id", "event_type")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    event_type: str
    def __init__(self, event_id: _Optional[str] = ..., event_type: _Optional[str] = ...) -> None: ...

class ModelCalled(_message.Message):
    __slots__ = ("response_id", "attempt", "request", "settings_digest", "settings", "parent", "messages", "transcript", "reply", "answered", "started", "finish")
    RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    TRANSCRIPT_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    response_id: str
    attempt: int
    request: str
    settings_digest: str
    settings: _payload_pb2.Payload
    parent: str
    messages: _payload_pb2.Payload
    transcript: str
    reply: _payload_pb2.Payload
    answered: str
    started: _generation_pb2.Started
    finish: _generation_pb2.Finish
    def __init__(self, response_id: _Optional[str] = ..., attempt: _Optional[int] = ..., request: _Optional[str] = ..., settings_digest: _Optional[str] = ..., settings: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., parent: _Optional[str] = ..., messages: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., transcript: _Optional[str] = ..., reply: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., answered: _Optional[str] = ..., started: _Optional[_Union[_generation_pb2.Started, _Mapping]] = ..., finish: _Optional[_Union[_generation_pb2.Finish, _Mapping]] = ...) -> None: ...

class OperationBegan(_message.Message):
    __slots__ = ("operation", "attempt", "call_id", "request", "effect")
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    operation: str
    attempt: int
    call_id: str
    request: str
    effect: _plugin_service_pb2.Effect
    def __init__(self, operation: _Optional[str] = ..., attempt: _Optional[int] = ..., call_id: _Optional[str] = ..., request: _Optional[str] = ..., effect: _Optional[_Union[_plugin_service_pb2.Effect, str]] = ...) -> None: ...

class OperationCalled(_message.Message):
    __slots__ = ("operation", "attempt", "call_id", "request", "effect", "version", "input", "output", "error", "would", "actions", "dry_run", "took")
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    WOULD_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    TOOK_FIELD_NUMBER: _ClassVar[int]
    operation: str
    attempt: int
    call_id: str
    request: str
    effect: _plugin_service_pb2.Effect
    version: str
    input: _payload_pb2.Payload
    output: _payload_pb2.Payload
    error: _status_pb2.Status
    would: _containers.RepeatedScalarFieldContainer[str]
    actions: _containers.RepeatedScalarFieldContainer[str]
    dry_run: bool
    took: _duration_pb2.Duration
    def __init__(self, operation: _Optional[str] = ..., attempt: _Optional[int] = ..., call_id: _Optional[str] = ..., request: _Optional[str] = ..., effect: _Optional[_Union[_plugin_service_pb2.Effect, str]] = ..., version: _Optional[str] = ..., input: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., output: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., would: _Optional[_Iterable[str]] = ..., actions: _Optional[_Iterable[str]] = ..., dry_run: _Optional[bool] = ..., took: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
