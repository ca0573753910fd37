"""Calls of a plugin's functions in this process."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from consort._gen.blob.v1.payload_pb2 import Payload
from consort._gen.plugin.v1 import plugin_service_pb2 as pb
from consort.plugin.author import Plugin
from consort.plugin.call import Origin
from consort.plugin.errors import PluginError, failure_of
from consort.plugin.testing._fakes import FakeHost
from consort.plugin.testing._outcome import Outcome, gather


def invoke(plugin: Plugin, operation: str, input: Mapping[str, Any] | None = None, **options: Any) -> Outcome:  # noqa: A002
    """Calls an operation as the mesh would, from tests that are not async; otherwise as `invoke_async`."""
    return asyncio.run(invoke_async(plugin, operation, input, **options))


async def invoke_async(
    plugin: Plugin,
    operation: str,
    input: Mapping[str, Any] | None = None,  # noqa: A002
    *,
    config: Mapping[str, Any] | None = None,
    permissions: pb.Permissions | None = None,
    secrets: Mapping[str, str] | None = None,
    host: FakeHost | None = None,
    dry_run: bool = False,
    timeout: float = 10.0,
    idempotency_key: str = "",
    origin: Origin | None = None,
    data: Path | None = None,
) -> Outcome:
    """Calls an operation as the mesh would, without a process.

    The input is read as it is from the wire, and the output is held against the function's annotation: AssertionError
    if it does not match. `config` is what the operator would set, `secrets` what the mesh would hand out; a `host` of
    the test's own keeps state and events for it to look at; `data` is the plugin's folder. PluginError is how the
    call fails, with the exception that was raised as its cause.
    """
    origin = origin or Origin()
    request = pb.InvokeRequest(
        operation=operation,
        input=Payload(json=json.dumps(input or {})),
        call_id=str(uuid.uuid4()),
        idempotency_key=idempotency_key or str(uuid.uuid4()),
        dry_run=dry_run,
        origin=pb.Origin(namespace=origin.namespace, step=origin.step, agent=origin.agent),
    )
    desk = plugin.desk(host or FakeHost(secrets))
    desk.data = data
    try:
        async with asyncio.timeout(timeout) as limit:
            await desk.configure(config or {}, permissions or pb.Permissions())
            work = await desk.begin(request, datetime.now(UTC) + timedelta(seconds=timeout))
            async with contextlib.aclosing(work.messages()) as messages:
                outcome = await gather(messages)
    except Exception as error:
        if isinstance(error, TimeoutError) and limit.expired():
            problem = f"'{operation}' took longer than {timeout:g} s"
            raise PluginError("DEADLINE_EXCEEDED", problem) from error
        failure = failure_of(error)
        if failure is error or isinstance(error, AssertionError):
            raise
        raise failure from error
    finally:
        desk.close()
    read = plugin.operations[operation].read_output
    if read is not None:
        problems: list[Any] = []
        read(outcome.output, "output", problems)
        assert not problems, f"the output is not what '{operation}' promises: {problems}"
    return outcome
