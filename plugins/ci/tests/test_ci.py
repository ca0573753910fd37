"""Builds that are started, followed and read, at servers that answer as GitHub and Jenkins do."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from builds.operations import plugin
from ci_servers import LOG, TOKEN, USER, Answered, FakeGitHub, FakeJenkins, FakeServer, run_of
from consort.plugin import PluginError
from consort.plugin.testing import Outcome, PluginProcess, invoke

FOLDER = Path(__file__).resolve().parent.parent
SECRETS = {"ci-github": TOKEN, "ci-jenkins": TOKEN, "ci-webhook": "It's a Secret to Everybody"}


@pytest.fixture
def store() -> Iterator[FakeServer]:
    """Where GitHub's logs are."""
    with FakeServer() as found:
        yield found


@pytest.fixture
def github(store: FakeServer) -> Iterator[FakeGitHub]:
    """GitHub."""
    with FakeGitHub(store.url) as found:
        yield found


@pytest.fixture
def jenkins() -> Iterator[FakeJenkins]:
    """Jenkins."""
    with FakeJenkins() as found:
        yield found


def at_github(server: FakeServer, **more: Any) -> dict[str, Any]:
    return {"services": {"default": {"repository": "acme/app", "url": server.url, **more}}}


def at_jenkins(server: FakeServer, **more: Any) -> dict[str, Any]:
    return {"services": {"default": {"kind": "jenkins", "url": f"{server.url}/ci/", "user": USER, **more}}}


def done(config: dict[str, Any], operation: str, given: dict[str, Any], **options: Any) -> Outcome:
    whole = {"pause_s": 0.001, "poll_s": 0.001, **config}
    return invoke(plugin, operation, given, config=whole, **{"secrets": SECRETS, **options})


def failed(config: dict[str, Any], operation: str, given: dict[str, Any], **options: Any) -> PluginError:
    with pytest.raises(PluginError) as caught:
        done(config, operation, given, **options)
    assert TOKEN not in str(caught.value)
    return caught.value


def test_a_workflow_of_github_is_started_followed_and_read(github: FakeGitHub, store: FakeServer) -> None:
    config = at_github(github)
    started = done(config, "start", {"what": "ci.yml", "ref": "main", "inputs": {"level": "2"}})
    assert (started.output["build"], started.output["state"]) == ("77", "queued")
    assert started.actions == ["started ci.yml of 'default' at main: 77"]
    sent = github.asked[0]
    assert json.loads(sent.body) == {"ref": "main", "inputs": {"level": "2"}, "return_run_details": True}
    assert sent.headers["x-github-api-version"] == "2022-11-28"
    waited = done(config, "wait", {"build": "77"})
    assert waited.output == {
        "build": "77",
        "state": "succeeded",
        "detail": "success",
        "url": "https://github.com/runs/77",
        "started": "2026-03-01T10:00:00Z",
        "finished": "2026-03-01T10:05:00Z",
    }
    assert [message for _, message in waited.progress] == ["queued: queued", "running: in_progress"]
    read = done(config, "logs", {"build": "77"})
    assert read.data.decode() == f"=== build (success)\n{LOG}=== deploy (in_progress)\n"
    assert read.media_type == "text/plain; charset=utf-8"
    # The token is for GitHub, and for nobody to whom it links.
    assert [("authorization" in each.headers, each.path) for each in store.asked] == [(False, "/log")]
    assert done(config, "cancel", {"build": "77"}).actions == ["cancelled 77 of 'default'"]


def test_a_job_of_jenkins_is_started_followed_and_read(jenkins: FakeJenkins) -> None:
    config = at_jenkins(jenkins, jobs=["team/app"])
    started = done(config, "start", {"what": "team/app", "inputs": {"LEVEL": "a b&c"}}).output
    assert (started["build"], started["state"]) == ("queue/9", "queued")
    assert jenkins.asked[0].body == b"LEVEL=a+b%26c"
    waited = done(config, "wait", {"build": "queue/9"})
    assert waited.output == {
        "build": "job/team/app/12",
        "state": "failed",
        "detail": "UNSTABLE",
        "url": "https://jenkins.internal/ci/job/team/job/app/12/",
        "started": "2026-03-01T10:00:00+00:00",
        "finished": "2026-03-01T10:00:05+00:00",
    }
    assert [message for _, message in waited.progress] == [
        "queued: In the quiet period. Expires in 2.4 sec",
        "running: BUILDING",
    ]
    for build in ("queue/9", "job/team/app/12"):
        assert done(config, "logs", {"build": build}).data.decode() == LOG
        done(config, "cancel", {"build": build})
    done(config, "start", {"what": "team/app"})
    assert jenkins.asked[-1].path == "/ci/job/team/job/app/build"
    error = failed(config, "start", {"what": "team/other"})
    assert (error.code, list(error.violations)) == (grpc.StatusCode.PERMISSION_DENIED, ["what"])


