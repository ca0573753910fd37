"""A worker that does nothing, to measure everything else: `python -m consort.noop --agent noop --slots 512`."""

import argparse
import sys

from consort.worker import Worker


def main() -> None:
    """Answers every task with null, and says `ready` on stderr once the mesh welcomed it."""
    parser = argparse.ArgumentParser(prog="python -m consort.noop", description=__doc__)
    parser.add_argument("--agent", default="noop", help="name of the agent it serves (default: noop)")
    parser.add_argument("--slots", type=int, default=512, help="tasks at once (default: 512)")
    parser.add_argument("--id", default="noop", help="name of the worker (default: noop)")
    parser.add_argument("--address", help="host:port of the mesh (default: CONSORT_ADDR or 127.0.0.1:7420)")
    parser.add_argument("--namespace", default="default", help="tenant (default: default)")
    options = parser.parse_args()

    def ready() -> None:
        print("ready", file=sys.stderr, flush=True)

    try:
        worker = Worker(
            options.id,
            address=options.address,
            namespace=options.namespace,
            slots=options.slots,
            on_ready=ready,
        )

        @worker.agent(options.agent, description="Does nothing.")
        async def noop(**_ignored: object) -> None:
            return None

    except ValueError as error:
        parser.error(str(error))
    worker.run()


if __name__ == "__main__":
    main()
