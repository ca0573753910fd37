"""Calls the tool `echo` over stdio with the official Python SDK's client: a closed loop of lanes over one connection.

    python mcp_load.py --concurrency N --seconds S --warmup S

It prints one line of JSON with the rate and the latencies of the calls that ended within the window.
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters

_TEXT = "hello"


@dataclass(slots=True)
class Seen:
    """What the lanes saw: nanoseconds of each call, and what failed."""

    nanos: list[int] = field(default_factory=list)
    errors: int = 0
    examples: list[str] = field(default_factory=list)


async def lane(client: Client, begin: int, end: int, seen: Seen) -> None:
    """Calls until the end; counts what ends within the window. Both are of the monotonic clock, in nanoseconds."""
    while (begun := time.monotonic_ns()) < end:
        try:
            answer = await client.call_tool("echo", {"text": _TEXT})
            if answer.is_error or answer.content[0].text != _TEXT:
                raise ValueError(f"echoed {answer}")
        except Exception as error:
            seen.errors += 1
            if len(seen.examples) < 3:
                seen.examples.append(str(error) or repr(error))
            await asyncio.sleep(0.02)
            continue
        ended = time.monotonic_ns()
        if begin <= ended <= end:
            seen.nanos.append(ended - begun)


async def load(concurrency: int, seconds: int, warmup: int) -> dict[str, Any]:
    """Starts the server, calls it, and gives the figures."""
    server = StdioServerParameters(command=sys.executable, args=[str(Path(__file__).with_name("mcp_echo.py"))])
    seen = Seen()
    # The SDK starts the server in a session of its own, so nobody but the client can stop it.
    lanes = asyncio.current_task()
    assert lanes is not None, "this runs in a task"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lanes.cancel)
    async with Client(server) as client:
        await client.list_tools()
        begin = time.monotonic_ns() + warmup * 1_000_000_000
        end = begin + seconds * 1_000_000_000
        await asyncio.gather(*(lane(client, begin, end, seen) for _ in range(concurrency)))
        protocol = client.protocol_version
    seen.nanos.sort()

    def at(share: float) -> float:
        return seen.nanos[min(int(share * len(seen.nanos)), len(seen.nanos) - 1)] / 1e6 if seen.nanos else 0.0

    return {
        "concurrency": concurrency,
        "seconds": seconds,
        "protocol": protocol,
        "calls": len(seen.nanos),
        "calls_per_s": len(seen.nanos) / seconds,
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
        "errors": seen.errors,
        "error_examples": seen.examples,
    }


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(load(given.concurrency, given.seconds, given.warmup))))


if __name__ == "__main__":
    main()