def test_a_public_server_does_not_link_inside(
    github: FakeGitHub, store: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builds.web.is_public", lambda _address: True)
    error = failed(at_github(github), "logs", {"build": "77"})
    assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ADDRESS_REFUSED")
    assert store.asked == []


@pytest.mark.parametrize(
    ("status", "conclusion", "state"),
    [
        ("queued", None, "queued"),
        ("waiting", None, "queued"),
        ("in_progress", None, "running"),
        ("completed", "success", "succeeded"),
        ("completed", "skipped", "cancelled"),
        ("completed", "cancelled", "cancelled"),
        ("completed", "timed_out", "failed"),
        ("completed", "failure", "failed"),
        ("something_new", None, "unknown"),
    ],
)
def test_words_of_github_are_states(github: FakeGitHub, status: str, conclusion: str | None, state: str) -> None:
    github.troubles = [Answered(200, run_of(status, conclusion))]
    assert done(at_github(github), "status", {"build": "77"}).output["state"] == state


def test_what_fails_in_passing_is_asked_again_but_a_start_is_not(github: FakeGitHub) -> None:
    config = at_github(github)
    limited = Answered(403, {"message": "rate limit"}, {"x-ratelimit-remaining": "0", "retry-after": "0"})
    github.troubles = [Answered(502), limited, Answered(429)]
    outcome = done(config, "status", {"build": "77"})
    assert len(outcome.logs) == 3
    github.troubles = [Answered(502)]
    given = {"what": "ci.yml", "ref": "main"}
    error = failed(config, "start", given)
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "OUTCOME_UNKNOWN")
    github.troubles = [limited]
    assert done(config, "start", given).output["build"] == "77"
    github.troubles = [Answered(422, {"message": "No ref found for: main"})]
    error = failed(config, "start", given)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.message.endswith("answered 422: No ref found for: main")
    github.troubles = [Answered(204)]
    assert done(config, "start", given).output["build"] == ""


def test_a_wait_ends_with_its_caller(github: FakeGitHub) -> None:
    github.troubles = [Answered(200, run_of("in_progress", None))] * 1000
    began = time.monotonic()
    with pytest.raises(PluginError, match="DEADLINE_EXCEEDED"):
        done(at_github(github), "wait", {"build": "77"}, timeout=0.3)
    assert time.monotonic() - began < 3.0


def test_refusals_are_told(github: FakeGitHub, jenkins: FakeJenkins) -> None:
    wrong = {**SECRETS, "ci-github": "wrong"}
    error = failed(at_github(github), "status", {"build": "77"}, secrets=wrong)
    assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SERVICE_REFUSED")
    assert error.message.endswith("answered 401: Bad credentials")
    assert failed(at_github(github), "status", {"build": "78"}).code is grpc.StatusCode.NOT_FOUND
    assert failed(at_jenkins(jenkins), "status", {"build": "job/none/1"}).code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("kind", "operation", "given", "field"),
    [
        ("github", "start", {"what": "ci.yml"}, "ref"),
        ("github", "status", {"build": "77/../../.."}, "build"),
        ("github", "status", {"build": "77", "service": "other"}, "service"),
        ("jenkins", "start", {"what": "team/app", "ref": "main"}, "ref"),
        ("jenkins", "start", {"what": "../script"}, "what"),
        ("jenkins", "status", {"build": "12"}, "build"),
        ("jenkins", "status", {"build": "job/a/../../b/1"}, "what"),
    ],
)
def test_bad_input_is_named(kind: str, operation: str, given: dict[str, Any], field: str) -> None:
    with FakeServer() as server:
        config = at_github(server) if kind == "github" else at_jenkins(server)
        assert list(failed(config, operation, given).violations) == [field]
        assert server.asked == []


