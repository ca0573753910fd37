"""GitHub Actions (REST API, version 2022-11-28)."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from builds.build import Build, State
from builds.settings import GitHub, Settings
from builds.web import Site
from consort.plugin import Call, PluginError

_STATES: dict[str, State] = {"queued": "queued", "requested": "queued", "waiting": "queued", "pending": "queued"}
_STATES |= {"in_progress": "running"}
_ENDS: dict[str, State] = {"success": "succeeded", "neutral": "succeeded", "cancelled": "cancelled"}
_ENDS |= {"skipped": "cancelled"}
_MOST_JOBS = 100


class Service:
    """A repository."""

    def __init__(self, call: Call, settings: Settings, place: GitHub, secret: str) -> None:
        headers = {
            "accept": "application/vnd.github+json",
            "authorization": f"Bearer {secret}",
            "x-github-api-version": "2022-11-28",
        }
        self._site = Site(call, settings, place.url, headers)
        self._at = f"/repos/{place.repository}/actions"

    def start(self, what: str, ref: str, inputs: dict[str, str]) -> Build:
        """Starts a workflow, by the name of its file."""
        if not ref:
            raise PluginError("INVALID_ARGUMENT", "is needed: which branch or tag is built?", field="ref")
        path = f"{self._at}/workflows/{quote(what, safe='')}/dispatches"
        body = {"ref": ref, "inputs": inputs, "return_run_details": True}
        answer = self._site.ask("POST", path, json.dumps(body).encode(), {"content-type": "application/json"})
        found: dict[str, Any] = answer.json() if answer.body else {}  # Older servers answer nothing.
        run = found.get("workflow_run_id")
        return {
            "build": str(run) if run else "",
            "state": "queued",
            "detail": "dispatched",
            "url": str(found.get("html_url", "")),
            "started": "",
            "finished": "",
        }

    def status(self, build: str) -> Build:
        """How a run is."""
        return build_of(self._site.ask("GET", f"{self._at}/runs/{_number(build)}").json())

    def cancel(self, build: str) -> None:
        """Asks to stop a run."""
        self._site.ask("POST", f"{self._at}/runs/{_number(build)}/cancel")

    def logs(self, build: str) -> Iterator[bytes]:
        """The logs of the run's jobs, each after a line with its name."""
        found = self._site.ask("GET", f"{self._at}/runs/{_number(build)}/jobs?per_page={_MOST_JOBS}").json()
        for job in found["jobs"]:
            yield f"=== {job['name']} ({job.get('conclusion') or job['status']})\n".encode()
            if job["status"] != "completed":
                continue  # GitHub has logs of what is over only.
            answer = self._site.ask("GET", f"{self._at}/jobs/{int(job['id'])}/logs")
            if "location" in answer.headers:
                answer = self._site.follow(answer)
            yield answer.body
            if not answer.body.endswith(b"\n"):
                yield b"\n"


def build_of(run: dict[str, Any]) -> Build:
    """A run as GitHub describes it, in answers and in webhooks."""
    status, end = str(run.get("status") or ""), str(run.get("conclusion") or "")
    state: State = _ENDS.get(end, "failed") if status == "completed" else _STATES.get(status, "unknown")
    return {
        "build": str(run["id"]),
        "state": state,
        "detail": end or status,
        "url": str(run.get("html_url") or ""),
        "started": str(run.get("run_started_at") or ""),
        "finished": str(run.get("updated_at") or "") if status == "completed" else "",
    }


def _number(build: str) -> int:
    if not (build.isascii() and build.isdigit()):
        raise PluginError("INVALID_ARGUMENT", f"{build!r} is no number of a run", field="build")
    return int(build)
