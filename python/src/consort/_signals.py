"""Signals to the mesh: things that were noticed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from consort._base import PAGE, Base, number_of, request_id, word_of
from consort._gen.signal.v1 import signal_service_pb2 as pb
from consort._gen.signal.v1.signal_service_pb2_grpc import SignalServiceStub
from consort._projects import Project
from consort._values import Blobs
from consort.views import time_of


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal: `name` is `namespaces/{namespace}/signals/{uuid}`, `state` "OPEN" or "CLOSED".

    `urgency` is "LOW", "NORMAL", "HIGH" or "CRITICAL", `impact` "LOW", "MEDIUM" or "HIGH", and `route` says where it
    went: "WORKFLOW", "AGENT" or "PERSON". `runs` are the names of the runs that act on it.
    """

    name: str
    type: str
    urgency: str
    impact: str
    title: str
    description: str
    payload: Any
    source: str
    project: str
    agent: str
    route: str
    runs: tuple[str, ...]
    state: str
    create_time: datetime | None


class SignalCalls(Base):
    """The client's part for signals. A signal to one run is `Client.signal`."""

    async def raise_signal(
        self,
        type: str,  # noqa: A002 - the word of the protocol.
        title: str,
        payload: Mapping[str, Any] | None = None,
        *,
        urgency: str = "",
        impact: str = "",
        description: str = "",
        source: str = "",
        project: str | Project | None = None,
        agent: str = "",
    ) -> Signal:
        """Raises a signal; when it returns, the signal and the start of the runs that act on it are on disk.

        `type` is such as "QUALITY_ISSUE", or another upper-case name of at most 63 characters; `title` has 1 to 200
        characters, `description` is Markdown of at most 64 KiB. `urgency` and `impact` are as in Signal; left out, the
        mesh chooses them by the type. `source` says who noticed it. If no workflow takes the signal, `agent` gets it,
        or a person if none is named.
        """
        request = pb.RaiseSignalRequest(
            parent=self._parent,
            type=type,
            urgency=number_of("urgency", pb.Urgency, "URGENCY_", urgency),
            impact=number_of("impact", pb.Impact, "IMPACT_", impact),
            title=title,
            description=description,
            payload=await self._payload(dict(payload or {})),
            source=source,
            project=self._name_or_none("projects", project),
            agent=agent,
            request_id=request_id(),
        )
        return await self._signal(self._signals().RaiseSignal, request)

    async def get_signal(self, signal: str | Signal) -> Signal:
        """Returns a signal as it stands."""
        return await self._signal(self._signals().GetSignal, pb.GetSignalRequest(name=self._name("signals", signal)))

    async def signals(
        self,
        *,
        type: str = "",  # noqa: A002 - the word of the protocol.
        project: str | Project | None = None,
        limit: int = PAGE,
    ) -> list[Signal]:
        """The newest signals, at most `limit` of them, of one type and of one project or of all."""
        request = pb.ListSignalsRequest(parent=self._parent, type=type, project=self._name_or_none("projects", project))
        found = await self._pages(limit, self._signals().ListSignals, request, "signals")
        return [await signal_from(signal, self._blobs) for signal in found]

    async def _signal(self, method: Any, request: Any) -> Signal:
        return await signal_from(await self._call(lambda timeout: method(request, timeout=timeout)), self._blobs)

    def _signals(self) -> Any:
        return SignalServiceStub(self._open())


async def signal_from(message: pb.Signal, blobs: Blobs) -> Signal:
    """The record of a signal; a large payload is downloaded."""
    return Signal(
        name=message.name,
        type=message.type,
        urgency=word_of(pb.Urgency, "URGENCY_", message.urgency),
        impact=word_of(pb.Impact, "IMPACT_", message.impact),
        title=message.title,
        description=message.description,
        payload=await blobs.value(message.payload),
        source=message.source,
        project=message.project,
        agent=message.agent,
        route=word_of(pb.Route, "ROUTE_", message.route),
        runs=tuple(message.runs),
        state=word_of(pb.SignalState, "SIGNAL_STATE_", message.state),
        create_time=time_of(message, "create_time"),
    )
