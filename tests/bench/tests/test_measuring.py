"""Processes, the order of measurements, and what a broken one leaves."""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from bench import durable, shape_worker, sitting
from bench.processes import BenchError, Process, everything_stops, free_ports, output_of
from bench.size import growth, long_runs, payloads, workers
from bench.systems import System, Work
from bench.systems.base import Deploying, Deployment

_TALK = "import time; print('hello'); print('ready now', flush=True); time.sleep(60)"


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def has_ended(pid: int) -> bool:
    """Also if whoever inherited it has not buried it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_process_is_ready_when_it_says_so_and_gone_after_the_block(tmp_path: Path) -> None:
    with Process("talker", python(_TALK), tmp_path) as process:
        assert process.wait_for_line("ready", 10) == "ready now"
        assert process.memory().resident > 1
        assert process.cpu_seconds() >= 0
    assert not is_alive(process.pid)


def test_a_process_that_dies_shows_its_log(tmp_path: Path) -> None:
    with Process("dier", python("raise SystemExit('why it died')"), tmp_path) as process:
        with pytest.raises(BenchError, match="ended before it was ready: why it died"):
            process.wait_for_line("ready", 10)
        with pytest.raises(BenchError, match="ended with code 1"):
            process.wait_for_port(1, 10)


def test_silence_has_a_limit(tmp_path: Path) -> None:
    with (
        Process("mute", python("import time; time.sleep(60)"), tmp_path) as process,
        pytest.raises(BenchError, match=r"was not ready within 0\.2 s"),
    ):
        process.wait_for_line("ready", 0.2)
    with pytest.raises(BenchError, match=r"took longer than 0\.2 s"):
        output_of(python("import time; time.sleep(60)"), tmp_path, 0.2)


def test_what_a_program_prints_is_its_answer(tmp_path: Path) -> None:
    assert output_of(python("print('{\"runs\": 3}')"), tmp_path, 10) == {"runs": 3}
    for script, said in (("raise SystemExit('why')", "ended with code 1: why"), ("print('{')", "printed no JSON")):
        with pytest.raises(BenchError, match=said):
            output_of(python(script), tmp_path, 10)


def test_an_interruption_stops_everything(tmp_path: Path) -> None:
    started: list[Process] = []

    def interrupted() -> None:
        with everything_stops():
            started.append(Process("talker", python(_TALK), tmp_path))
            started[0].wait_for_line("ready", 10)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert not is_alive(started[0].pid)


def test_a_child_in_a_group_of_its_own_goes_too(tmp_path: Path) -> None:
    start = "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], process_group=0)"
    script = f"{start}; print('child', child.pid, flush=True); child.wait()"
    with Process("parent", [*python(script), "import time; time.sleep(60)"], tmp_path) as process:
        child = int(process.wait_for_line("child", 10).split()[1])
        assert is_alive(child)
    end = time.monotonic() + 10
    while not has_ended(child):
        assert time.monotonic() < end
        time.sleep(0.01)


def test_ports_are_all_different() -> None:
    assert len(set(free_ports(20))) == 20


class FakeDeployment:
    """Answers at once; runs end only in windows of ten seconds and more."""

    ready_ms = 5.0

    def __init__(self, server: Process) -> None:
        self.server = server

    def load(self, work: Work) -> dict[str, Any]:
        runs = 100 if work.seconds >= 10 else 0
        return {"runs": runs, "runs_per_s": runs / work.seconds, "p50_ms": 1, "p99_ms": 2, "errors": 0, "loaded_mib": 1}

    def hold(self, runs: int) -> int:
        return runs


class Hopeless(FakeDeployment):
    """No run ever ends."""

    def load(self, work: Work) -> dict[str, Any]:
        return super().load(work) | {"runs": 0, "runs_per_s": 0.0}


class FakeSystem:
    """A system that starts nothing of its own, or breaks."""

    settings: dict[str, Any] = {}  # noqa: RUF012 - as the protocol has it.

    def __init__(self, name: str, *, workers: tuple[str, ...] = ("native",), broken: bool = False) -> None:
        self.name = name
        self.workers = workers
        self._broken = broken

    def missing(self) -> str:
        return "not here" if self.name == "absent" else ""

    def version(self) -> str:
        return "fake"

    def deploy(self, folder: Path, worker: str) -> Deploying:
        return self._deploy(folder)

    @contextmanager
    def _deploy(self, folder: Path) -> Iterator[Deployment]:
        if self._broken:
            raise BenchError("it does not start")
        with Process("fake", python("import time; time.sleep(60)"), folder) as server:
            yield Hopeless(server) if self.name == "hopeless" else FakeDeployment(server)


def settings(scratch: Path, **changes: Any) -> durable.Settings:
    usual: dict[str, Any] = {
        "rounds": 2,
        "seconds": 3,
        "warmup": 1,
        "seed": 7,
        "live": 10,
        "memory_rounds": 1,
        "only": (),
        "scratch": scratch,
    }
    return durable.Settings(**usual | changes)


def test_each_round_has_every_row_of_every_system_that_can(tmp_path: Path) -> None:
    systems: list[System] = [FakeSystem("consort", workers=("native", "python")), FakeSystem("restate")]
    chosen = settings(tmp_path)
    order = durable.plan(chosen, systems, durable.scenarios(chosen))
    counted = Counter((row.key, system.name) for _, row, system in order)
    assert counted["one-64", "restate"] == 2
    assert counted["live", "consort"] == 1
    assert counted["fan-1-python", "consort"] == 2
    assert ("fan-1-python", "restate") not in counted
    assert order == durable.plan(chosen, systems, durable.scenarios(chosen))
    assert order != durable.plan(settings(tmp_path, seed=8), systems, durable.scenarios(chosen))


@pytest.mark.parametrize(
    ("only", "keys"),
    [
        (("one-1",), ["one-1"]),
        (("one",), ["one-1", "one-16", "one-64", "one-256"]),
        (("ten-64", "live"), ["ten-64", "ten-64-python", "live"]),
        (("nothing",), []),
    ],
)
def test_rows_are_chosen_by_whole_words(tmp_path: Path, only: tuple[str, ...], keys: list[str]) -> None:
    assert [row.key for row in durable.scenarios(settings(tmp_path, only=only))] == keys


def test_a_sitting_goes_on_past_what_is_broken_or_absent(tmp_path: Path) -> None:
    systems: list[System] = [FakeSystem("consort"), FakeSystem("restate", broken=True), FakeSystem("absent")]
    path = durable.run(settings(tmp_path, only=("one-1",)), systems, tmp_path / "results")
    found = sitting.read(path)
    assert len(found["readings"]) == 4
    assert {each.get("failure", "") for each in found["readings"]} == {"", "it does not start"}
    assert found["systems"]["absent"] == {"missing": "not here"}
    # Nothing ended within three seconds, so the window was made longer.
    assert found["medians"]["one-1"]["consort"]["runs_per_s"] == pytest.approx(100 / 18)
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_who_ends_no_run_is_asked_once(tmp_path: Path) -> None:
    systems: list[System] = [FakeSystem("consort"), FakeSystem("hopeless")]
    found = sitting.read(durable.run(settings(tmp_path, rounds=3, only=("one-1",)), systems, tmp_path))
    assert Counter(each["system"] for each in found["readings"]) == {"consort": 3, "hopeless": 1}
    assert "hopeless" not in found["medians"]["one-1"]


def test_sizes_grow_to_the_most() -> None:
    assert growth.checkpoints(20_000) == [1_000, 10_000, 20_000]
    assert growth.checkpoints(500) == [500]
    assert long_runs.lengths(10_000) == [1_000, 2_000, 5_000, 10_000]
    assert payloads.sizes(10 << 20) == [1 << 10, 10 << 10, 100 << 10, 1 << 20, 10 << 20]
    assert payloads.sizes(2_000) == [1 << 10, 2_000]
    assert workers.counts(1_000) == [1, 10, 100, 1_000]
    assert workers.counts(1) == [1]


def test_long_definitions_stay_within_the_limit_of_a_source() -> None:
    for definition in (long_runs.chain(10_000), long_runs.fan(10_000)):
        assert len(definition) < 1 << 20
    assert "- {id: s3, agent: noop, needs: [s2]}" in long_runs.chain(3)


def test_the_python_worker_of_the_shape_answers_what_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    batches = shape_worker.messages()

    async def shape(requests: Any, _context: Any) -> Any:
        yield batches(items=[{"number": 1, "body": b"a"}, {"number": 2, "body": b"b"}])
        answers = await anext(requests)
        seen.extend((item.number, item.body) for item in answers.items)

    async def scenario() -> None:
        server = grpc.aio.server()
        method = grpc.stream_stream_rpc_method_handler(
            shape, request_deserializer=batches.FromString, response_serializer=batches.SerializeToString
        )
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shape.Shape", {"Work": method}),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        await asyncio.wait_for(shape_worker.main(port), 10)
        await server.stop(None)

    seen: list[tuple[int, bytes]] = []
    asyncio.run(scenario())
    assert seen == [(1, b"a"), (2, b"b")]
    assert capsys.readouterr().out == "ready\n"
