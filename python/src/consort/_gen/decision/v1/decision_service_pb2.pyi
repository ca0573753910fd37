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

class DecisionKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DECISION_KIND_UNSPECIFIED: _ClassVar[DecisionKind]
    DECISION_KIND_CHOICE: _ClassVar[DecisionKind]
    DECISION_KIND_CLARIFICATION: _ClassVar[DecisionKind]

class DecisionState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DECISION_STATE_UNSPECIFIED: _ClassVar[DecisionState]
    DECISION_STATE_OPEN: _ClassVar[DecisionState]
    DECISION_STATE_ANSWERED: _ClassVar[DecisionState]
    DECISION_STATE_EXPIRED: _ClassVar[DecisionState]
    DECISION_STATE_CANCELLED: _ClassVar[DecisionState]
DECISION_KIND_UNSPECIFIED: DecisionKind
DECISION_KIND_CHOICE: DecisionKind
DECISION_KIND_CLARIFICATION: DecisionKind
DECISION_STATE_UNSPECIFIED: DecisionState
DECISION_STATE_OPEN: DecisionState
DECISION_STATE_ANSWERED: DecisionState
DECISION_STATE_EXPIRED: DecisionState
DECISION_STATE_CANCELLED: DecisionState

class Decision(_message.Message):
    __slots__ = ("name", "run", "step", "title", "description", "options", "form", "default_option", "deadline", "state", "create_time", "option", "answer", "answered_by", "close_time", "kind", "project")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    FORM_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_OPTION_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    OPTION_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_BY_FIELD_NUMBER: _ClassVar[int]
    CLOSE_TIME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    name: str
    run: str
    step: str
    title: str
    description: str
    options: _containers.RepeatedScalarFieldContainer[str]
    form: _payload_pb2.Payload
    default_option: str
    deadline: _timestamp_pb2.Timestamp
    state: DecisionState
    create_time: _timestamp_pb2.Timestamp
    option: str
    answer: _payload_pb2.Payload
    answered_by: str
    close_time: _timestamp_pb2.Timestamp
    kind: DecisionKind
    project: str
    def __init__(self, name: _Optional[str] = ..., run: _Optional[str] = ..., step: _Optional[str] = ..., title: _Optional[str] = ..., description: _Optional[str] = ..., options: _Optional[_Iterable[str]] = ..., form: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., default_option: _Optional[str] = ..., deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., state: _Optional[_Union[DecisionState, str]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., option: _Optional[str] = ..., answer: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., answered_by: _Optional[str] = ..., close_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., kind: _Optional[_Union[DecisionKind, str]] = ..., project: _Optional[str] = ...) -> None: ...

class ListDecisionsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token", "state", "run", "kind", "project")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    state: DecisionState
    run: str
    kind: DecisionKind
    project: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., state: _Optional[_Union[DecisionState, str]] = ..., run: _Optional[str] = ..., kind: _Optional[_Union[DecisionKind, str]] = ..., project: _Optional[str] = ...) -> None: ...

class ListDecisionsResponse(_message.Message):
    __slots__ = ("decisions", "next_page_token")
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    decisions: _containers.RepeatedCompositeFieldContainer[Decision]
    next_page_token: str
    def __init__(self, decisions: _Optional[_Iterable[_Union[Decision, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetDecisionRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class WatchDecisionsRequest(_message.Message):
    __slots__ = ("parent", "run")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    run: str
    def __init__(self, parent: _Optional[str] = ..., run: _Optional[str] = ...) -> None: ...

class WatchDecisionsResponse(_message.Message):
    __slots__ = ("decision",)
    DECISION_FIELD_NUMBER: _ClassVar[int]
    decision: Decision
    def __init__(self, decision: _Optional[_Union[Decision, _Mapping]] = ...) -> None: ...

class AnswerDecisionRequest(_message.Message):
    __slots__ = ("name", "option", "form", "answered_by", "request_id")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OPTION_FIELD_NUMBER: _ClassVar[int]
    FORM_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_BY_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    name: str
    option: str
    form: _payload_pb2.Payload
    answered_by: str
    request_id: str
    def __init__(self, name: _Optional[str] = ..., option: _Optional[str] = ..., form: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., answered_by: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...
