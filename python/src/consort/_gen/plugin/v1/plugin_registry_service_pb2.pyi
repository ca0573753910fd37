import datetime

from consort._gen.agent.v1 import worker_service_pb2 as _worker_service_pb2
from consort._gen.blob.v1 import payload_pb2 as _payload_pb2
from consort._gen.plugin.v1 import plugin_service_pb2 as _plugin_service_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PluginState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PLUGIN_STATE_UNSPECIFIED: _ClassVar[PluginState]
    PLUGIN_STATE_STARTING: _ClassVar[PluginState]
    PLUGIN_STATE_RUNNING: _ClassVar[PluginState]
    PLUGIN_STATE_BACKING_OFF: _ClassVar[PluginState]
    PLUGIN_STATE_CRASHING: _ClassVar[PluginState]
    PLUGIN_STATE_REFUSED: _ClassVar[PluginState]
    PLUGIN_STATE_DRAINING: _ClassVar[PluginState]
    PLUGIN_STATE_DISABLED: _ClassVar[PluginState]
PLUGIN_STATE_UNSPECIFIED: PluginState
PLUGIN_STATE_STARTING: PluginState
PLUGIN_STATE_RUNNING: PluginState
PLUGIN_STATE_BACKING_OFF: PluginState
PLUGIN_STATE_CRASHING: PluginState
PLUGIN_STATE_REFUSED: PluginState
PLUGIN_STATE_DRAINING: PluginState
PLUGIN_STATE_DISABLED: PluginState

class Plugin(_message.Message):
    __slots__ = ("name", "description", "version", "state", "state_reason", "operations", "wanted", "granted", "restarts", "calls", "failures", "in_flight", "latency_p50", "latency_p99", "memory_bytes", "pid", "start_time", "source", "language", "digest", "sandbox")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_REASON_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    GRANTED_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P50_FIELD_NUMBER: _ClassVar[int]
    LATENCY_P99_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SANDBOX_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    version: str
    state: PluginState
    state_reason: str
    operations: _containers.RepeatedCompositeFieldContainer[_plugin_service_pb2.Operation]
    wanted: _plugin_service_pb2.Permissions
    granted: _plugin_service_pb2.Permissions
    restarts: int
    calls: int
    failures: int
    in_flight: int
    latency_p50: _duration_pb2.Duration
    latency_p99: _duration_pb2.Duration
    memory_bytes: int
    pid: int
    start_time: _timestamp_pb2.Timestamp
    source: str
    language: str
    digest: str
    sandbox: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., version: _Optional[str] = ..., state: _Optional[_Union[PluginState, str]] = ..., state_reason: _Optional[str] = ..., operations: _Optional[_Iterable[_Union[_plugin_service_pb2.Operation, _Mapping]]] = ..., wanted: _Optional[_Union[_plugin_service_pb2.Permissions, _Mapping]] = ..., granted: _Optional[_Union[_plugin_service_pb2.Permissions, _Mapping]] = ..., restarts: _Optional[int] = ..., calls: _Optional[int] = ..., failures: _Optional[int] = ..., in_flight: _Optional[int] = ..., latency_p50: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., latency_p99: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., memory_bytes: _Optional[int] = ..., pid: _Optional[int] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., source: _Optional[str] = ..., language: _Optional[str] = ..., digest: _Optional[str] = ..., sandbox: _Optional[_Iterable[str]] = ...) -> None: ...

class ListPluginsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPluginsResponse(_message.Message):
    __slots__ = ("plugins", "next_page_token")
    PLUGINS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    plugins: _containers.RepeatedCompositeFieldContainer[Plugin]
    next_page_token: str
    def __init__(self, plugins: _Optional[_Iterable[_Union[Plugin, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetPluginRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class InstallPluginRequest(_message.Message):
    __slots__ = ("folder", "grant", "validate_only", "request_id")
    FOLDER_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    folder: str
    grant: bool
    validate_only: bool
    request_id: str
    def __init__(self, folder: _Optional[str] = ..., grant: _Optional[bool] = ..., validate_only: _Optional[bool] = ..., request_id: _Optional[str] = ...) -> None: ...

class UninstallPluginRequest(_message.Message):
    __slots__ = ("name", "request_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class UninstallPluginResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReloadPluginRequest(_message.Message):
    __slots__ = ("name", "grant", "request_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    grant: bool
    request_id: str
    def __init__(self, name: _Optional[str] = ..., grant: _Optional[bool] = ..., request_id: _Optional[str] = ...) -> None: ...

class InvokeOperationRequest(_message.Message):
    __slots__ = ("operation", "input", "dry_run", "idempotency_key", "task", "parent")
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    operation: str
    input: _payload_pb2.Payload
    dry_run: bool
    idempotency_key: str
    task: _worker_service_pb2.LeaseRef
    parent: str
    def __init__(self, operation: _Optional[str] = ..., input: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., dry_run: _Optional[bool] = ..., idempotency_key: _Optional[str] = ..., task: _Optional[_Union[_worker_service_pb2.LeaseRef, _Mapping]] = ..., parent: _Optional[str] = ...) -> None: ...

class InvokeOperationResponse(_message.Message):
    __slots__ = ("progress", "log", "result")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    progress: _plugin_service_pb2.Progress
    log: _plugin_service_pb2.Log
    result: InvokeOperationOnceResponse
    def __init__(self, progress: _Optional[_Union[_plugin_service_pb2.Progress, _Mapping]] = ..., log: _Optional[_Union[_plugin_service_pb2.Log, _Mapping]] = ..., result: _Optional[_Union[InvokeOperationOnceResponse, _Mapping]] = ...) -> None: ...

class InvokeOperationOnceRequest(_message.Message):
    __slots__ = ("call",)
    CALL_FIELD_NUMBER: _ClassVar[int]
    call: InvokeOperationRequest
    def __init__(self, call: _Optional[_Union[InvokeOperationRequest, _Mapping]] = ...) -> None: ...

class InvokeOperationOnceResponse(_message.Message):
    __slots__ = ("output", "would", "actions", "took")
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    WOULD_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    TOOK_FIELD_NUMBER: _ClassVar[int]
    output: _payload_pb2.Payload
    would: _containers.RepeatedScalarFieldContainer[str]
    actions: _containers.RepeatedScalarFieldContainer[str]
    took: _duration_pb2.Duration
    def __init__(self, output: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., would: _Optional[_Iterable[str]] = ..., actions: _Optional[_Iterable[str]] = ..., took: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ListPluginActionsRequest(_message.Message):
    __slots__ = ("plugin", "page_size", "page_token")
    PLUGIN_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    plugin: str
    page_size: int
    page_token: str
    def __init__(self, plugin: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListPluginActionsResponse(_message.Message):
    __slots__ = ("actions", "next_page_token")
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    actions: _containers.RepeatedCompositeFieldContainer[PluginAction]
    next_page_token: str
    def __init__(self, actions: _Optional[_Iterable[_Union[PluginAction, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class PluginAction(_message.Message):
    __slots__ = ("time", "operation", "call_id", "origin", "code", "took", "actions", "dry_run")
    TIME_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    TOOK_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    operation: str
    call_id: str
    origin: _plugin_service_pb2.Origin
    code: str
    took: _duration_pb2.Duration
    actions: _containers.RepeatedScalarFieldContainer[str]
    dry_run: bool
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., operation: _Optional[str] = ..., call_id: _Optional[str] = ..., origin: _Optional[_Union[_plugin_service_pb2.Origin, _Mapping]] = ..., code: _Optional[str] = ..., took: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., actions: _Optional[_Iterable[str]] = ..., dry_run: _Optional[bool] = ...) -> None: ...
