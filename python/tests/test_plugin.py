"""Plugins in one process: schemas, inputs, results, failures, dry runs."""

import asyncio
import datetime
import enum
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, DebugInfo, ErrorInfo

from consort import RpcError
from consort._gen.plugin.v1 import plugin_service_pb2 as pb
from consort.plugin import Call, Effect, Limits, Plugin, PluginError
from consort.plugin.errors import failure_of
from consort.plugin.testing import FakeHost, invoke, invoke_async


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Line:
    """A line of an order."""

    item: str
    count: Annotated[int, Limits(minimum=1)] = 1


@dataclass
class Order:
    lines: list[Line]
    due: datetime.datetime
    colour: Colour | None = None
    tags: Annotated[set[str], Limits(maxItems=2)] | None = None


class Sum(TypedDict):
    items: int
    due: datetime.date


plugin = Plugin("shop", version="1.2.3", description="Sells things.")


@plugin.operation(effect="read", timeout=datetime.timedelta(seconds=1.5))
def total(call: Call, order: Order, rate: float = 1.0, mode: Literal["net", "gross"] = "net") -> Sum:
    """Adds an order up.

    Args:
        rate: What an item costs.
    """
    assert all(isinstance(line, Line) for line in order.lines), order
    call.progress(None, f"{order.colour} {mode} {rate}")
    return {"items": sum(line.count for line in order.lines), "due": order.due.date()}


@plugin.operation("wait", effect=Effect.IDEMPOTENT_WRITE)
async def wait_here(call: Call) -> None:
    await asyncio.Event().wait()


@plugin.operation()
def spread(**words: str) -> dict[str, str]:
    return words


GOOD = {"lines": [{"item": "lamp"}, {"item": "chair", "count": 2.0}], "due": "2026-03-01T10:00:00Z"}


def test_hello_tells_what_the_annotations_say() -> None:
    hello = plugin.hello()
    assert (hello.name, hello.version, hello.description) == ("shop", "1.2.3", "Sells things.")
    assert hello.sdk.startswith("python 0.1.0")
    assert not hello.HasField("config_schema")
    first, second, third = hello.operations
    assert (first.name, first.description, first.effect, first.timeout.ToMilliseconds()) == (
        "total",
        "Adds an order up.",
        1,
        1500,
    )
    assert (second.name, second.effect, second.HasField("timeout")) == ("wait", 2, False)
    assert (third.effect, "additionalProperties" in third.input_schema) == (3, False)
    assert plugin.operations["total"].input_schema == {
        "type": "object",
        "properties": {
            "order": {
                "type": "object",
                "properties": {
                    "lines": {
                        "type": "array",
                        "items": {
                            "description": "A line of an order.",
                            "type": "object",
                            "properties": {"item": {"type": "string"}, "count": {"type": "integer", "minimum": 1}},
                            "required": ["item"],
                            "additionalProperties": False,
                        },
                    },
                    "due": {"type": "string", "format": "date-time"},
                    "colour": {"anyOf": [{"type": "string", "enum": ["red", "blue"]}, {"type": "null"}]},
                    "tags": {
                        "anyOf": [
                            {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "maxItems": 2},
                            {"type": "null"},
                        ]
                    },
                },
                "required": ["lines", "due"],
                "additionalProperties": False,
            },
            "rate": {"description": "What an item costs.", "type": "number", "default": 1.0},
            "mode": {"type": "string", "enum": ["net", "gross"], "default": "net"},
        },
        "required": ["order"],
        "additionalProperties": False,
    }
    assert plugin.operations["total"].output_schema == {
        "type": "object",
        "properties": {"items": {"type": "integer"}, "due": {"type": "string", "format": "date"}},
        "required": ["items", "due"],
        "additionalProperties": False,
    }


def test_the_function_gets_typed_values_and_its_result_becomes_json() -> None:
    outcome = invoke(plugin, "total", {"order": {**GOOD, "colour": "red", "tags": ["a", "a"]}, "rate": 2})
    assert outcome.output == {"items": 3, "due": "2026-03-01"}
    assert outcome.progress == [(-1.0, "Colour.RED net 2.0")]
    assert invoke(plugin, "spread", {"a": "b"}).output == {"a": "b"}


