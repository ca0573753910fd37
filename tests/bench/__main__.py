"""`python -m bench`: what can be asked."""

import argparse
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

from bench import charts, durable, sitting, targets
from bench.plugins import callers, goals
from bench.plugins import run as plugins
from bench.processes import BenchError, everything_stops, say
from bench.size import run as size
from bench.systems import Consort, every

_CACHE = Path(os.environ.get("CONSORT_BENCH_CACHE") or Path.home() / ".cache" / "consort-bench")
_ROOT = Path(__file__).resolve().parents[2]
_PLUGIN = _ROOT / "plugins/sdk-go/examples/conformance"
# Writes a sitting of several, with what follows from its readings.
_STORES = {"durable": durable.finish, "plugins": plugins.finish, "size": sitting.write}


def _positive(text: str) -> int:
    number = int(text.replace("_", ""))
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures Consort and its peers.")
    modes = parser.add_subparsers(dest="mode", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--consort",
        "--binary",
        type=Path,
        default=_ROOT / "target/release/consort",
        help="the binary (default: target/release/consort)",
    )
    common.add_argument("--results", type=Path, default=sitting.RESULTS, help="folder of the JSON and the chart")
    common.add_argument("--scratch", type=Path, default=Path(tempfile.gettempdir()), help="folder on the disk to judge")
    common.add_argument("--seed", type=int, help="order of the measurements, and payloads (default: a new one)")
    common.add_argument("--seconds", type=_positive, default=5, help="window of a measurement (default: 5)")
    common.add_argument("--only", nargs="+", default=[], metavar="KEY", help="only what begins with one of these")

    row = modes.add_parser("durable", parents=[common], help="the rows of the durable engine, beside the peers")
    row.add_argument("--rounds", type=_positive, default=5, help="rounds (default: 5)")
    row.add_argument("--warmup", type=_positive, default=2, help="seconds before runs count (default: 2)")
    row.add_argument("--peers", nargs="*", metavar="NAME", help="restate temporal shape (default: all that are there)")
    row.add_argument("--live", type=_positive, default=10_000, help="runs that wait under the load (default: 10,000)")
    row.add_argument("--memory-rounds", type=_positive, default=1, help="rounds of that row (default: 1)")
    row.add_argument("--cache", type=Path, default=_CACHE, help=f"where setup.sh put the peers (default: {_CACHE})")

    row = modes.add_parser("plugins", parents=[common], help="a plugin's calls, beside go-plugin and MCP over stdio")
    row.add_argument("--rounds", type=_positive, default=5, help="rounds (default: 5)")
    row.add_argument("--warmup", type=_positive, default=1, help="seconds before calls count (default: 1)")
    row.add_argument("--peers", nargs="*", metavar="NAME", help="go-plugin mcp-python … (default: all that are there)")
    row.add_argument(
        "--plugin", type=Path, default=_PLUGIN, help="folder of ours, with an operation `echo` (default: Go)"
    )
    row.add_argument("--no-sandbox", action="store_true", help="start the plugin without a sandbox")
    row.add_argument("--cache", type=Path, default=_CACHE, help=f"where setup.sh put the peers (default: {_CACHE})")

    row = modes.add_parser("size", parents=[common], help="what size costs")
    row.add_argument("--events", type=_positive, default=10_000_000, help="events in the store (default: 10 million)")
    row.add_argument("--fill", choices=("chain", "fan"), default="chain", help="runs of 10 steps, or of 1,000 at once")
    row.add_argument("--waiting", type=_positive, default=10_000, help="runs that wait (default: 10,000)")
    row.add_argument("--workers", type=_positive, default=1_000, help="workers attached (default: 1,000)")
    row.add_argument("--steps", type=_positive, default=10_000, help="steps of the longest run (default: 10,000)")
    row.add_argument("--payload", type=_positive, default=10 << 20, help="largest payload in bytes (default: 10 MiB)")

    row = modes.add_parser("chart", help="draw the chart of a sitting again")
    row.add_argument("file", type=Path, nargs="+", help="JSON of a sitting")
    row = modes.add_parser("targets", help="the targets of a sitting as a table")
    row.add_argument("file", type=Path, help="JSON of a sitting")
    row = modes.add_parser("merge", help="several sittings of one machine as one, such as one round each")
    row.add_argument("file", type=Path, nargs="+", help="JSON of a sitting")
    row = modes.add_parser("publish", help="make a sitting the one that documents show")
    row.add_argument("file", type=Path, nargs="+", help="JSON of a sitting")
    return parser


