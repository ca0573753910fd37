"""How an operation fails."""

import traceback
from collections.abc import Mapping, Sequence

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, DebugInfo, ErrorInfo
from google.rpc.status_pb2 import Status

from consort.errors import DOMAIN, ConsortError, RpcError, cut, status_code
from consort.plugin._reading import Problem

# A failure travels in trailers, of which receivers take 8 KiB in all. Text is percent-encoded there, details base64.
_MESSAGE = 1024
_DETAILS = 3 * 1024
_VIOLATION = 200


class PluginError(ConsortError):
    """How an operation says that it failed.

    `code` is a gRPC status code, by name ("NOT_FOUND"), by number or as grpc.StatusCode; OK is no error and raises
    ValueError. `field` names the member of the input that is to blame, `reason` is a word for machines in capitals,
    `details` is a mapping of strings, which goes with the reason, or messages that are sent as they are. `violations`
    has what is wrong by field. A message of more than 1 KiB is cut; details beyond 3 KiB are left out.
    """

    def __init__(
        self,
        code: grpc.StatusCode | str | int,
        message: str,
        *,
        field: str = "",
        reason: str = "",
        details: Mapping[str, str] | Sequence[Message] = (),
        violations: Mapping[str, str] | None = None,
    ) -> None:
        self.code = status_code(code)
        if self.code is grpc.StatusCode.OK:
            raise ValueError("code: OK is no error; return a value instead of raising PluginError")
        self.message = message
        self.reason = reason
        self.violations = dict(violations or {})
        if field:
            self.violations[field] = message
        self.details: list[Message] = []
        if reason or (isinstance(details, Mapping) and details):
            metadata = details if isinstance(details, Mapping) else {}
            self.details.append(ErrorInfo(reason=reason or self.code.name, domain=DOMAIN, metadata=metadata))
        if not isinstance(details, Mapping):
            self.details.extend(details)
        super().__init__(f"{self.code.name}: {message}")

    def to_status(self) -> Status:
        """The error as google.rpc.Status, small enough to travel."""
        status = Status(code=self.code.value[0], message=cut(self.message, _MESSAGE))
        for detail in [*self.details, *self._bad_request()]:
            holder = AnyMessage()
            holder.Pack(detail)
            if status.ByteSize() + holder.ByteSize() <= _MESSAGE + _DETAILS:
                status.details.append(holder)
        return status

    def _bad_request(self) -> list[Message]:
        request = BadRequest()
        for field, text in self.violations.items():
            request.field_violations.add(field=cut(field, _VIOLATION), description=cut(text, _VIOLATION))
            if request.ByteSize() > _DETAILS // 2:
                break
        return [request] if self.violations else []


def misfits(problems: Sequence[Problem], what: str) -> PluginError:
    """INVALID_ARGUMENT that names every field of `what` (input, configuration) that does not fit."""
    violations = {problem.path or what: problem.text for problem in problems}
    listed = "; ".join(f"{path} {text}" for path, text in violations.items())
    return PluginError("INVALID_ARGUMENT", listed, reason=f"{what.upper()}_INVALID", violations=violations)


def failure_of(error: BaseException) -> PluginError:
    """The failure that an exception is: itself, that of a call to the mesh, or INTERNAL with its traceback."""
    if isinstance(error, PluginError):
        return error
    if isinstance(error, RpcError):
        return PluginError(error.code, error.message, reason=error.reason, violations=error.violations)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    entries: list[str] = []
    room = _DETAILS - _MESSAGE
    # What raised it comes last in a traceback, and is what one wants to see.
    for frame in reversed(traceback.format_exception(error)):
        entry = cut(frame.rstrip(), _MESSAGE)
        room -= len(entry.encode())
        if room < 0:
            break
        entries.insert(0, entry)
    debug = DebugInfo(stack_entries=entries, detail=cut(text, _VIOLATION))
    failure = PluginError("INTERNAL", text, details=[debug])
    failure.__cause__ = error
    return failure
