"""How fast a Python plugin answers in `consort-pyhost`, beside the same in a process of its own.

`python python/tests/pyhost_speed.py PYHOST [SECONDS] [ROUNDS]`. Both processes are up all the time, and one is called
while the other is idle; they take turns, and the median of the rounds counts. The caller is a Python process, which on
a machine of few cores takes a good part of them: its own limit is told as `nothing`, calls of grpc.health.v1 that Rust
answers.
"""

import asyncio
import os
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import consort
from consort.plugin.testing import PluginProcess

MANIFEST = """
id = "speed"
version = "0.1.0"
command = {command}
protocol = 1
"""
CODE = """
from consort.plugin import Plugin
plugin = Plugin("speed", version="0.1.0")
@plugin.operation(effect="read")
async def loop(text: str) -> dict[str, str]:
    return {"text": text}
@plugin.operation(effect="read")
def plain(text: str) -> dict[str, str]:
    return {"text": text}
plugin.serve()
"""
Call = Callable[[], Awaitable[object]]


def made(folder: Path, command: list[str]) -> PluginProcess:
    """A plugin that says what it is told."""
    folder.mkdir()
    (folder / "consort-plugin.toml").write_text(MANIFEST.format(command=command), encoding="utf-8")
    (folder / "main.py").write_text(CODE, encoding="utf-8")
    packages = os.pathsep.join([str(Path(consort.__file__).parents[1]), sysconfig.get_path("purelib")])
    return PluginProcess(folder, environment={"PYTHONPATH": packages})


async def load(call: Call, callers: int, seconds: float) -> list[float]:
    """Calls for a time, from so many callers at once: calls a second, p50 and p99 in ms."""
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def caller() -> None:
        while (began := time.perf_counter()) < until:
            await call()
            took.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    rate = len(took) / (time.perf_counter() - began)
    cuts = statistics.quantiles(took, n=100)
    return [rate, cuts[49] * 1e3, cuts[98] * 1e3]


async def main(pyhost: str, seconds: float, rounds: int) -> None:
    """Measures and prints a table."""
    with tempfile.TemporaryDirectory(prefix="speed-") as scratch:
        folder = Path(scratch)
        async with (
            made(folder / "own", ["python", "main.py"]) as own,
            made(folder / "pyhost", [pyhost, "main.py"]) as held,
        ):
            calls: dict[tuple[str, str], Call] = {("nothing", "pyhost"): held.health}
            for operation in ("loop", "plain"):
                for name, plugin in (("own process", own), ("pyhost", held)):
                    calls[operation, name] = lambda p=plugin, o=operation: p.invoke(o, {"text": "hello"})  # type: ignore[misc]
            found: dict[tuple[str, str, int], list[list[float]]] = {}
            for number in range(rounds + 1):
                for callers in (1, 16):
                    for (operation, name), call in calls.items():
                        seen = await load(call, callers, seconds if number else 0.5)
                        if number:  # The first warms up.
                            found.setdefault((operation, name, callers), []).append(seen)
    print(f"{rounds} rounds of {seconds:g} s, interleaved; load of the machine now {os.getloadavg()[0]:.1f}")
    print("operation  host         callers   calls/s   p50 ms   p99 ms")
    for (operation, name, callers), each in sorted(found.items(), key=lambda item: (item[0][2], item[0])):
        rate, p50, p99 = (statistics.median(column) for column in zip(*each, strict=True))
        print(f"{operation:10} {name:12} {callers:7} {rate:9.0f} {p50:8.3f} {p99:8.3f}")


if __name__ == "__main__":
    asyncio.run(
        main(
            sys.argv[1],
            float(sys.argv[2]) if len(sys.argv) > 2 else 3.0,
            int(sys.argv[3]) if len(sys.argv) > 3 else 5,
        )
    )
