"""Jenkins, by its remote access API with a user's API token, which needs no crumb."""

import base64
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from builds.build import Build, State
from builds.settings import Jenkins, Settings
from builds.web import Site
from consort.plugin import Call, PluginError

_QUEUED = re.compile(r"queue/(\d{1,18})")
_BUILT = re.compile(r"job/(.{1,500})/(\d{1,18})")
_IN_QUEUE = re.compile(r"/queue/item/(\d+)/?$")
_ENDS: dict[str, State] = {"SUCCESS": "succeeded", "FAILURE": "failed", "UNSTABLE": "failed"}
_ENDS |= {"ABORTED": "cancelled", "NOT_BUILT": "cancelled"}
_FIELDS = "number,building,inProgress,result,url,timestamp,duration"
# Pages of a log in one call; Jenkins decides how long they are.
_MOST_PAGES = 10_000


class Service:
    """A server."""

    def __init__(self, call: Call, settings: Settings, place: Jenkins, secret: str) -> None:
        token = base64.b64encode(f"{place.user}:{secret}".encode()).decode()
        self._site = Site(call, settings, place.url, {"authorization": f"Basic {token}"})
        self._jobs = place.jobs

    def start(self, what: str, ref: str, inputs: dict[str, str]) -> Build:
        """Starts a job, by its full name."""
        if ref:
            raise PluginError("INVALID_ARGUMENT", "Jenkins takes it as one of the inputs, if the job does", field="ref")
        if self._jobs and what not in self._jobs:
            listed = ", ".join(self._jobs)
            raise PluginError("PERMISSION_DENIED", f"only these jobs may be started: {listed}", field="what")
        body = urlencode(inputs).encode() if inputs else b""
        headers = {"content-type": "application/x-www-form-urlencoded"}
        path = f"{_path(what)}/{'buildWithParameters' if inputs else 'build'}"
        answer = self._site.ask("POST", path, body, headers)
        location = answer.headers.get("location", "")
        found = _IN_QUEUE.search(urlsplit(location).path)
        if found is None:
            told = f"Jenkins answered {answer.status} and no place in its queue"
            raise PluginError("ABORTED", told, reason="OUTCOME_UNKNOWN")
        return _waiting(found[1], f"{self._site.url}/queue/item/{found[1]}/", "queued", "queued")

    def status(self, build: str) -> Build:
        """How a build is; one that waited and has begun gets the name of its build."""
        if waits := _QUEUED.fullmatch(build):
            return self._in_queue(waits[1])
        job, number = _parts(build)
        found = self._site.ask("GET", f"{_path(job)}/{number}/api/json?tree={_FIELDS}").json()
        result = str(found.get("result") or "")
        is_over = not (found.get("building") or found.get("inProgress")) and bool(result)
        begun = int(found.get("timestamp") or 0)
        return {
            "build": build,
            "state": _ENDS.get(result, "unknown") if is_over else "running",
            "detail": result or "BUILDING",
            "url": str(found.get("url") or ""),
            "started": _time(begun),
            "finished": _time(begun + int(found.get("duration") or 0)) if is_over else "",
        }

    def cancel(self, build: str) -> None:
        """Takes a build from the queue, or stops it."""
        if waits := _QUEUED.fullmatch(build):
            self._site.ask("POST", f"/queue/cancelItem?id={waits[1]}", b"")
            return
        job, number = _parts(build)
        self._site.ask("POST", f"{_path(job)}/{number}/stop", b"")

    def logs(self, build: str) -> Iterator[bytes]:
        """The console of a build, as far as it is written."""
        if waits := _QUEUED.fullmatch(build):
            build = self._in_queue(waits[1])["build"]
        job, number = _parts(build)
        start = 0
        for _ in range(_MOST_PAGES):
            answer = self._site.ask("GET", f"{_path(job)}/{number}/logText/progressiveText?start={start}")
            size = int(answer.headers.get("x-text-size") or 0)
            if answer.body:
                yield answer.body
            if size <= start or answer.headers.get("x-more-data") != "true":
                return
            start = size

    def _in_queue(self, item: str) -> Build:
        found: dict[str, Any] = self._site.ask("GET", f"/queue/item/{item}/api/json").json()
        url = f"{self._site.url}/queue/item/{item}/"
        if found.get("cancelled"):
            return _waiting(item, url, "cancelled", "cancelled in the queue")
        begun = found.get("executable")
        if not begun:
            return _waiting(item, url, "queued", str(found.get("why") or "queued"))
        # Jenkins may know itself by another address than we do: only the path is taken.
        inside = urlsplit(str(begun["url"])).path.removeprefix(urlsplit(self._site.url).path)
        names = re.findall(r"job/([^/]+)/", inside)
        return self.status(f"job/{'/'.join(names)}/{int(begun['number'])}")


def _waiting(item: str, url: str, state: State, detail: str) -> Build:
    return {"build": f"queue/{item}", "state": state, "detail": detail, "url": url, "started": "", "finished": ""}


def _parts(build: str) -> tuple[str, int]:
    found = _BUILT.fullmatch(build)
    if found is None:
        raise PluginError("INVALID_ARGUMENT", f"{build!r} is neither queue/7 nor job/name/12", field="build")
    return found[1], int(found[2])


def _path(job: str) -> str:
    """The path of a job, whose full name has its folders before it."""
    names = job.split("/")
    if any(name in ("", ".", "..") for name in names):
        raise PluginError("INVALID_ARGUMENT", f"{job!r} is no full name of a job, such as folder/name", field="what")
    # A name that Jenkins told, such as a branch's, is encoded already.
    return "".join(f"/job/{quote(name, safe='%' if '%' in name else '')}" for name in names)


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1e3, UTC).isoformat() if milliseconds else ""
