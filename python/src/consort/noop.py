"""A worker that does nothing, to measure everything else: `python -m consort.noop --agent noop --slots 512`.

With `--answer` it answers requests with null; with `--ask` it asks in a closed loop and prints what it saw as one line
of JSON.
"""

import argparse
import asyncio
import json
import sys
import time

from consort.errors import ConsortError
from consort.worker import Worker


def main() -> None:
    """Answers everything with null, and says `ready` on stderr once the mesh welcomed it."""
    parser = argparse.ArgumentParser(prog="python -m consort.noop", description=__doc__)
    parser.add_argument("--agent", default="noop", help="name of the agent it serves (default: noop)")
    parser.add_argument("--slots", type=int, default=512, help="tasks, or requests, at once (default: 512)")
    parser.add_argument("--id", default="noop", help="name of the worker (default: noop)")
    parser.add_argument("--address", help="host:port of the mesh (default: CONSORT_ADDR or 127.0.0.1:7420)")
    parser.add_argument("--namespace", default="default", help="tenant (default: default)")
    parser.add_argument("--answer", help="name of an agent for which it answers requests, instead of serving one")
    parser.add_argument("--ask", help="name of an agent that it asks, instead of serving one")
    parser.add_argument("--lanes", type=int, default=16, help="requests at once (default: 16)")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long requests count (default: 10)")
    parser.add_argument("--warmup", type=float, default=2.0, help="how long they do not count before (default: 2)")
    options = parser.parse_args()

    def ready() -> None:
        print("ready", file=sys.stderr, flush=True)

    try:
        worker = Worker(
            f"{options.id}-asker" if options.ask else options.id,
            address=options.address,
            namespace=options.namespace,
            slots=options.slots,
            on_ready=ready,
        )
        if options.answer or options.ask:
            worker.answers(options.answer or "noop-asker", at_once=options.slots, description="Answers nothing.")(noop)
        else:
            worker.agent(options.agent, description="Does nothing.")(noop)
    except ValueError as error:
        parser.error(str(error))
    if options.ask:
        asyncio.run(ask(worker, options.ask, options.lanes, options.warmup, options.seconds))
    else:
        worker.run()


async def noop(**_ignored: object) -> None:
    """Does nothing."""


async def ask(worker: Worker, agent: str, lanes: int, warmup: float, seconds: float) -> None:
    """Asks an agent, on each lane as soon as it has its answer, and prints what was seen."""
    serving = asyncio.create_task(worker.serve())
    await asyncio.sleep(0)
    start = time.perf_counter() + warmup
    end = start + seconds
    took: list[float] = []
    errors: list[str] = []

    async def lane() -> None:
        while (begun := time.perf_counter()) < end:
            try:
                await worker.ask_agent(agent, {"n": 1})
            except ConsortError as error:
                errors.append(str(error))
                await asyncio.sleep(0.02)
            else:
                ended = time.perf_counter()
                if start <= ended <= end:
                    took.append(ended - begun)

    await asyncio.gather(*(lane() for _ in range(lanes)))
    worker.stop()
    await serving
    took.sort()

    def ms(quantile: float) -> float:
        return took[min(int(len(took) * quantile), len(took) - 1)] * 1e3 if took else 0.0

    seen = {"requests": len(took), "errors": len(errors), "error_example": errors[0] if errors else None}
    print(json.dumps({**seen, "p50_ms": ms(0.5), "p99_ms": ms(0.99)}), flush=True)


if __name__ == "__main__":
    main()
