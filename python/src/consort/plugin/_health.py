"""grpc.health.v1, which the mesh asks whether the plugin takes calls.

Its two messages have one field each, so they are read and written here, and no package is needed.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

_SERVICES = {b"", b"consort.plugin.v1.PluginService"}
# HealthCheckResponse: field 1, a varint; SERVING is 1, NOT_SERVING 2, SERVICE_UNKNOWN 3.
_SERVING, _NOT_SERVING, _UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"
_WATCHERS = 16


class Health:
    """Says SERVING until `leave`, but for as long as the process is stuck."""

    def __init__(self, is_stuck: Callable[[], bool]) -> None:
        self._is_stuck = is_stuck
        self._left = asyncio.Event()
        self._watchers = 0

    def leave(self) -> None:
        """From here on it says NOT_SERVING."""
        self._left.set()

    def handler(self) -> "grpc.GenericRpcHandler[Any, Any]":
        """What answers the service's calls."""
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch),
        }
        return grpc.method_handlers_generic_handler("grpc.health.v1.Health", methods)

    async def _check(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        if _service_in(request) not in _SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return self._status()

    async def _watch(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
        if self._watchers >= _WATCHERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_WATCHERS} watch already")
        self._watchers += 1
        try:
            is_known = _service_in(request) in _SERVICES
            yield self._status() if is_known else _UNKNOWN
            await self._left.wait()
            if is_known:
                yield self._status()
            await asyncio.Event().wait()  # Until the watcher goes.
        finally:
            self._watchers -= 1

    def _status(self) -> bytes:
        return _NOT_SERVING if self._left.is_set() or self._is_stuck() else _SERVING


def _service_in(request: bytes) -> bytes:
    """HealthCheckRequest: field 1, text of less than 128 bytes; a longer one is no service of ours."""
    return request[2:] if len(request) > 1 and request[1] == len(request) - 2 else request
