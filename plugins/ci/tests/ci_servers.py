"""Servers that answer as GitHub and Jenkins do, each with one build that goes on by a step whenever it is looked at."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, urlsplit

TOKEN, USER = "ghp_S3cretToken0123456789", "robot"
LOG = "compiling é\ntests pass\n"


class Asked(NamedTuple):
    """A request."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


class Answered(NamedTuple):
    """What is answered."""

    status: int
    body: Any = b""
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed.


class FakeServer:
    """A server on a free port. `asked` has the requests; `troubles` are answered first, whatever is asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.troubles: list[Answered] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            """Hands requests over."""

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers.get("content-length", "0")))
                asked = Asked(self.command, parts.path, parse_qs(parts.query), headers, body)
                fake.asked.append(asked)
                said = fake.troubles.pop(0) if fake.troubles else fake.answer(asked)
                content = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
                self.send_response(said.status)
                kind = "application/octet-stream" if isinstance(said.body, bytes) else "application/json"
                for name, value in {"content-type": kind, "content-length": str(len(content)), **said.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_words: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, asked: Asked) -> Answered:
        """What is answered to a request."""
        return Answered(200, LOG.encode())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class FakeGitHub(FakeServer):
    """The repository acme/app; `store` is the server that has the logs."""

    def __init__(self, store: str) -> None:
        super().__init__()
        self._store = store
        self._steps = [("queued", None), ("in_progress", None), ("completed", "success")]

    def answer(self, asked: Asked) -> Answered:
        """As the REST API documents it."""
        if asked.headers.get("authorization") != f"Bearer {TOKEN}":
            return Answered(401, {"message": "Bad credentials"})
        inside = asked.path.removeprefix("/repos/acme/app/actions")
        if (asked.method, inside) == ("POST", "/workflows/ci.yml/dispatches"):
            run = {"workflow_run_id": 77, "run_url": f"{self.url}/runs/77", "html_url": "https://github.com/runs/77"}
            return Answered(200, run) if json.loads(asked.body).get("return_run_details") else Answered(204)
        if (asked.method, inside) == ("GET", "/runs/77"):
            status, conclusion = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
            return Answered(200, run_of(status, conclusion))
        if (asked.method, inside) == ("GET", "/runs/77/jobs"):
            jobs = [
                {"id": 5, "name": "build", "status": "completed", "conclusion": "success"},
                {"id": 6, "name": "deploy", "status": "in_progress", "conclusion": None},
            ]
            return Answered(200, {"total_count": 2, "jobs": jobs})
        if (asked.method, inside) == ("GET", "/jobs/5/logs"):
            return Answered(302, b"", {"location": f"{self._store}/log?sig=abc"})
        if (asked.method, inside) == ("POST", "/runs/77/cancel"):
            return Answered(202, {})
        return Answered(404, {"message": "Not Found"})


def run_of(status: str, conclusion: str | None) -> dict[str, Any]:
    """A run, with the fields of it that matter."""
    return {
        "id": 77,
        "status": status,
        "conclusion": conclusion,
        "html_url": "https://github.com/runs/77",
        "run_started_at": "2026-03-01T10:00:00Z",
        "updated_at": "2026-03-01T10:05:00Z",
    }


class FakeJenkins(FakeServer):
    """The job `team/app`, below the path /ci; it calls itself by another name than it is reached by."""

    def __init__(self) -> None:
        super().__init__()
        self._waits = 2
        self._builds = 2

    def answer(self, asked: Asked) -> Answered:
        """As the remote access API documents it."""
        expected = base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()
        if asked.headers.get("authorization") != f"Basic {expected}":
            return Answered(401, b"<html>")
        inside = asked.path.removeprefix("/ci")
        if (asked.method, inside) in (
            ("POST", "/job/team/job/app/buildWithParameters"),
            ("POST", "/job/team/job/app/build"),
        ):
            return Answered(201, b"", {"location": "https://jenkins.internal/ci/queue/item/9/"})
        if inside == "/queue/item/9/api/json":
            self._waits -= 1
            if self._waits >= 0:
                return Answered(200, {"id": 9, "why": "In the quiet period. Expires in 2.4 sec", "cancelled": False})
            begun = {"number": 12, "url": "https://jenkins.internal/ci/job/team/job/app/12/"}
            return Answered(200, {"id": 9, "why": None, "cancelled": False, "executable": begun})
        if inside == "/job/team/job/app/12/api/json":
            self._builds -= 1
            is_building = self._builds >= 0
            found = {"number": 12, "building": is_building, "result": None if is_building else "UNSTABLE"}
            place = {"url": "https://jenkins.internal/ci/job/team/job/app/12/"}
            return Answered(
                200, {**found, **place, "timestamp": 1_772_359_200_000, "duration": 0 if is_building else 5000}
            )
        if inside == "/job/team/job/app/12/logText/progressiveText":
            start, whole = int(asked.query["start"][0]), LOG.encode()
            end = min(start + 10, len(whole))
            more = {"x-more-data": "true"} if end < len(whole) else {}
            return Answered(200, whole[start:end], {"x-text-size": str(end), **more})
        if inside in ("/job/team/job/app/12/stop", "/queue/cancelItem"):
            return Answered(204)
        return Answered(404, b"<html>")