@pytest.mark.parametrize(
    ("change", "violations"),
    [
        ({"order": 7}, {"order": "is 7, wanted an object"}),
        ({"order": {}}, {"order.lines": "is missing", "order.due": "is missing"}),
        (
            {"order": {**GOOD, "lines": [{"item": "a"}, {"item": None, "count": 0, "size": 1}]}},
            {
                "order.lines[1].item": "is null, wanted text",
                "order.lines[1].count": "is 0, wanted at least 1",
                "order.lines[1].size": "is unknown; the members here are: item, count",
            },
        ),
        ({"order": {**GOOD, "due": "2026-03-01T10:00:00"}}, {"order.due": "offset"}),
        ({"order": {**GOOD, "colour": "green"}}, {"order.colour": "is 'green', wanted one of 'red', 'blue' or null"}),
        ({"order": {**GOOD, "tags": ["a", "b", "c"]}}, {"order.tags": "is a list, wanted at most 2 of them"}),
        ({"order": GOOD, "rate": True}, {"rate": "is true or false, wanted a number"}),
        ({"order": GOOD, "mode": "x", "extra": 1}, {"mode": "one of", "extra": "is unknown"}),
        ({}, {"order": "is missing"}),
    ],
)
def test_every_bad_field_is_named(change: dict[str, Any], violations: dict[str, str]) -> None:
    with pytest.raises(PluginError) as caught:
        invoke(plugin, "total", change)
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INPUT_INVALID")
    assert list(caught.value.violations) == list(violations)
    for name, text in violations.items():
        assert text in caught.value.violations[name]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Plugin("Shop", version="1.0.0"), "name: 'Shop' is malformed"),
        (lambda: Plugin("shop", version="1"), "version: '1' is not semantic"),
        (lambda: Plugin("shop", version="1.0.0").hello(), "operations: none"),
        (lambda: Plugin("shop", version="1.0.0", config=str), "config: <class 'str'> is no object"),
        (lambda: plugin.operation("total")(lambda: None), "'total' is there twice"),
        (lambda: plugin.operation("Total")(lambda: None), "operation: 'Total' is malformed"),
        (lambda: plugin.operation("t", timeout=0)(lambda: None), "timeout: 0 of 't'"),
        (lambda: plugin.operation("t")(lambda *a: None), "t.a: cannot be given by name"),
    ],
)
def test_what_is_wrong_about_a_plugin_is_named(make: Any, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words.replace("(", r"\(")):
        make()


def test_a_function_without_a_schema_is_refused() -> None:
    def odd(thing: threading.Thread) -> None: ...

    def stream() -> Iterator[bytes]:
        return iter([b""])

    with pytest.raises(TypeError, match=r"odd\.thing: .*has no JSON Schema"):
        plugin.operation()(odd)
    with pytest.raises(TypeError, match="make the function a generator"):
        plugin.operation()(stream)


def test_failures_are_statuses_with_details_that_can_travel() -> None:
    error = PluginError("NOT_FOUND", "no lamp", field="item", reason="NO_ITEM", details={"item": "lamp"})
    status = error.to_status()
    info, request = ErrorInfo(), BadRequest()
    assert (status.code, status.message) == (5, "no lamp")
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(request)
    assert (info.reason, dict(info.metadata)) == ("NO_ITEM", {"item": "lamp"})
    assert [(each.field, each.description) for each in request.field_violations] == [("item", "no lamp")]
    long = PluginError("INTERNAL", "é" * 5000, violations={f"field{n}": "x" * 1000 for n in range(100)})
    assert len(long.to_status().SerializeToString()) < 4200
    with pytest.raises(ValueError, match="OK is no error"):
        PluginError("OK", "fine")


def test_other_exceptions_are_internal_with_their_traceback() -> None:
    def deep(left: int) -> None:
        if not left:
            raise KeyError("lamp")
        deep(left - 1)

    with pytest.raises(KeyError) as caught:
        deep(200)
    status = failure_of(caught.value).to_status()
    debug = DebugInfo()
    assert (status.code, status.message) == (13, "KeyError: 'lamp'")
    assert status.details[0].Unpack(debug)
    assert debug.stack_entries[-1] == "KeyError: 'lamp'"
    assert "in deep" in debug.stack_entries[-2]
    passed = failure_of(RpcError(grpc.StatusCode.PERMISSION_DENIED, "no", "NOT_GRANTED", {"name": "no"}))
    assert (passed.code, passed.reason, passed.violations) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "NOT_GRANTED",
        {"name": "no"},
    )


async def test_host_config_dry_run_and_context_reach_plain_and_async_functions() -> None:
    @dataclass
    class Settings:
        channel: str
        at_once: int = 2

    made = Plugin("post", version="0.1.0", config=Settings)
    seen: list[Settings] = []
    made.on_configure(seen.append)

    @made.operation(dry_run=True)
    def plain(call: Call, text: str) -> str:
        if call.dry_run:
            call.would(f"post {text}")
            return "nothing"
        secret = call.host.get_secret("key")
        call.host.put_state("last", text.encode())
        call.did(f"posted {text} to {call.config.channel}")
        return str(secret)

    @made.operation("async")
    async def not_plain(call: Call) -> dict[str, Any]:
        event = await call.host.publish_event("POSTED", {"n": 1})
        kept = await call.host.get_state("last")
        return {"event": event, "kept": kept.decode(), "none": await call.host.get_state("x")}

    config = {"channel": "ops"}
    host = FakeHost({"key": "s3cret"}, {})
    outcome = await invoke_async(made, "plain", {"text": "hi"}, config=config, host=host)
    assert (outcome.output, outcome.actions, outcome.would) == ("s3cret", ["posted hi to ops"], [])
    outcome = await invoke_async(made, "async", config=config, host=host)
    assert (outcome.output, host.events) == ({"event": "event-1", "kept": "hi", "none": None}, [("POSTED", {"n": 1})])
    outcome = await invoke_async(made, "plain", {"text": "hi"}, config=config, dry_run=True)
    assert (outcome.output, outcome.would, outcome.actions) == ("nothing", ["post hi"], [])
    assert seen == [Settings("ops")] * 3
    with pytest.raises(PluginError, match="PERMISSION_DENIED") as denied:
        await invoke_async(made, "plain", {"text": "hi"}, config=config)
    assert 'secrets = ["key"]' in denied.value.message
    with pytest.raises(PluginError, match="cannot say what it would do"):
        await invoke_async(made, "async", config=config, dry_run=True)
    with pytest.raises(PluginError) as caught:
        await invoke_async(made, "async", config={"chanel": "x", "at_once": "2"})
    assert list(caught.value.violations) == ["chanel", "at_once", "channel"]
    with pytest.raises(PluginError, match="takes no configuration"):
        await invoke_async(plugin, "spread", config={"a": 1})


