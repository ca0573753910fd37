"""PluginService over gRPC: converts, calls and converts."""

import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import grpc
from google.protobuf.json_format import MessageToDict

from consort._gen.plugin.v1 import plugin_service_pb2 as pb
from consort._gen.plugin.v1 import plugin_service_pb2_grpc
from consort.plugin._desk import Desk
from consort.plugin._health import Health
from consort.plugin.errors import PluginError, failure_of

log = logging.getLogger("consort.plugin")

# What is left of Drain's deadline for its answer.
_MARGIN = 0.5
_FOREVER = 366 * 86_400


class Service(plugin_service_pb2_grpc.PluginServiceServicer):
    """What the mesh calls."""

    def __init__(self, hello: pb.HelloResponse, desk: Desk, health: Health) -> None:
        self._hello = hello
        self._desk = desk
        self._health = health

    async def Hello(self, request: pb.HelloRequest, context: Any) -> pb.HelloResponse:  # noqa: N802
        """Says who the plugin is."""
        return self._hello

    async def Configure(self, request: pb.ConfigureRequest, context: Any) -> pb.ConfigureResponse:  # noqa: N802
        """Takes the configuration."""
        try:
            await self._desk.configure(_plain(MessageToDict(request.config)), request.permissions)
        except Exception as error:
            await _abort(context, error, "Configure")
        return pb.ConfigureResponse()

    async def Invoke(  # noqa: N802
        self, request: pb.InvokeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.InvokeResponse]:
        """Does an operation."""
        left = context.time_remaining()
        deadline = None
        if left is not None and left < _FOREVER:
            deadline = datetime.now(UTC) + timedelta(seconds=left)
        try:
            work = await self._desk.begin(request, deadline)
            async with contextlib.aclosing(work.messages()) as messages:
                async for message in messages:
                    yield message
        except Exception as error:
            await _abort(context, error, f"{request.operation} ({request.call_id})")

    async def Drain(self, request: pb.DrainRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.DrainResponse:  # noqa: N802
        """Takes nothing new, and answers when nothing is in work."""
        self._health.leave()
        grace = request.grace.ToTimedelta().total_seconds()
        left = context.time_remaining()
        if left is not None:
            grace = min(grace, max(0.0, left - _MARGIN))
        return pb.DrainResponse(cancelled=await self._desk.drain(grace))


async def _abort(context: Any, error: Exception, what: str) -> NoReturn:
    failure = failure_of(error)
    if not isinstance(error, PluginError):
        log.error("%s failed", what, exc_info=error)
    status = failure.to_status()
    trailing = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(failure.code, status.message, trailing_metadata=trailing)
    raise AssertionError("abort always raises")


def _plain(value: Any) -> Any:
    """A struct's numbers are doubles: those that are whole become int."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
