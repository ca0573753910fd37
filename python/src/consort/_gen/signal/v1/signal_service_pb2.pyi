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

class Urgency(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    URGENCY_UNSPECIFIED: _ClassVar[Urgency]
    URGENCY_LOW: _ClassVar[Urgency]
    URGENCY_NORMAL: _ClassVar[Urgency]
    URGENCY_HIGH: _ClassVar[Urgency]
    URGENCY_CRITICAL: _ClassVar[Urgency]

class Impact(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMPACT_UNSPECIFIED: _ClassVar[Impact]
    IMPACT_LOW: _ClassVar[Impact]
    IMPACT_MEDIUM: _ClassVar[Impact]
    IMPACT_HIGH: _ClassVar[Impact]

class Route(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROUTE_UNSPECIFIED: _ClassVar[Route]
    ROUTE_WORKFLOW: _ClassVar[Route]
    ROUTE_AGENT: _ClassVar[Route]
    ROUTE_PERSON: _ClassVar[Route]

class SignalState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SIGNAL_STATE_UNSPECIFIED: _ClassVar[SignalState]
    SIGNAL_STATE_OPEN: _ClassVar[SignalState]
    SIGNAL_STATE_CLOSED: _ClassVar[SignalState]
URGENCY_UNSPECIFIED: Urgency
URGENCY_LOW: Urgency
URGENCY_NORMAL: Urgency
URGENCY_HIGH: Urgency
URGENCY_CRITICAL: Urgency
IMPACT_UNSPECIFIED: Impact
IMPACT_LOW: Impact
IMPACT_MEDIUM: Impact
IMPACT_HIGH: Impact
ROUTE_UNSPECIFIED: Route
ROUTE_WORKFLOW: Route
ROUTE_AGENT: Route
ROUTE_PERSON: Route
SIGNAL_STATE_UNSPECIFIED: SignalState
SIGNAL_STATE_OPEN: SignalState
SIGNAL_STATE_CLOSED: SignalState

class Signal(_message.Message):
    __slots__ = ("name", "type", "urgency", "impact", "title", "description", "payload", "source", "project", "route", "runs", "state", "create_time", "agent")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    URGENCY_FIELD_NUMBER: _ClassVar[int]
    IMPACT_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    urgency: Urgency
    impact: Impact
    title: str
    description: str
    payload: _payload_pb2.Payload
    source: str
    project: str
    route: Route
    runs: _containers.RepeatedScalarFieldContainer[str]
    state: SignalState
    create_time: _timestamp_pb2.Timestamp
    agent: str
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., urgency: _Optional[_Union[Urgency, str]] = ..., impact: _Optional[_Union[Impact, str]] = ..., title: _Optional[str] = ..., description: _Optional[str] = ..., payload: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., source: _Optional[str] = ..., project: _Optional[str] = ..., route: _Optional[_Union[Route, str]] = ..., runs: _Optional[_Iterable[str]] = ..., state: _Optional[_Union[SignalState, str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., agent: _Optional[str] = ...) -> None: ...

class RaiseSignalRequest(_message.Message):
    __slots__ = ("parent", "type", "urgency", "impact", "title", "description", "payload", "source", "project", "agent", "request_id")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    URGENCY_FIELD_NUMBER: _ClassVar[int]
    IMPACT_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    parent: str
    type: str
    urgency: Urgency
    impact: Impact
    title: str
    description: str
    payload: _payload_pb2.Payload
    source: str
    project: str
    agent: str
    request_id: str
    def __init__(self, parent: _Optional[str] = ..., type: _Optional[str] = ..., urgency: _Optional[_Union[Urgency, str]] = ..., impact: _Optional[_Union[Impact, str]] = ..., title: _Optional[str] = ..., description: _Optional[str] = ..., payload: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., source: _Optional[str] = ..., project: _Optional[str] = ..., agent: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class GetSignalRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListSignalsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token", "type", "project")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    type: str
    project: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., type: _Optional[str] = ..., project: _Optional[str] = ...) -> None: ...

class ListSignalsResponse(_message.Message):
    __slots__ = ("signals", "next_page_token")
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    signals: _containers.RepeatedCompositeFieldContainer[Signal]
    next_page_token: str
    def __init__(self, signals: _Optional[_Iterable[_Union[Signal, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
