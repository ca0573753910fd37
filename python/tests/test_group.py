"""What a member of a group promises to the mesh, seen from the mesh."""

import asyncio
import threading
from datetime import timedelta
from typing import Any

import grpc
import pytest

from consort import Client, Delivery, RpcError, TaskError
from consort._gen.blob.v1.payload_pb2 import BlobRef, Payload
from fake_mesh import FakeMesh


async def test_a_member_says_what_it_wants() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client:
        wanted = client.group(
            "billing", types=["ORDER.*"], after=0, ack_timeout=timedelta(seconds=5), max_attempts=3, in_hand=4
        )
        for group, is_plain in ((wanted, False), (client.group("billing"), True)):
            async with group:
                coming = asyncio.ensure_future(anext(group))
                member = await mesh.members.get()
                member.deliver(1)
                await coming
                start = member.start
                assert (start.group, start.parent) == ("billing", "namespaces/default")
                if is_plain:
                    assert (start.HasField("filter"), start.WhichOneof("from"), start.HasField("ack_timeout")) == (
                        False,
                        None,
                        False,
                    )
                    assert (start.credit, start.max_attempts) == (16, 0)
                else:
                    assert (list(start.filter.event_types), start.WhichOneof("from"), start.cursor) == (
                        ["ORDER.*"],
                        "cursor",
                        0,
                    )
                    assert (start.ack_timeout.seconds, start.max_attempts, start.credit) == (5, 3, 4)


@pytest.mark.parametrize(("options", "why"), [({"in_hand": 0}, "in_hand: 0"), ({"types": "ORDER.*"}, "types: ")])
async def test_bad_arguments_are_named(options: dict[str, Any], why: str) -> None:
    async with Client("127.0.0.1:1") as client:
        with pytest.raises(ValueError, match=why):
            client.group("billing", **options)


async def test_each_delivery_is_settled_once_and_a_close_says_it() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client:
        async with client.group("billing") as deliveries:
            coming = asyncio.ensure_future(anext(deliveries))
            member = await mesh.members.get()
            for number in (1, 2, 3, 4):
                member.deliver(number, {"n": number}, subject="orders/17")
            first = await coming
            assert (first.event.type, first.event.payload, first.event.subject) == (
                "ORDER.PAID",
                {"n": 1},
                "orders/17",
            )
            assert (first.cursor, first.attempt, first.is_settled) == (11, 2, False)
            first.done()
            assert first.is_settled
            with pytest.raises(RuntimeError, match="settled already"):
                first.refuse("again")
            (await anext(deliveries)).refuse("no such order", final=True)
            (await anext(deliveries)).refuse("x" * 2000)
            await asyncio.to_thread((await anext(deliveries)).done)
        assert await member.outcome(4) == {1: None, 2: ("no such order", True), 3: ("x" * 1000, False), 4: None}
        assert member.closed_by_member.is_set()


async def test_a_broken_connection_is_made_again_and_forgets_what_it_delivered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client, client.group("billing") as deliveries:
        held: list[Delivery] = []
        for code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, None):
            coming = asyncio.ensure_future(anext(deliveries))
            member = await mesh.members.get()
            member.deliver(1)
            held.append(await coming)
            if code:
                member.end(code, "restarting")
            else:
                member.out.put_nowait(None)
        coming = asyncio.ensure_future(anext(deliveries))
        member = await mesh.members.get()
        member.deliver(1)
        # The same number on another connection is another delivery: only the new one is settled.
        for old in held:
            old.refuse("too late", final=True)
        (await coming).done()
        assert await member.outcome(1) == {1: None}
        assert any("lost the mesh (UNAVAILABLE: restarting)" in line for line in caplog.messages)


async def test_a_refusal_ends_the_iteration() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client, client.group("billing") as deliveries:
        coming = asyncio.ensure_future(anext(deliveries))
        (await mesh.members.get()).end(grpc.StatusCode.FAILED_PRECONDITION, "another filter")
        with pytest.raises(RpcError, match="FAILED_PRECONDITION: another filter"):
            await coming


async def test_waiting_may_be_cancelled_and_begun_again() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client, client.group("billing") as deliveries:
        coming = asyncio.ensure_future(anext(deliveries))
        member = await mesh.members.get()
        coming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await coming
        member.deliver(1, "kept")
        delivery = await anext(deliveries)
        assert delivery.event.payload == "kept"
        assert mesh.members.empty()


async def test_an_event_that_cannot_be_read_does_not_stop_the_group() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client, client.group("billing") as deliveries:
        coming = asyncio.ensure_future(anext(deliveries))
        member = await mesh.members.get()
        member.deliver(1, payload=Payload(json="{"))
        member.deliver(2, payload=Payload(blob=BlobRef(sha256="0" * 64, size_bytes=1 << 40)))
        member.deliver(3)
        (await coming).done()
        found = await member.outcome(3)
        assert found[3] is None
        for number in (1, 2):
            refused = found[number]
            assert refused is not None
            assert refused[0].startswith("the payload cannot be read: ")
            assert not refused[1]


async def test_a_handler_runs_for_each_event_and_its_end_settles_it() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client:
        stop = asyncio.Event()

        async def handler(delivery: Delivery) -> None:
            match delivery.event.payload:
                case 1:
                    return
                case 2:
                    raise TaskError("INVALID_ARGUMENT", "amount is negative")
                case 3:
                    raise KeyError("bank")
                case 4:
                    delivery.refuse("by itself", final=True)
                case 5:
                    raise asyncio.CancelledError

        serving = asyncio.create_task(client.handle("billing", handler, stop=stop, in_hand=2))
        member = await mesh.members.get()
        assert member.start.credit == 2
        for number in range(1, 6):
            member.deliver(number, number)
        assert await member.outcome(5) == {
            1: None,
            2: ("INVALID_ARGUMENT: amount is negative", True),
            3: ("KeyError: 'bank'", False),
            4: ("by itself", True),
            5: ("the handler was cancelled", False),
        }
        stop.set()
        await serving
        assert member.closed_by_member.is_set()


async def test_a_stop_finishes_plain_handlers_in_hand_and_takes_no_more() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client:
        stop, begun, go = asyncio.Event(), asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()
        calls: list[int] = []

        def handler(delivery: Delivery) -> None:
            calls.append(delivery.event.payload)
            loop.call_soon_threadsafe(begun.set)
            go.wait()

        serving = asyncio.create_task(client.handle("billing", handler, stop=stop, in_hand=1))
        member = await mesh.members.get()
        member.deliver(1, 1)
        member.deliver(2, 2)
        await begun.wait()
        stop.set()
        go.set()
        await serving
        assert await member.outcome(1) == {1: None}
        assert calls == [1]


async def test_a_cancelled_call_cancels_its_handlers_and_a_refusal_ends_it() -> None:
    async with FakeMesh() as mesh, Client(mesh.address) as client:
        begun = asyncio.Event()

        async def handler(_: Delivery) -> None:
            begun.set()
            await asyncio.Event().wait()

        serving = asyncio.create_task(client.handle("billing", handler))
        member = await mesh.members.get()
        member.deliver(1)
        await begun.wait()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert await member.outcome(1) == {1: ("the handler was cancelled", False)}
        again = asyncio.create_task(client.handle("billing", handler))
        (await mesh.members.get()).end(grpc.StatusCode.INVALID_ARGUMENT, "max_attempts: 0")
        with pytest.raises(RpcError, match="max_attempts: 0"):
            await again
