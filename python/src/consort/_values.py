"""JSON values, and the payloads and blobs they travel in."""

import asyncio
import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import struct_pb2

from consort._gen.blob.v1.blob_service_pb2 import DownloadRequest, UploadRequest
from consort._gen.blob.v1.blob_service_pb2_grpc import BlobServiceStub
from consort._gen.blob.v1.payload_pb2 import BlobRef, Payload
from consort._net import connect, pauses

INLINE_LIMIT = 64 * 1024
BLOB_LIMIT = 256 * 1024 * 1024
_CHUNK = 256 * 1024
_ATTEMPTS = 6
_TRANSFERS_AT_ONCE = 4
_TRANSFER_TIMEOUT = 120.0
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED)


def encode(value: Any) -> str:
    """The value as JSON text. Dataclasses become objects.

    Raises TypeError for what JSON cannot say, ValueError for NaN, infinities, cycles and broken text.
    """
    if value is None:
        return "null"
    text = _ENCODER.encode(value)
    if not text.isascii():
        text.encode("utf-8")  # Raises UnicodeEncodeError, a ValueError, for half a surrogate pair.
    return text


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no JSON form; return dicts, lists, strings, numbers or dataclasses")


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)


def decode_inline(payload: Payload) -> Any:
    """The value of a payload that is not a blob. ValueError if its text is no JSON."""
    kind = payload.WhichOneof("kind")
    if kind == "json":
        return json.loads(payload.json)
    if kind == "value":
        return _from_struct(payload.value)
    return None


def _from_struct(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {key: _from_struct(item) for key, item in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_from_struct(item) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and abs(number) < 2**53 else number
    if kind == "string_value":
        return value.string_value
    return value.bool_value if kind == "bool_value" else None


class Blobs:
    """Turns values into payloads and back, by way of the blob store when they are large.

    It dials the mesh at the first large value. At most four transfers run at once; each is tried again for as long as
    the mesh is merely unavailable, six times at most. Errors are grpc.aio.AioRpcError.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel: grpc.aio.Channel | None = None
        self._turns = asyncio.Semaphore(_TRANSFERS_AT_ONCE)

    async def payload(self, text: str) -> Payload:
        """A payload of JSON text: inline up to 64 KiB, else uploaded and sent as a reference."""
        if len(text) * 4 <= INLINE_LIMIT:
            return Payload(json=text)  # No character takes more than four bytes.
        data = text.encode()
        return Payload(json=text) if len(data) <= INLINE_LIMIT else Payload(blob=await self.put(data))

    async def value(self, payload: Payload) -> Any:
        """The value of any payload. ValueError if it is no JSON, is larger than 256 MiB or does not match its name."""
        if payload.WhichOneof("kind") != "blob":
            return decode_inline(payload)
        return json.loads(await self.get(payload.blob))

    async def put(self, data: bytes) -> BlobRef:
        """Stores bytes of JSON text and returns their name."""
        digest = hashlib.sha256(data).hexdigest()

        async def parts() -> AsyncIterator[UploadRequest]:
            yield UploadRequest(chunk=data[:_CHUNK], media_type="application/json", sha256=digest)
            for start in range(_CHUNK, len(data), _CHUNK):
                yield UploadRequest(chunk=data[start : start + _CHUNK])

        async with self._turns:
            for attempt, pause in enumerate(pauses(0.1, 5.0), start=1):
                try:
                    answer = await self._stub().Upload(parts(), timeout=_TRANSFER_TIMEOUT, wait_for_ready=True)
                except grpc.aio.AioRpcError as error:
                    if error.code() not in _PASSING or attempt == _ATTEMPTS:
                        raise
                    await asyncio.sleep(pause)
                else:
                    blob: BlobRef = answer.blob
                    return blob
        raise AssertionError("the pauses never end")

    async def get(self, blob: BlobRef) -> bytes:
        """The bytes of a blob, checked against its name; a broken download goes on where it broke."""
        if blob.size_bytes > BLOB_LIMIT:
            raise ValueError(f"blob {blob.sha256} has {blob.size_bytes} bytes; at most {BLOB_LIMIT} are taken")
        data = bytearray()
        async with self._turns:
            for attempt, pause in enumerate(pauses(0.1, 5.0), start=1):
                request = DownloadRequest(name=f"blobs/{blob.sha256}", offset=len(data))
                try:
                    call = self._stub().Download(request, timeout=_TRANSFER_TIMEOUT, wait_for_ready=True)
                    async for part in call:
                        data += part.chunk
                        if len(data) > BLOB_LIMIT:
                            call.cancel()
                            raise ValueError(f"blob {blob.sha256} has more than {BLOB_LIMIT} bytes")
                    break
                except grpc.aio.AioRpcError as error:
                    if error.code() not in _PASSING or attempt == _ATTEMPTS:
                        raise
                    await asyncio.sleep(pause)
        if hashlib.sha256(data).hexdigest() != blob.sha256:
            raise ValueError(f"blob {blob.sha256} arrived with other bytes than its name says")
        return bytes(data)

    async def close(self) -> None:
        """Hangs up."""
        if self._channel is not None:
            await self._channel.close(None)
            self._channel = None

    def _stub(self) -> Any:
        if self._channel is None:
            self._channel = connect(self._address)
        return BlobServiceStub(self._channel)