def test_a_dry_run_asks_nobody() -> None:
    with FakeServer() as server:
        for operation, given in (("start", {"what": "ci.yml", "ref": "main"}), ("cancel", {"build": "77"})):
            outcome = done(at_github(server), operation, given, dry_run=True, secrets={})
            assert outcome.would[0].startswith(f"{operation} ")
        assert server.asked == []


def hook(kind: str, headers: dict[str, str], body: str, **more: Any) -> Any:
    config = {"webhooks": {"default": {"kind": kind, **more}}}
    return done(config, "verify", {"headers": headers, "body": body}).output


def refused(kind: str, headers: dict[str, str], body: str, **more: Any) -> PluginError:
    with pytest.raises(PluginError) as caught:
        hook(kind, headers, body, **more)
    return caught.value


def test_webhooks_of_github_are_checked() -> None:
    # The example of GitHub's documentation, whose body is no JSON: the signature is right, and then it cannot be read.
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    error = refused("github", {"X-Hub-Signature-256": signature}, "Hello, World!")
    assert (error.code, list(error.violations)) == (grpc.StatusCode.INVALID_ARGUMENT, ["body"])
    for headers in (
        {},
        {"X-Hub-Signature-256": ""},
        {"X-Hub-Signature-256": signature[:-1] + "8"},
        {"X-Hub-Signature": "é"},
    ):
        error = refused("github", headers, "Hello, World!")
        assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SIGNATURE_INVALID")
    assert refused("github", {"X-Hub-Signature-256": signature}, "Hello, World?").reason == "SIGNATURE_INVALID"


def test_a_webhook_tells_its_build() -> None:
    body = json.dumps({"action": "completed", "workflow_run": run_of("completed", "failure")})
    digest = hmac.new(SECRETS["ci-webhook"].encode(), body.encode(), hashlib.sha256).hexdigest()
    headers = {"x-hub-signature-256": f"sha256={digest}", "X-GitHub-Event": "workflow_run", "X-GitHub-Delivery": "d-1"}
    found = hook("github", headers, body)
    assert (found["event"], found["delivery"], found["payload"]["action"]) == ("workflow_run", "d-1", "completed")
    assert (found["build"]["build"], found["build"]["state"]) == ("77", "failed")


def test_webhooks_of_others_are_checked() -> None:
    secret = SECRETS["ci-webhook"]
    found = hook("gitlab", {"X-Gitlab-Token": secret, "X-Gitlab-Event": "Pipeline Hook"}, "{}")
    assert (found["event"], found["build"]) == ("Pipeline Hook", None)
    assert refused("gitlab", {"X-Gitlab-Token": secret[:-1]}, "{}").reason == "SIGNATURE_INVALID"

    def signed(stamp: int) -> dict[str, str]:
        digest = hmac.new(secret.encode(), f"m1.{stamp}.{{}}".encode(), hashlib.sha256).digest()
        signature = "v1,AAAA v1," + base64.b64encode(digest).decode()
        return {"webhook-id": "m1", "webhook-timestamp": str(stamp), "webhook-signature": signature}

    now = int(time.time())
    assert hook("standard", signed(now), "{}")["delivery"] == "m1"
    assert list(refused("standard", signed(now - 400), "{}").violations) == ["headers.webhook-timestamp"]
    assert hook("standard", signed(now - 400), "{}", tolerance_s=1000)["delivery"] == "m1"
    assert list(refused("standard", signed(now), "[]").violations) == ["headers.webhook-signature"]


def test_the_process_starts_and_reads(github: FakeGitHub) -> None:
    asyncio.run(_in_a_process(github))


async def _in_a_process(github: FakeGitHub) -> None:
    config = {**at_github(github), "poll_s": 0.01, "webhooks": {"default": {"kind": "github"}}}
    async with PluginProcess(FOLDER, config=config, secrets=SECRETS) as process:
        started = await process.invoke("start", {"what": "ci.yml", "ref": "main"})
        assert (await process.invoke("wait", {"build": started.output["build"]})).output["state"] == "succeeded"
        assert LOG.encode() in (await process.invoke("logs", {"build": "77"})).data
        assert TOKEN not in "".join(process.logs)
