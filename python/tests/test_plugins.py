"""The Python agents in `plugins/` as processes: they are what their manifests say, and answer."""

import asyncio
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fake_mesh import FakeMesh, json_of

PLUGINS = Path(__file__).resolve().parent.parent.parent / "plugins"


def entry(day: int, task: str, category: str) -> dict[str, Any]:
    """An hour of work at nine on a weekday of March 2026."""
    start = f"2026-03-{day:02}T09:00:00+01:00"
    return {"author": "ada", "start": start, "hours": 1, "task": task, "category": category}


@pytest.mark.parametrize(
    ("plugin", "hours", "entries"),
    [
        ("time-waste", {"waste_hours": 1.0}, [entry(2, "Core: build", "feature"), entry(3, "Core: mend", "fix")]),
        ("friction", {"friction_hours": 2.0}, [entry(day, f"Restart worker {day}", "chore") for day in (2, 3, 4)]),
    ],
)
async def test_a_plugin_serves_its_agent(plugin: str, hours: dict[str, float], entries: list[dict[str, Any]]) -> None:
    manifest = tomllib.loads((PLUGINS / plugin / "consort-plugin.toml").read_text(encoding="utf-8"))
    assert (manifest["id"], manifest["command"]) == (plugin, ["python", "main.py"])
    async with FakeMesh() as mesh:
        environment = {**os.environ, "CONSORT_ADDR": mesh.address}
        arguments = [sys.executable, *manifest["command"][1:]]
        child = await asyncio.create_subprocess_exec(*arguments, cwd=PLUGINS / plugin, env=environment)
        try:
            stream = await mesh.stream()
            assert [offer.agent for offer in stream.hello.agents] == manifest["agents"]
            good = stream.assign(plugin, {"entries": entries})
            done = await stream.heard("completed")
            result = json_of(done.output)
            assert {key: result[key] for key in hours} == hours
            bad = stream.assign(plugin, {"entries": [*entries, entry(5, "x", "fun")]})
            failed = await stream.heard("failed")
            assert (failed.lease, failed.error.code, failed.retryable) == (bad, 3, False)
            assert failed.error.message.startswith(f"entries[{len(entries)}].category: is 'fun'")
            stream.ack(good, bad)
            child.terminate()
            await stream.closed_by_worker.wait()
            assert await child.wait() == 0
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
