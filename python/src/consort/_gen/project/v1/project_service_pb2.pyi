import datetime

from consort._gen.blob.v1 import payload_pb2 as _payload_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProjectState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROJECT_STATE_UNSPECIFIED: _ClassVar[ProjectState]
    PROJECT_STATE_ACTIVE: _ClassVar[ProjectState]
    PROJECT_STATE_COMPLETED: _ClassVar[ProjectState]
    PROJECT_STATE_STOPPED: _ClassVar[ProjectState]

class ProjectHealth(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROJECT_HEALTH_UNSPECIFIED: _ClassVar[ProjectHealth]
    PROJECT_HEALTH_HEALTHY: _ClassVar[ProjectHealth]
    PROJECT_HEALTH_AT_RISK: _ClassVar[ProjectHealth]
    PROJECT_HEALTH_FAILING: _ClassVar[ProjectHealth]
PROJECT_STATE_UNSPECIFIED: ProjectState
PROJECT_STATE_ACTIVE: ProjectState
PROJECT_STATE_COMPLETED: ProjectState
PROJECT_STATE_STOPPED: ProjectState
PROJECT_HEALTH_UNSPECIFIED: ProjectHealth
PROJECT_HEALTH_HEALTHY: ProjectHealth
PROJECT_HEALTH_AT_RISK: ProjectHealth
PROJECT_HEALTH_FAILING: ProjectHealth

class Project(_message.Message):
    __slots__ = ("name", "uid", "title", "request", "state", "create_time", "created_by", "close_time", "reason", "labels", "figures")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    CLOSE_TIME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    FIGURES_FIELD_NUMBER: _ClassVar[int]
    name: str
    uid: str
    title: str
    request: _payload_pb2.Payload
    state: ProjectState
    create_time: _timestamp_pb2.Timestamp
    created_by: str
    close_time: _timestamp_pb2.Timestamp
    reason: str
    labels: _containers.ScalarMap[str, str]
    figures: ProjectFigures
    def __init__(self, name: _Optional[str] = ..., uid: _Optional[str] = ..., title: _Optional[str] = ..., request: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., state: _Optional[_Union[ProjectState, str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., created_by: _Optional[str] = ..., close_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., figures: _Optional[_Union[ProjectFigures, _Mapping]] = ...) -> None: ...

class ProjectFigures(_message.Message):
    __slots__ = ("runs_active", "runs_waiting", "runs_succeeded", "runs_failed", "runs_cancelled", "decisions_open", "oldest_decision_time", "signals_open", "progress", "health", "health_reason")
    RUNS_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    RUNS_WAITING_FIELD_NUMBER: _ClassVar[int]
    RUNS_SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    RUNS_FAILED_FIELD_NUMBER: _ClassVar[int]
    RUNS_CANCELLED_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_OPEN_FIELD_NUMBER: _ClassVar[int]
    OLDEST_DECISION_TIME_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_OPEN_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    HEALTH_REASON_FIELD_NUMBER: _ClassVar[int]
    runs_active: int
    runs_waiting: int
    runs_succeeded: int
    runs_failed: int
    runs_cancelled: int
    decisions_open: int
    oldest_decision_time: _timestamp_pb2.Timestamp
    signals_open: int
    progress: float
    health: ProjectHealth
    health_reason: str
    def __init__(self, runs_active: _Optional[int] = ..., runs_waiting: _Optional[int] = ..., runs_succeeded: _Optional[int] = ..., runs_failed: _Optional[int] = ..., runs_cancelled: _Optional[int] = ..., decisions_open: _Optional[int] = ..., oldest_decision_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., signals_open: _Optional[int] = ..., progress: _Optional[float] = ..., health: _Optional[_Union[ProjectHealth, str]] = ..., health_reason: _Optional[str] = ...) -> None: ...

class CreateProjectRequest(_message.Message):
    __slots__ = ("parent", "project_id", "title", "request", "labels", "created_by", "request_id")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    parent: str
    project_id: str
    title: str
    request: _payload_pb2.Payload
    labels: _containers.ScalarMap[str, str]
    created_by: str
    request_id: str
    def __init__(self, parent: _Optional[str] = ..., project_id: _Optional[str] = ..., title: _Optional[str] = ..., request: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., created_by: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class GetProjectRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListProjectsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token", "state")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    state: ProjectState
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., state: _Optional[_Union[ProjectState, str]] = ...) -> None: ...

class ListProjectsResponse(_message.Message):
    __slots__ = ("projects", "next_page_token")
    PROJECTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    projects: _containers.RepeatedCompositeFieldContainer[Project]
    next_page_token: str
    def __init__(self, projects: _Optional[_Iterable[_Union[Project, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CompleteProjectRequest(_message.Message):
    __slots__ = ("name", "request_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    request_id: str
    def __init__(self, name: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class StopProjectRequest(_message.Message):
    __slots__ = ("name", "reason", "request_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    reason: str
    request_id: str
    def __init__(self, name: _Optional[str] = ..., reason: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...
