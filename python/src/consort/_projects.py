"""Projects: pieces of work that many runs belong to."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from consort._base import PAGE, Base, number_of, request_id, word_of
from consort._gen.project.v1 import project_service_pb2 as pb
from consort._gen.project.v1.project_service_pb2_grpc import ProjectServiceStub
from consort._values import Blobs
from consort.views import time_of

_STATE = "PROJECT_STATE_"


@dataclass(frozen=True, slots=True)
class ProjectFigures:
    """How a project goes: numbers of runs by state, of open questions and signals.

    `progress` lies between 0 and 1, `health` is "HEALTHY", "AT_RISK" or "FAILING", and `health_reason` says why it is
    not healthy. `oldest_decision_time` is when the oldest open question was asked.
    """

    runs_active: int
    runs_waiting: int
    runs_succeeded: int
    runs_failed: int
    runs_cancelled: int
    decisions_open: int
    oldest_decision_time: datetime | None
    signals_open: int
    progress: float
    health: str
    health_reason: str


@dataclass(frozen=True, slots=True)
class Project:
    """A project: `name` is `namespaces/{namespace}/projects/{id}`, `state` "ACTIVE", "COMPLETED" or "STOPPED".

    `uid` is the correlation id of all its events, `request` what was asked for. `figures` is filled by `get_project`.
    """

    name: str
    uid: str
    title: str
    request: Any
    state: str
    create_time: datetime | None
    created_by: str
    close_time: datetime | None
    reason: str
    labels: dict[str, str]
    figures: ProjectFigures | None


class ProjectCalls(Base):
    """The client's part for projects."""

    async def create_project(
        self,
        title: str,
        request: Mapping[str, Any] | None = None,
        *,
        id: str = "",  # noqa: A002 - the word of the protocol.
        labels: Mapping[str, str] | None = None,
        created_by: str = "",
    ) -> Project:
        """Creates a project with a title of 1 to 200 characters and what is asked for.

        `id` has 1 to 63 characters of a-z, 0-9, '-', '_' and '.'; left out, the mesh chooses one. RpcError
        ALREADY_EXISTS if it is taken. Runs join the project by `start(..., project=...)`.
        """
        message = pb.CreateProjectRequest(
            parent=self._parent,
            project_id=id,
            title=title,
            request=await self._payload(dict(request or {})),
            labels=dict(labels or {}),
            created_by=created_by,
            request_id=request_id(),
        )
        return await self._project(self._projects().CreateProject, message)

    async def get_project(self, project: str | Project) -> Project:
        """Returns a project with its figures as they are now."""
        return await self._project(
            self._projects().GetProject, pb.GetProjectRequest(name=self._name("projects", project))
        )

    async def projects(self, *, state: str = "", limit: int = PAGE) -> list[Project]:
        """The newest projects in a state ("" for all), at most `limit` of them, without figures."""
        request = pb.ListProjectsRequest(parent=self._parent, state=number_of("state", pb.ProjectState, _STATE, state))
        found = await self._pages(limit, self._projects().ListProjects, request, "projects")
        return [await project_from(project, self._blobs) for project in found]

    async def complete_project(self, project: str | Project) -> Project:
        """Closes a project. RpcError FAILED_PRECONDITION while one of its runs is not over, or if it was stopped."""
        request = pb.CompleteProjectRequest(name=self._name("projects", project), request_id=request_id())
        return await self._project(self._projects().CompleteProject, request)

    async def stop_project(self, project: str | Project, reason: str = "") -> Project:
        """Closes a project and cancels its live runs, which end within moments.

        RpcError FAILED_PRECONDITION if it was completed. The reason, of at most 1,000 characters, is for the record.
        """
        name = self._name("projects", project)
        request = pb.StopProjectRequest(name=name, reason=reason, request_id=request_id())
        return await self._project(self._projects().StopProject, request)

    async def _project(self, method: Any, request: Any) -> Project:
        return await project_from(await self._call(lambda timeout: method(request, timeout=timeout)), self._blobs)

    def _projects(self) -> Any:
        return ProjectServiceStub(self._open())


async def project_from(message: pb.Project, blobs: Blobs) -> Project:
    """The record of a project; a large request is downloaded."""
    return Project(
        name=message.name,
        uid=message.uid,
        title=message.title,
        request=await blobs.value(message.request),
        state=word_of(pb.ProjectState, _STATE, message.state),
        create_time=time_of(message, "create_time"),
        created_by=message.created_by,
        close_time=time_of(message, "close_time"),
        reason=message.reason,
        labels=dict(message.labels),
        figures=_figures(message.figures) if message.HasField("figures") else None,
    )


def _figures(message: pb.ProjectFigures) -> ProjectFigures:
    return ProjectFigures(
        runs_active=message.runs_active,
        runs_waiting=message.runs_waiting,
        runs_succeeded=message.runs_succeeded,
        runs_failed=message.runs_failed,
        runs_cancelled=message.runs_cancelled,
        decisions_open=message.decisions_open,
        oldest_decision_time=time_of(message, "oldest_decision_time"),
        signals_open=message.signals_open,
        progress=message.progress,
        health=word_of(pb.ProjectHealth, "PROJECT_HEALTH_", message.health),
        health_reason=message.health_reason,
    )