async def test_generators_stream_and_wait_for_their_reader() -> None:
    made = Plugin("pipe", version="0.1.0")
    ahead = 0

    @made.operation(effect="read", media_type="text/plain")
    def lines(call: Call) -> Iterator[bytes]:
        nonlocal ahead
        for number in range(20):
            ahead = number
            yield b"x" * 700_000
        call.progress(1.0)

    @made.operation(effect="read")
    async def pages(call: Call) -> AsyncIterator[bytes]:
        call.media_type = "application/json"
        yield b'{"a":'
        yield b"1}"

    @made.operation(effect="read")
    def whole() -> bytes:
        return b"z" * 3_000_000

    @made.operation(effect="read")
    def wide() -> list[str]:
        return ["é" * 1000] * 1000

    outcome = await invoke_async(made, "lines")
    assert (len(outcome.data), outcome.media_type, outcome.output) == (14_000_000, "text/plain", None)
    assert (await invoke_async(made, "pages")).output == {"a": 1}
    outcome = await invoke_async(made, "whole")
    assert (outcome.data, outcome.chunks, outcome.media_type) == (b"z" * 3_000_000, 3, "application/octet-stream")
    outcome = await invoke_async(made, "wide")
    assert (outcome.output, outcome.chunks, outcome.media_type) == (["é" * 1000] * 1000, 2, "application/json")
    desk = made.desk(FakeHost({}, {}))

    ahead = 0
    work = await desk.begin(pb.InvokeRequest(operation="lines"), None)
    messages = work.messages()
    await anext(messages)
    for _ in range(100):
        await asyncio.sleep(0)
    assert ahead <= 4
    await messages.aclose()
    assert work.call.cancelled
    desk.close()


async def test_a_flood_of_logs_loses_the_oldest_and_says_so() -> None:
    made = Plugin("chatty", version="0.1.0")

    @made.operation(effect="read")
    async def talk(call: Call) -> None:
        for number in range(1000):
            call.log("debug", str(number))
        for number in range(1100):
            call.did(str(number))

    outcome = await invoke_async(made, "talk")
    assert len(outcome.logs) == 256
    assert outcome.logs[0] == ("debug", "(744 lines before this one were lost) 744")
    assert outcome.logs[-1] == ("debug", "999")
    assert (len(outcome.actions), outcome.actions[-1]) == (1000, "… and more")


async def test_a_plain_function_sees_its_cancellation() -> None:
    made = Plugin("slow", version="0.1.0")
    ends: asyncio.Queue[grpc.StatusCode] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    @made.operation()
    def slow(call: Call) -> None:
        try:
            call.progress(0.0)
            call.sleep(60)
        except PluginError as error:
            loop.call_soon_threadsafe(ends.put_nowait, error.code)
            raise

    desk = made.desk(FakeHost({}, {}))
    work = await desk.begin(pb.InvokeRequest(operation="slow"), None)
    messages = work.messages()
    await anext(messages)
    await messages.aclose()
    assert await ends.get() is grpc.StatusCode.CANCELLED
    assert await desk.drain(1.0) == 0
    with pytest.raises(PluginError, match="about to end"):
        await desk.begin(pb.InvokeRequest(operation="slow"), None)
    desk.close()


def test_a_function_that_takes_too_long_fails_as_it_would_at_the_mesh(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="DEADLINE_EXCEEDED"):
        invoke(plugin, "wait", timeout=0.05)
    made = Plugin("folder", version="0.1.0")

    @made.operation(effect="read")
    def where(call: Call) -> str:
        return call.data.name

    assert invoke(made, "where", data=tmp_path).output == tmp_path.name
    with pytest.raises(PluginError, match="no folder of its own"):
        invoke(made, "where")


async def test_more_calls_than_agreed_are_refused() -> None:
    made = Plugin("small", version="0.1.0", calls=1)

    @made.operation()
    async def stay() -> None:
        await asyncio.Event().wait()

    desk = made.desk(FakeHost({}, {}))
    work = await desk.begin(pb.InvokeRequest(operation="stay"), None)
    with pytest.raises(PluginError, match="RESOURCE_EXHAUSTED"):
        await desk.begin(pb.InvokeRequest(operation="stay"), None)
    assert await desk.drain(0.01) == 1
    with pytest.raises(PluginError, match="CANCELLED"):
        await anext(work.messages())
    desk.close()
