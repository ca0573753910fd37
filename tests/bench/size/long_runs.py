"""One long run: is the ten-thousandth step as cheap as the first?"""

import asyncio
import time
from statistics import median

from bench.processes import BenchError, Command, Process
from bench.size.base import TURNS, Part, Point

_LIMIT = 600.0


def lengths(steps: int) -> list[int]:
    """Lengths to compare, up to the longest."""
    return sorted({max(steps // part, 1) for part in (10, 5, 2, 1)})


def chain(steps: int) -> str:
    """A workflow of steps that do nothing, one after the other."""
    lines = [f"name: long-chain-{steps}", "steps:", "  - {id: s1, agent: noop}"]
    lines += [f"  - {{id: s{step}, agent: noop, needs: [s{step - 1}]}}" for step in range(2, steps + 1)]
    return "\n".join(lines) + "\n"


def fan(steps: int) -> str:
    """A workflow of steps that do nothing, all at once."""
    items = ", ".join(str(item) for item in range(steps))
    return (
        f"name: long-fan-{steps}\ninputs:\n  items: {{type: array, default: [{items}]}}\n"
        'steps:\n  - {id: each, for_each: "${{ inputs.items }}", agent: noop}\noutput: "${{ inputs.items[0] }}"\n'
    )


def measure(part: Part, steps: int) -> list[Point]:
    """Runs of growing length, each the only one at its time."""
    with part.server() as server:
        command: Command = [part.binary, "bench-worker", "--addr", server.address]
        with Process("worker", command, part.folder):
            for length in lengths(steps):
                chained = asyncio.run(_times(server.address, chain(length)))
                fanned = asyncio.run(_times(server.address, fan(length)))
                part.readings.append({"steps": length, "chain_s": chained, "fan_s": fanned})
                part.add(
                    {
                        "steps": length,
                        "chain_s": round(median(chained), 3),
                        "fan_s": round(median(fanned), 3),
                        "chain_ms_per_step": round(median(chained) / length * 1e3, 4),
                        "fan_ms_per_step": round(median(fanned) / length * 1e3, 4),
                        "rss_mib": server.process.memory().resident,
                    }
                )
    return part.points


async def _times(address: str, definition: str) -> list[float]:
    """Seconds from start to end of some runs, one after the other."""
    from consort import Client  # noqa: PLC0415

    found = []
    async with Client(address) as mesh:
        workflow = await mesh.apply(definition)
        for _ in range(TURNS):
            begun = time.monotonic()
            run = await mesh.start(workflow, wait=_LIMIT)
            if run.state != "SUCCEEDED":
                raise BenchError(f"a run of {workflow.name} was {run.state} after {time.monotonic() - begun:.0f} s")
            found.append(round(time.monotonic() - begun, 4))
    return found
