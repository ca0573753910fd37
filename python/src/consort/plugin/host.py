"""What a plugin may ask of the mesh."""

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import IO, Any

import grpc

from consort._gen.blob.v1.blob_service_pb2 import DownloadRequest
from consort._gen.blob.v1.blob_service_pb2_grpc import BlobServiceStub
from consort._gen.blob.v1.payload_pb2 import Payload
from consort._gen.plugin.v1 import plugin_host_service_pb2 as pb
from consort._gen.plugin.v1.plugin_host_service_pb2_grpc import PluginHostServiceStub
from consort._values import Blobs
from consort.errors import from_rpc
from consort.plugin._writing import encode
from consort.plugin.errors import PluginError

_TIMEOUT = 10.0
# A socket's path is no authority to every server.
_OPTIONS = [("grpc.max_receive_message_length", 16 * 1024 * 1024), ("grpc.default_authority", "mesh")]


class Host:
    """The mesh, as far as the operator granted it.

    Await its methods in async functions; call them without `await` in plain ones. RpcError says why a call failed:
    PERMISSION_DENIED names the line of the manifest that would ask for it.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def get_secret(self, name: str) -> Any:
        """The secret's value, a text. It is read anew each time, and neither side logs it."""
        return self._later(self._secret(name))

    def get_state(self, key: str) -> Any:
        """The bytes that the plugin kept under a key, None if there are none. They survive restarts."""
        return self._later(self._kept(key))

    def put_state(self, key: str, value: bytes) -> Any:
        """Keeps at most 1 MiB under a key of 1 to 255 bytes; on disk when it returns. Nothing (`b""`) forgets it."""
        return self._later(self._keep(key, value))

    def publish_event(self, event: str, data: Any = None) -> Any:
        """Publishes `PLUGIN.{ID}.{EVENT}` with data that JSON can say, and returns the event's id."""
        return self._later(self._publish(event, encode(data)))

    def read_blob(self, sha256: str, file: IO[bytes], *, timeout: float = 300.0) -> Any:
        """Writes the bytes of a blob of the mesh into a file, in pieces, and returns how many there are.

        ValueError if they are others than the name says.
        """
        return self._later(self._blob(sha256, file, timeout), timeout)

    @property
    def channel(self) -> grpc.aio.Channel:
        """A channel to the mesh that shows the plugin's token, for its other services such as InferenceService."""
        raise _absent()

    async def fetch(self, payload: Payload) -> Any:
        """The value of an input that came as a blob."""
        raise _absent()

    async def close(self) -> None:
        """Hangs up."""

    async def _secret(self, name: str) -> str:
        raise _absent()

    async def _kept(self, key: str) -> bytes | None:
        raise _absent()

    async def _keep(self, key: str, value: bytes) -> None:
        raise _absent()

    async def _publish(self, event: str, data: str) -> str:
        raise _absent()

    async def _blob(self, sha256: str, file: IO[bytes], timeout: float) -> int:
        digest, size = hashlib.sha256(), 0
        async for chunk in self._pieces(sha256, timeout):
            digest.update(chunk)
            size += file.write(chunk)
        if digest.hexdigest() != sha256:
            raise ValueError(f"blob {sha256} arrived with other bytes than its name says")
        return size

    def _pieces(self, sha256: str, timeout: float) -> AsyncIterator[bytes]:
        raise _absent()

    def _later(self, work: Coroutine[Any, Any, Any], timeout: float = _TIMEOUT) -> Any:
        if threading.get_ident() == self._thread:
            return work
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout + 1)


def _absent() -> PluginError:
    return PluginError("FAILED_PRECONDITION", "this process was not told where the mesh is", reason="NO_HOST")


class RemoteHost(Host):
    """The mesh at the other end of a socket. It dials at the first call."""

    def __init__(self, socket: str, token: str) -> None:
        super().__init__()
        self._socket = socket
        self._token = token
        self._dialled: grpc.aio.Channel | None = None

    @property
    def channel(self) -> grpc.aio.Channel:
        """A channel to the mesh that shows the plugin's token."""
        if self._dialled is None:
            shows: Any = [kind(self._token) for kind in (_UnaryUnary, _UnaryStream, _StreamUnary, _StreamStream)]
            self._dialled = grpc.aio.insecure_channel(f"unix:{self._socket}", options=_OPTIONS, interceptors=shows)
        return self._dialled

    async def fetch(self, payload: Payload) -> Any:
        """The value of an input that came as a blob."""
        try:
            return await _HostBlobs(self).value(payload)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None
        except ValueError as error:
            raise PluginError("INVALID_ARGUMENT", f"the input's blob: {error}", field="input") from None

    async def close(self) -> None:
        """Hangs up."""
        if self._dialled is not None:
            await self._dialled.close(None)
            self._dialled = None

    async def _secret(self, name: str) -> str:
        answer = await self._ask("GetSecret", pb.GetSecretRequest(name=name))
        return str(answer.value)

    async def _kept(self, key: str) -> bytes | None:
        try:
            answer = await self._stub().GetState(pb.GetStateRequest(key=key), timeout=_TIMEOUT, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise from_rpc(error) from None
        return bytes(answer.value)

    async def _keep(self, key: str, value: bytes) -> None:
        await self._ask("PutState", pb.PutStateRequest(key=key, value=value))

    async def _publish(self, event: str, data: str) -> str:
        answer = await self._ask("PublishEvent", pb.PublishEventRequest(event=event, data=Payload(json=data)))
        return str(answer.event_id)

    async def _pieces(self, sha256: str, timeout: float) -> AsyncIterator[bytes]:
        stub: Any = BlobServiceStub(self.channel)
        try:
            async for part in stub.Download(DownloadRequest(name=f"blobs/{sha256}"), timeout=timeout):
                yield part.chunk
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None

    async def _ask(self, method: str, request: Any) -> Any:
        try:
            return await getattr(self._stub(), method)(request, timeout=_TIMEOUT, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None

    def _stub(self) -> Any:
        return PluginHostServiceStub(self.channel)


class _HostBlobs(Blobs):
    """Blobs by way of the plugin's socket."""

    def __init__(self, host: RemoteHost) -> None:
        super().__init__("")
        self._channel = host.channel


class _Shows:
    """Adds the token to what a call says about itself."""

    def __init__(self, token: str) -> None:
        self._header = ("authorization", f"Bearer {token}")

    async def _shown(
        self, go_on: Callable[[grpc.aio.ClientCallDetails, Any], Awaitable[Any]], details: Any, request: Any
    ) -> Any:
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        metadata.add(*self._header)
        return await go_on(details._replace(metadata=metadata), request)


class _UnaryUnary(_Shows, grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._shown(continuation, client_call_details, request)


class _UnaryStream(_Shows, grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[type-arg]
    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await self._shown(continuation, client_call_details, request)


class _StreamUnary(_Shows, grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[type-arg]
    async def intercept_stream_unary(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._shown(continuation, client_call_details, request_iterator)


class _StreamStream(_Shows, grpc.aio.StreamStreamClientInterceptor):  # type: ignore[type-arg]
    async def intercept_stream_stream(self, continuation: Any, client_call_details: Any, request_iterator: Any) -> Any:
        return await self._shown(continuation, client_call_details, request_iterator)
