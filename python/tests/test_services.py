"""What the client promises about projects, signals, lists and dead letters."""

from datetime import UTC, datetime

import pytest

from consort import Client
from consort._gen.decision.v1 import decision_service_pb2 as decision_pb
from consort._gen.orchestrator.v1 import run_pb2
from consort._gen.project.v1 import project_service_pb2 as project_pb
from consort._gen.signal.v1 import signal_service_pb2 as signal_pb
from fake_mesh import RUN, FakeMesh, json_of
from fake_services import PROJECT, SIGNAL


async def test_a_project_is_created_read_and_closed() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client:
        project = await client.create_project(
            "Invoices", {"goal": "faster"}, id="p", labels={"a": "b"}, created_by="ada"
        )
        assert (project.name, project.state, project.request, project.figures) == (
            PROJECT,
            "ACTIVE",
            {"goal": "faster"},
            None,
        )
        found = await client.get_project("p")
        assert found.figures is not None
        assert (found.figures.runs_active, found.figures.progress, found.figures.health) == (2, 0.5, "AT_RISK")
        await client.complete_project(project)
        await client.stop_project(project, "no money")
        created, got, completed, stopped = mesh.requests
        assert (created.parent, created.project_id, created.title) == ("namespaces/default", "p", "Invoices")
        assert (json_of(created.request), dict(created.labels), created.created_by) == (
            {"goal": "faster"},
            {"a": "b"},
            "ada",
        )
        assert {got.name, completed.name, stopped.name} == {PROJECT}
        assert stopped.reason == "no money"
        assert len({created.request_id, completed.request_id, stopped.request_id, ""}) == 4


async def test_a_list_is_read_page_by_page_up_to_its_limit() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client:
        some = await client.projects(state="active", limit=1200)
        assert [project.name for project in some] == [str(number) for number in range(1200)]
        pages = [(request.page_size, request.page_token, request.state) for request in mesh.requests]
        active = project_pb.PROJECT_STATE_ACTIVE
        assert pages == [(1000, "", active), (200, "1000", active)]
        assert len(await client.projects(limit=9999)) == 1500
        with pytest.raises(ValueError, match=r"^state: 'SHUT' is none of ACTIVE, COMPLETED, STOPPED or empty"):
            await client.projects(state="shut")


async def test_a_signal_says_all_that_is_known_of_it() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client:
        signal = await client.raise_signal(
            "QUALITY_ISSUE",
            "Tests are red",
            {"count": 3},
            urgency="critical",
            impact="HIGH",
            description="*All*",
            source="ci",
            project="p",
            agent="fixer",
        )
        assert (signal.name, signal.urgency, signal.impact, signal.route) == (SIGNAL, "HIGH", "MEDIUM", "PERSON")
        assert (signal.state, signal.runs, signal.payload) == ("OPEN", ("r1",), {"a": 1})
        (raised,) = mesh.requests
        assert (raised.type, raised.title, json_of(raised.payload)) == ("QUALITY_ISSUE", "Tests are red", {"count": 3})
        assert (raised.urgency, raised.impact) == (signal_pb.URGENCY_CRITICAL, signal_pb.IMPACT_HIGH)
        assert (raised.description, raised.source, raised.project, raised.agent) == ("*All*", "ci", PROJECT, "fixer")
        assert len(raised.request_id) == 36
        with pytest.raises(ValueError, match=r"^impact: 'HUGE' is none of LOW, MEDIUM, HIGH or empty"):
            await client.raise_signal("REQUIREMENT", "New", impact="huge")


async def test_signals_are_read_and_listed() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client:
        assert (await client.get_signal("5a")).name == SIGNAL
        (listed,) = await client.signals(type="QUALITY_ISSUE", project="p", limit=5)
        assert listed.name == SIGNAL
        got, list_request = mesh.requests
        assert got.name == SIGNAL
        assert (list_request.type, list_request.project, list_request.page_size) == ("QUALITY_ISSUE", PROJECT, 5)


async def test_runs_and_decisions_belong_to_projects() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client:
        await client.start("audit", project="p")
        (run,) = await client.runs(workflow="audit", project="p", states=["failed", "RUNNING"])
        await client.decisions(project="p", kind="clarification")
        started, listed, decisions, _ = mesh.requests
        assert (run.name, started.project) == (RUN, PROJECT)
        assert (listed.workflow, listed.project) == ("namespaces/default/workflows/audit", PROJECT)
        assert list(listed.states) == [run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_RUNNING]
        assert (decisions.project, decisions.kind) == (PROJECT, decision_pb.DECISION_KIND_CLARIFICATION)


async def test_schedules_are_listed() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client:
        (schedule,) = await client.schedules()
        assert (schedule.workflow, schedule.index, schedule.cron, schedule.skipped) == ("w", 1, "0 7 * * MON", 3)
        assert (schedule.next_time, schedule.last_time) == (datetime(2026, 3, 2, 7, tzinfo=UTC), None)


async def test_dead_letters_are_listed_and_tried_again() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client:
        (letter,) = await client.dead_letters()
        assert (letter.id, letter.reason, letter.group, letter.attempts) == ("x", "amount: missing", "g", 5)
        assert (letter.event.type, letter.event.payload) == ("ORDER.PAID", {"a": 1})
        assert await client.requeue([letter, "y"]) == {"x": "", "y": "no such letter"}
        assert len(mesh.requests[-1].request_id) == 36
