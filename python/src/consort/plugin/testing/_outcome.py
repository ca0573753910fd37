"""What a call told and yielded."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from consort._gen.plugin.v1 import plugin_service_pb2 as pb
from consort._values import decode_inline


@dataclass(slots=True)
class Outcome:
    """What a call told and yielded.

    `output` is a plain JSON value, `data` the bytes of a result that is no JSON, of `media_type`. `progress` has
    fractions and messages, `logs` levels and lines, `would` and `actions` what would be and was done. `chunks` says how
    many there were.
    """

    output: Any = None
    data: bytes = b""
    media_type: str = ""
    progress: list[tuple[float, str]] = field(default_factory=list)
    logs: list[tuple[str, str]] = field(default_factory=list)
    would: list[str] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    chunks: int = 0


async def gather(messages: AsyncIterator[pb.InvokeResponse]) -> Outcome:
    """Reads a call's messages to their end. AssertionError if they break the protocol."""
    outcome, data, is_over = Outcome(), bytearray(), False
    async for message in messages:
        assert not is_over, f"a message after the result: {message}"
        kind = message.WhichOneof("kind")
        if kind == "progress":
            outcome.progress.append((message.progress.fraction, message.progress.message))
        elif kind == "log":
            outcome.logs.append((message.log.level, message.log.message))
        elif kind == "chunk":
            assert len(message.chunk) <= 1024 * 1024, f"a chunk of {len(message.chunk)} bytes"
            outcome.chunks += 1
            data += message.chunk
        else:
            assert kind == "result", "a message that says nothing"
            is_over = True
            outcome.media_type = message.result.media_type
            outcome.would, outcome.actions = list(message.result.would), list(message.result.actions)
            outcome.output = decode_inline(message.result.output)
    assert is_over, "the stream ended without a result"
    if outcome.media_type == "application/json" and outcome.chunks:
        outcome.output = json.loads(data)
    else:
        outcome.data = bytes(data)
    return outcome