def _publish(path: Path) -> None:
    """Copies a sitting and its chart to the names that documents refer to."""
    document = sitting.read(path)
    stem = sitting.RESULTS / f"{sitting.kind_of(document)}-{sitting.LATEST}"
    shutil.copyfile(path, stem.with_suffix(".json"))
    stem.with_suffix(".svg").write_text(charts.draw(document))
    say(f"documents show {path.name} as {stem.name}.svg")


def _tell(document: sitting.Document) -> None:
    """Prints what a sitting says of its targets, if its kind has some."""
    kind = sitting.kind_of(document)
    if kind == "plugins":
        print(goals.as_text(document))
    elif kind == "durable":
        print(targets.as_text(document["targets"]))


def _measure_plugins(options: argparse.Namespace, seed: int, scratch: Path) -> Path:
    ours = callers.Consort(options.consort.resolve(), options.plugin.resolve(), sandbox=not options.no_sandbox)
    ours.build()
    everyone: list[callers.Caller] = [ours, *callers.peers(options.cache.resolve())]
    if options.peers is not None:
        everyone = plugins.chosen(everyone, options.peers)
    settings = plugins.Settings(options.rounds, options.seconds, options.warmup, seed, tuple(options.only), scratch)
    return plugins.run(settings, everyone, options.results)


def _measure(options: argparse.Namespace) -> Path:
    seed = random.randrange(2**32) if options.seed is None else options.seed
    scratch = options.scratch.resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    only = tuple(options.only)
    consort = options.consort.resolve()
    with everything_stops():
        if options.mode == "plugins":
            return _measure_plugins(options, seed, scratch)
        if options.mode == "size":
            limits = size.Limits(options.events, options.waiting, options.workers, options.steps, options.payload)
            return size.run(
                size.Settings(Consort(consort), scratch, seed, options.seconds, only, options.fill, limits),
                options.results,
            )
        systems = every(consort, options.cache.resolve())
        if options.peers is not None:
            unknown = set(options.peers) - {system.name for system in systems}
            if unknown:
                raise BenchError(
                    f"--peers: {', '.join(sorted(unknown))} is no peer; there are restate, temporal, shape"
                )
            systems = [system for system in systems if system.name in {"consort", *options.peers}]
        settings = durable.Settings(
            rounds=options.rounds,
            seconds=options.seconds,
            warmup=options.warmup,
            seed=seed,
            live=options.live,
            memory_rounds=options.memory_rounds,
            only=only,
            scratch=scratch,
        )
        return durable.run(settings, systems, options.results)


def main() -> int:
    """Does what was asked: 0 if it was done, 1 if it could not be, 2 for wrong usage, 130 if interrupted."""
    options = _parser().parse_args()
    try:
        if options.mode == "chart":
            for path in options.file:
                say(f"wrote {charts.write(sitting.read(path), path)}")
        elif options.mode == "targets":
            _tell(sitting.read(options.file))
        elif options.mode == "merge":
            whole = sitting.merged([sitting.read(path) for path in options.file])
            path = _STORES[sitting.kind_of(whole)](whole, options.file[0].parent, "-merged")
            say(f"wrote {path} and {charts.write(sitting.read(path), path)}")
        elif options.mode == "publish":
            for path in options.file:
                _publish(path)
        else:
            path = _measure(options)
            document = sitting.read(path)
            say(f"wrote {path} and {charts.write(document, path)}")
            _tell(document)
            failed = [reading for reading in document["readings"] if reading.get("failure") or reading.get("doubtful")]
            for reading in failed:
                name = f"{reading['scenario']} {reading.get('system', '')}".strip()
                why = reading.get("failure") or f"latencies left out: {reading['doubtful']['why']}"
                say(f"failed: {name}: {why}")
            return 1 if failed else 0
    except (BenchError, sitting.DocumentError, OSError) as error:
        say(f"bench: {error}")
        return 1
    except KeyboardInterrupt:
        say("bench: interrupted; everything that was started is stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
