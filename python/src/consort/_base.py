"""What all parts of the client share: its connection, its patience and its names."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import grpc
from google.protobuf.duration_pb2 import Duration

from consort._gen.blob.v1.payload_pb2 import Payload
from consort._net import connect, pauses, resolve
from consort._values import Blobs, encode
from consort.errors import from_rpc

_T = TypeVar("_T")
# Items of a list that are asked for at once, the most a mesh gives.
PAGE = 1000


class Named(Protocol):
    """A record of the mesh that has a name."""

    @property
    def name(self) -> str:
        """Its full name."""


class Base:
    """A connection to a mesh, opened by the first call."""

    def __init__(self, address: str | None = None, *, namespace: str = "default", timeout: float = 30.0) -> None:
        self._address = resolve(address)
        self._parent = f"namespaces/{namespace}"
        self._timeout = timeout
        self._blobs = Blobs(self._address)
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hangs up."""
        await self._blobs.close()
        if self._channel is not None:
            await self._channel.close(None)
            self._channel = None

    async def _call(self, attempt: Callable[[float], Awaitable[_T]]) -> _T:
        """Calls until it is answered or the client's timeout is over; `attempt` gets the seconds that are left."""
        end = time.monotonic() + self._timeout
        waits = pauses(0.1, 5.0)
        while True:
            try:
                return await attempt(max(end - time.monotonic(), 0.001))
            except grpc.aio.AioRpcError as error:
                pause = next(waits)
                if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() + pause > end:
                    raise from_rpc(error) from error
            await asyncio.sleep(pause)

    async def _pages(self, limit: int, method: Any, request: Any, field: str) -> list[Any]:
        """At most `limit` messages of a list, page by page."""
        found: list[Any] = []
        while len(found) < limit:
            request.page_size = min(limit - len(found), PAGE)
            page = await self._call(lambda timeout: method(request, timeout=timeout))
            found.extend(getattr(page, field))
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        return found[:limit]

    async def _payload(self, value: Any) -> Payload:
        return await self._blobs.payload(encode(value))

    def _name(self, collection: str, item: str | Named) -> str:
        name = item if isinstance(item, str) else item.name
        return name if "/" in name else f"{self._parent}/{collection}/{name}"

    def _name_or_none(self, collection: str, item: str | Named | None) -> str:
        return "" if item is None else self._name(collection, item)

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = connect(self._address)
        return self._channel


def request_id() -> str:
    """A request id of its own for each call, so that one which is repeated has one effect."""
    return str(uuid.uuid4())


def duration(seconds: float) -> Duration:
    """Seconds as a message."""
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


def number_of(field: str, values: Any, prefix: str, word: str) -> Any:
    """The value of an enumeration by its name without the prefix; empty means unspecified. ValueError if none fits."""
    try:
        return values.Value(f"{prefix}{word.upper() or 'UNSPECIFIED'}")
    except ValueError:
        names = [name.removeprefix(prefix) for name, _ in values.items()]
        known = ", ".join(name for name in names if name != "UNSPECIFIED")
        raise ValueError(f"{field}: {word.upper()!r} is none of {known} or empty") from None


def word_of(values: Any, prefix: str, number: int) -> str:
    """The name of an enumeration's value without the prefix; empty if it is unspecified."""
    word = str(values.Name(number)).removeprefix(prefix)
    return "" if word == "UNSPECIFIED" else word
