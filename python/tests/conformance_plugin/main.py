"""The operations that the conformance runner calls, the same in every language: `consort plugin test .`."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, TypedDict

from consort.plugin import Call, Limits, Plugin, PluginError

plugin = Plugin("conformance", version="0.1.0", description="The operations that the conformance runner calls.")


class Text(TypedDict):
    """A text."""

    text: str


class Total(TypedDict):
    """What was counted."""

    total: int


class Slept(TypedDict):
    """How long it slept."""

    slept_ms: int


@plugin.operation(effect="read")
def echo(text: str) -> Text:
    """Says the text again."""
    return {"text": text}


@plugin.operation(effect="read")
async def count(call: Call, to: Annotated[int, Limits(minimum=0, maximum=10_000)], delay_ms: int = 0) -> Total:
    """Counts from 1, telling how far it is."""
    for number in range(1, to + 1):
        await asyncio.sleep(delay_ms / 1e3)
        call.progress(number / to, f"{number} of {to}")
        call.log("info", f"counted {number}")
    return {"total": to}


@plugin.operation(effect="read")
def sleep(call: Call, ms: Annotated[int, Limits(minimum=0)]) -> Slept:
    """Sleeps, and stops when nobody waits any more."""
    call.sleep(ms / 1e3)
    return {"slept_ms": ms}


@plugin.operation(effect="read")
async def large(mib: Annotated[int, Limits(minimum=0, maximum=4096)]) -> AsyncIterator[bytes]:
    """Yields so many MiB of zeros."""
    for _ in range(mib):
        yield bytes(1024 * 1024)


@plugin.operation(effect="read")
def fail(code: str, message: str) -> None:
    """Fails with a gRPC status code, by its name."""
    raise PluginError(code, message)


@plugin.operation(effect="write")
def crash() -> None:
    """Ends the process with status 7."""
    os._exit(7)


@plugin.operation(effect="write", dry_run=True)
def write(call: Call, path: str, text: str) -> None:
    """Writes a text into a file."""
    if call.dry_run:
        call.would(f"write {len(text.encode())} bytes to {path}")
        return
    (Path(os.environ["CONSORT_PLUGIN_DATA"]) / path).write_text(text, encoding="utf-8")
    call.did(f"wrote {len(text.encode())} bytes to {path}")


if __name__ == "__main__":
    plugin.serve()
