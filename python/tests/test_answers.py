"""Answers that are no results: plans, and questions to people."""

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from worker_kit import ends_with_echo, make, serving

from consort import Clarification, Plan, Task, Worker
from consort._gen.agent.v1 import worker_service_pb2 as pb
from consort._gen.blob.v1.payload_pb2 import BlobRef, Payload
from fake_mesh import FakeMesh, json_of

PLAN = "name: p\nsteps: [{id: a, set: 1}]"


def asker(mesh: FakeMesh) -> Worker:
    """Asks until the answer is not `none`, and says what was answered each time."""
    worker = make(mesh)

    @worker.agent("ask")
    async def ask(task: Task) -> list[list[Any]]:
        while True:
            answer = task.ask(
                "Which repository?",
                options=["ours", "theirs", "none"],
                form={"type": "object"},
                deadline=1.5,
                default="none",
                description="*All* of them are far away.",
            )
            if answer.option != "none":
                return [[each.option, each.form, each.answered_by] for each in task.clarifications]

    return worker


def answered(option: str, form: Payload | None = None) -> pb.Clarification:
    return pb.Clarification(title="Which repository?", option=option, form=form, answered_by="ada")


@pytest.mark.parametrize(
    ("plan", "text"), [(Plan(PLAN), PLAN), (Plan({"name": "p", "steps": []}), '{"name":"p","steps":[]}')]
)
async def test_a_plan_goes_out_instead_of_a_result(plan: Plan, text: str) -> None:
    async with FakeMesh() as mesh:
        worker = make(mesh)

        @worker.agent("plan")
        def make_plan() -> Plan:
            return plan

        async with serving(worker):
            stream = await mesh.stream()
            held = stream.assign("plan")
            done = await stream.heard("completed")
            assert (done.lease, done.plan, done.HasField("output")) == (held, text, False)


@pytest.mark.parametrize(
    ("definition", "why"), [(" \n", "definition: is empty"), ("x" * (1024 * 1024 + 1), "has 1048577 bytes")]
)
def test_a_plan_is_text_of_a_fitting_length(definition: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Plan(definition)


async def test_a_question_ends_the_task_until_it_is_answered() -> None:
    async with FakeMesh() as mesh, serving(asker(mesh)):
        stream = await mesh.stream()
        held = stream.assign("ask")
        asked = await stream.heard("asked")
        question = asked.question
        assert (asked.lease, question.title, list(question.options)) == (
            held,
            "Which repository?",
            ["ours", "theirs", "none"],
        )
        assert (question.description, question.default_option) == ("*All* of them are far away.", "none")
        assert question.deadline.ToTimedelta().total_seconds() == 1.5
        assert json_of(question.form) == {"type": "object"}
        stream.ack(held)
        # The first answer makes the handler ask again; the second ends it.
        again = stream.assign("ask", clarifications=[answered("none")])
        assert (await stream.heard("asked")).lease == again
        form = b'{"why": "near"}'
        digest = hashlib.sha256(form).hexdigest()
        mesh.blobs[digest] = form
        blob = Payload(blob=BlobRef(sha256=digest, size_bytes=len(form)))
        stream.assign("ask", clarifications=[answered("none"), answered("ours", blob)])
        done = await stream.heard("completed")
        assert json_of(done.output) == [["none", None, "ada"], ["ours", {"why": "near"}, "ada"]]
        assert stream.count("failed") == 0


async def test_a_question_that_was_not_acknowledged_is_asked_again() -> None:
    async with FakeMesh() as mesh, serving(asker(mesh)):
        stream = await mesh.stream()
        acked, unacked = stream.assign("ask"), stream.assign("ask")
        for _ in range(2):
            await stream.heard("asked")
        stream.ack(acked)
        stream.end()
        again = await mesh.stream()
        assert (await again.heard("asked")).lease == unacked
        again.ack(unacked)
        again.end()
        last = await mesh.stream()
        await ends_with_echo(last)
        assert last.count("asked") == 0


async def test_a_stop_waits_until_a_question_is_on_record() -> None:
    async with FakeMesh() as mesh:
        worker = asker(mesh)
        async with serving(worker) as served:
            stream = await mesh.stream(ttl=0.6)
            held = stream.assign("ask")
            await stream.heard("asked")
            worker.stop()
            await stream.heard("draining")
            for _ in range(stream.count("renew") + 1):
                await stream.heard("renew")
            assert not stream.closed_by_worker.is_set()
            stream.ack(held)
            await stream.closed_by_worker.wait()
            await served


async def from_a_thread(task: Task) -> str:
    def work() -> Clarification:
        return task.ask("Which?")

    return (await asyncio.to_thread(work)).option


async def from_a_group(task: Task) -> str:
    async def work() -> str:
        return task.ask("Which?").option

    async with asyncio.TaskGroup() as group:
        first = group.create_task(work())
    return first.result()


async def past_an_except(task: Task) -> str:
    try:
        return task.ask("Which?").option
    except Exception:
        return "caught"


def plain(task: Task) -> str:
    return task.ask("Which?").option


@pytest.mark.parametrize("handler", [from_a_thread, from_a_group, past_an_except, plain])
async def test_a_question_comes_out_of_everything(handler: Callable[[Task], Any]) -> None:
    async with FakeMesh() as mesh:
        worker = make(mesh)
        worker.agent("ask")(handler)
        async with serving(worker):
            stream = await mesh.stream()
            stream.assign("ask")
            question = (await stream.heard("asked")).question
            assert (question.title, question.HasField("form"), question.HasField("deadline")) == (
                "Which?",
                False,
                False,
            )
            stream.assign("ask", clarifications=[pb.Clarification(title="Which?", option="answer")])
            assert json_of((await stream.heard("completed")).output) == "answer"


@pytest.mark.parametrize(
    ("title", "options", "why"),
    [
        ("", {}, "title: has 0 characters"),
        ("x" * 1001, {}, "title: has 1001"),
        ("Which?", {"options": "ab"}, "options: 'ab' is no list"),
        ("Which?", {"options": ["a"] * 101}, "options: "),
        ("Which?", {"options": ["a"], "default": "b"}, "default: 'b' is none"),
        ("Which?", {"description": "x" * 65537}, "description: has 65537"),
        ("Which?", {"deadline": 0}, "deadline: 0 is not above 0"),
    ],
)
async def test_a_question_that_would_be_refused_names_its_field(title: str, options: dict[str, Any], why: str) -> None:
    async with FakeMesh() as mesh:
        worker = make(mesh)

        @worker.agent("bad")
        async def bad(task: Task) -> str:
            return task.ask(title, **options).option

        async with serving(worker):
            stream = await mesh.stream()
            stream.assign("bad")
            failed = await stream.heard("failed")
            assert failed.error.message.startswith(f"ValueError: {why}")
            assert stream.count("asked") == 0
