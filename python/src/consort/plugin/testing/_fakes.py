"""A mesh that keeps everything in memory, for plugins under test."""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import grpc

from consort._gen.blob.v1 import blob_service_pb2_grpc
from consort._gen.blob.v1.blob_service_pb2 import DownloadRequest, DownloadResponse
from consort._gen.plugin.v1 import plugin_host_service_pb2 as pb
from consort._gen.plugin.v1 import plugin_host_service_pb2_grpc, plugin_service_pb2
from consort.errors import RpcError
from consort.plugin.host import Host


class FakeHost(Host):
    """The mesh as functions under test see it. `state` and `events` are what they left there, `blobs` what it has."""

    def __init__(
        self,
        secrets: Mapping[str, str] | None = None,
        state: Mapping[str, bytes] | None = None,
        blobs: Sequence[bytes] = (),
    ) -> None:
        super().__init__()
        self.blobs = {hashlib.sha256(blob).hexdigest(): blob for blob in blobs}
        self.secrets = dict(secrets or {})
        self.state = dict(state or {})
        self.events: list[tuple[str, Any]] = []

    async def _secret(self, name: str) -> str:
        if name not in self.secrets:
            problem = f'the secret is not granted; its manifest would say `secrets = ["{name}"]`'
            raise RpcError(grpc.StatusCode.PERMISSION_DENIED, problem, "NOT_GRANTED", {})
        return self.secrets[name]

    async def _kept(self, key: str) -> bytes | None:
        return self.state.get(key)

    async def _keep(self, key: str, value: bytes) -> None:
        if value:
            self.state[key] = value
        else:
            self.state.pop(key, None)

    async def _publish(self, event: str, data: str) -> str:
        self.events.append((event, json.loads(data)))
        return f"event-{len(self.events)}"

    async def _pieces(self, sha256: str, timeout: float) -> AsyncIterator[bytes]:
        if sha256 not in self.blobs:
            raise RpcError(grpc.StatusCode.NOT_FOUND, f"no blob {sha256}", "", {})
        yield self.blobs[sha256]


class FakeMesh(plugin_host_service_pb2_grpc.PluginHostServiceServicer, blob_service_pb2_grpc.BlobServiceServicer):
    """The mesh as a process under test sees it, which holds it to its token and its permissions."""

    def __init__(self, token: str, permissions: plugin_service_pb2.Permissions, secrets: Mapping[str, str]) -> None:
        self.state: dict[str, bytes] = {}
        self.events: list[tuple[str, Any]] = []
        self.blobs: dict[str, bytes] = {}
        self._token = token
        self._permissions = permissions
        self._secrets = dict(secrets)

    async def GetSecret(self, request: pb.GetSecretRequest, context: Any) -> pb.GetSecretResponse:  # noqa: N802
        """A secret that is granted by name."""
        await self._admit(context)
        if request.name not in self._permissions.secrets or request.name not in self._secrets:
            await self._deny(context, f'secrets = ["{request.name}"]')
        return pb.GetSecretResponse(value=self._secrets[request.name])

    async def GetState(self, request: pb.GetStateRequest, context: Any) -> pb.GetStateResponse:  # noqa: N802
        """What was kept."""
        await self._admit(context, "state")
        if request.key not in self.state:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"nothing is kept under '{request.key}'")
        return pb.GetStateResponse(value=self.state[request.key])

    async def PutState(self, request: pb.PutStateRequest, context: Any) -> pb.PutStateResponse:  # noqa: N802
        """Keeps a value."""
        await self._admit(context, "state")
        if request.value:
            self.state[request.key] = request.value
        else:
            self.state.pop(request.key, None)
        return pb.PutStateResponse()

    async def PublishEvent(self, request: pb.PublishEventRequest, context: Any) -> pb.PublishEventResponse:  # noqa: N802
        """Takes an event."""
        await self._admit(context, "events")
        self.events.append((request.event, json.loads(request.data.json)))
        return pb.PublishEventResponse(event_id=f"event-{len(self.events)}")

    async def Download(self, request: DownloadRequest, context: Any) -> AsyncIterator[DownloadResponse]:  # noqa: N802
        """Hands out a blob, 64 KiB a message."""
        await self._admit(context, "blobs")
        data = self.blobs.get(request.name.removeprefix("blobs/"))
        if data is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no {request.name}")
            return
        for start in range(request.offset, len(data), 65_536):
            yield DownloadResponse(chunk=data[start : start + 65_536])

    async def _admit(self, context: Any, service: str = "") -> None:
        shown = dict(context.invocation_metadata()).get("authorization", "")
        if shown != f"Bearer {self._token}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "show CONSORT_PLUGIN_TOKEN")
        if service and service not in self._permissions.mesh:
            await self._deny(context, f'mesh = ["{service}"]')

    async def _deny(self, context: Any, line: str) -> None:
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"not granted; the manifest would say `{line}`")
