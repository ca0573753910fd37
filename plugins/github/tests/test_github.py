"""Repositories, issues and pull requests, at a server that answers as GitHub does."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from github_kit import SECRETS, Site, asked, done, failed
from google.rpc.error_details_pb2 import RetryInfo

from consort.plugin.testing import PluginProcess
from fake_github import DIFF, TOKEN, FakeGitHub
from web_servers import Asked, Line, WebServer, raw, reply

FOLDER = Path(__file__).resolve().parent.parent


@pytest.fixture
def site() -> Iterator[Site]:
    """A server."""
    fake = FakeGitHub()
    with WebServer(fake.reply) as server:
        yield fake, server


def test_repositories_are_told(site: Site) -> None:
    found = done(site, "repository", {}).output
    assert found == {
        "repository": "acme/app",
        "description": "",
        "private": False,
        "archived": False,
        "fork": False,
        "default_branch": "main",
        "language": "Rust",
        "url": "https://github.com/acme/app",
        "pushed": "2026-03-01T10:00:00Z",
    }
    request = site[1].asked[0]
    assert (request.headers["accept"], request.headers["user-agent"]) == (
        "application/vnd.github+json",
        "consort-github/0.1",
    )
    # One that was renamed is found under its new name.
    assert done(site, "repository", {"repository": "acme/old"}).output["repository"] == "acme/app"
    for owner, path in (("", "/user/repos"), ("acme", "/orgs/acme/repos"), ("ada", "/users/ada/repos")):
        listed = done(site, "repositories", {"owner": owner}).output
        assert [each["repository"] for each in listed["repositories"]] == ["acme/app", "acme/tools"]
        assert asked(site)[-1].startswith(f"GET {path}?")


def test_contents_are_read(site: Site) -> None:
    fake = site[0]
    fake.refs["heads/big"] = fake.commit(
        fake.tree({"big": ("100644", b"x" * 2_000_000), "bin": ("100644", b"\xff\0"), "ä b/#c?": ("100644", b"odd")}),
        [],
        "big",
    )
    found = done(site, "contents", {"path": "src/a.txt"}).output
    assert (found["kind"], found["text"], found["base64"], found["size_bytes"]) == ("file", "one\n", None, 4)
    assert done(site, "contents", {"path": "bin", "ref": "big"}).output["base64"] == "/wA="
    assert done(site, "contents", {"path": "ä b/#c?", "ref": "big"}).output["text"] == "odd"
    root = done(site, "contents", {}).output
    assert [(each["path"], each["kind"]) for each in root["entries"]] == [("README.md", "file"), ("src", "dir")]
    assert done(site, "contents", {"path": "src"}).output["entries"][0]["path"] == "src/a.txt"
    error = failed(site, "contents", {"path": "big", "ref": "big"})
    assert (error.reason, list(error.violations)) == ("FILE_TOO_LARGE", ["path"])
    outcome = done(site, "download", {"path": "big", "ref": "big"})
    assert (len(outcome.data), outcome.media_type) == (2_000_000, "application/octet-stream")
    assert failed(site, "download", {"path": "src"}).reason == "NO_FILE"
    assert failed(site, "contents", {"path": "none"}).code is grpc.StatusCode.NOT_FOUND


def test_issues_are_listed_page_by_page(site: Site) -> None:
    fake, _ = site
    for number in range(1, 251):
        is_pull = number % 5 == 0
        fake.add_issue(f"Issue {number}", **({"pull_request": {"url": ""}} if is_pull else {}))
    found = done(site, "issues", {"limit": 150}).output
    assert (len(found["issues"]), found["more"]) == (150, True)
    assert (found["issues"][0]["number"], found["issues"][-1]["number"]) == (249, 63)
    assert [path.partition("?")[2] for path in asked(site)] == [
        "state=open&per_page=100",
        "state=open&per_page=100&page=2",
    ]
    every = done(site, "issues", {"limit": 1000}).output
    assert (len(every["issues"]), every["more"]) == (200, False)
    few = done(site, "issues", {"limit": 3, "labels": ["bug"], "state": "all"}).output
    assert few == {"issues": [], "more": False}
    assert asked(site)[-1].endswith("state=all&labels=bug&per_page=3")


def test_issues_are_created_discussed_and_closed(site: Site) -> None:
    fake, _ = site
    given = {"title": "It «breaks»", "body": "é", "labels": ["bug"], "assignees": ["ada"]}
    created = done(site, "create_issue", given)
    assert {name: created.output[name] for name in ("number", "title", "state", "labels", "assignees")} == {
        "number": 1,
        "title": "It «breaks»",
        "state": "open",
        "labels": ["bug"],
        "assignees": ["ada"],
    }
    assert created.actions == ["created issue 1 'It «breaks»' (acme/app)"]
    said = done(site, "comment", {"number": 1, "body": "Seen."})
    assert (said.output["id"], said.output["author"], said.output["body"]) == (1, "ada", "Seen.")
    assert done(site, "comments", {"number": 1}).output == {"comments": [said.output], "more": False}
    for _ in range(2):  # Twice is once.
        closed = done(site, "close_issue", {"number": 1, "reason": "not_planned"}).output
        assert (closed["state"], closed["reason"], closed["closed"]) == (
            "closed",
            "not_planned",
            "2026-03-02T10:00:00Z",
        )
    edited = done(site, "edit_issue", {"number": 1, "title": "New", "state": "open"})
    assert (edited.output["title"], edited.actions) == ("New", ["edited issue 1: title, state (acme/app)"])
    assert done(site, "issue", {"number": 1}).output["title"] == "New"
    assert failed(site, "issue", {"number": 9}).code is grpc.StatusCode.NOT_FOUND
    assert fake.issues[1]["labels"] == [{"name": "bug"}]


def test_pull_requests_are_made_reviewed_and_merged(site: Site) -> None:
    fake, _ = site
    made = done(site, "create_pull", {"title": "Mend", "head": "acme:change", "base": "main", "draft": True})
    assert (made.output["number"], made.output["draft"], made.output["merged"]) == (1, True, False)
    assert made.actions == ["created pull request 1 'Mend' from acme:change into main (acme/app)"]
    assert (made.output["head"], made.output["mergeable"], made.output["merge_sha"]) == ("acme:change", None, "")
    assert done(site, "pull", {"number": 1}).output == made.output
    assert done(site, "pulls", {"base": "main"}).output == {"pulls": [made.output], "more": False}
    read = done(site, "diff", {"number": 1})
    assert (read.data.decode(), read.media_type) == (DIFF, "text/x-diff; charset=utf-8")
    remarks = [{"path": "a.txt", "line": 3, "start_line": 1, "body": "why?"}]
    review = done(site, "review_pull", {"number": 1, "event": "REQUEST_CHANGES", "body": "no", "comments": remarks})
    assert (review.output["id"], review.output["state"]) == (80, "COMMENTED")
    remark = {**remarks[0], "side": "RIGHT", "start_side": "RIGHT"}
    assert fake.reviews == [{"event": "REQUEST_CHANGES", "body": "no", "comments": [remark]}]
    error = failed(site, "merge_pull", {"number": 1, "sha": "0" * 40})
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    assert "Head branch was modified" in error.message
    merged = done(site, "merge_pull", {"number": 1, "method": "squash", "title": "Mend (1)"})
    sha = fake.pulls[1]["merge_commit_sha"]
    assert (merged.output, merged.actions[0]) == (
        {"sha": sha, "already": False},
        f"merged pull request 1 by squash: {sha} (acme/app)",
    )
    again = done(site, "merge_pull", {"number": 1})
    assert (again.output, again.actions) == ({"sha": sha, "already": True}, [])


def test_a_merge_whose_answer_was_lost_is_found(site: Site) -> None:
    fake, server = site
    fake.add_pull(1)

    def merges_and_hangs_up(_line: Line, asked: Asked) -> None:
        """It is done, and nobody hears of it."""
        fake._answered(asked)

    server.replies = [fake.reply, merges_and_hangs_up, fake.reply]
    outcome = done(site, "merge_pull", {"number": 1})
    assert outcome.output == {"sha": fake.pulls[1]["merge_commit_sha"], "already": False}
    assert [each.method for each in server.asked] == ["GET", "PUT", "PUT", "GET"]


@pytest.mark.parametrize(
    ("operation", "given"),
    [
        ("create_issue", {"title": "x"}),
        ("comment", {"number": 1, "body": "x"}),
        ("create_pull", {"title": "x", "head": "a", "base": "main"}),
        ("review_pull", {"number": 1, "event": "APPROVE"}),
        ("create_release", {"tag": "v1"}),
    ],
)
@pytest.mark.parametrize(
    "said",
    [
        raw(b""),
        reply(502, {"content-type": "text/html"}, "<html>Unicorn!</html>"),
        reply(201, {}, "<html>"),
        reply(201, {}, "{}"),
        reply(201, {}, "[1]"),
        raw(b"HTTP/1.1 201 Created\r\ncontent-length: 900\r\n\r\n{"),
    ],
)
def test_what_is_created_is_not_created_twice(site: Site, operation: str, given: dict[str, Any], said: Any) -> None:
    site[1].replies = [said, site[0].reply]
    error = failed(site, operation, given)
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "OUTCOME_UNKNOWN")
    assert len(site[1].asked) == 1


@pytest.mark.parametrize(
    "said",
    [
        reply(403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1", "content-type": "application/json"}, "{}"),
        reply(429, {"retry-after": "0"}, ""),
        reply(403, {"retry-after": "0", "content-type": "application/json"}, '{"message": "secondary rate limit"}'),
    ],
)
def test_limits_are_waited_for(site: Site, said: Any) -> None:
    site[1].replies = [said, site[0].reply]
    outcome = done(site, "create_issue", {"title": "x"})
    assert (outcome.output["number"], len(outcome.logs), len(site[0].issues)) == (1, 1, 1)


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time()) + 1800)}, "API rate limit", 1800),
        ({"retry-after": "120"}, "You have exceeded a secondary rate limit.", 120),
        ({}, "You have exceeded a secondary rate limit. Please wait.", 60),
    ],
)
def test_limits_that_last_are_told(site: Site, headers: dict[str, str], message: str, seconds: int) -> None:
    said = reply(403, {"content-type": "application/json", **headers}, f'{{"message": "{message}"}}')
    site[1].replies = [said, site[0].reply]
    error = failed(site, "issues", {}, config={"longest_wait_s": 30})
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert message in error.message
    (retry,) = [each for each in error.details if isinstance(each, RetryInfo)]
    assert seconds - 120 < retry.retry_delay.seconds <= seconds
    assert len(site[1].asked) == 1


def test_refusals_are_told(site: Site) -> None:
    error = failed(site, "create_pull", {"title": "x", "head": "none", "base": "main"})
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "SERVICE_REFUSED")
    assert error.message.endswith("answered 422: Validation Failed (PullRequest.head: invalid)")
    error = failed(site, "repository", {}, secrets={"github-token": "wrong"})
    assert (error.code, error.message.endswith("401: Bad credentials")) == (grpc.StatusCode.PERMISSION_DENIED, True)
    site[1].replies = [reply(403, {"content-type": "application/json"}, '{"message": "Resource not accessible"}')]
    error = failed(site, "issues", {})
    assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "SERVICE_REFUSED")
    site[1].replies = [
        reply(422, {"content-type": "application/json"}, f'{{"message": "x", "errors": ["y", "{TOKEN}"]}}')
    ]
    assert failed(site, "issues", {}).message.endswith("x (y; ***)")


@pytest.mark.parametrize(
    "body",
    ["", "<html>", "[]", "null", '{"number": "1"}', '{"number": true, "state": "open"}', "[" * 50_000, '{"state": 1}'],
)
def test_broken_answers_are_said_to_be(site: Site, body: str) -> None:
    site[1].replies = [reply(200, {"content-type": "application/json"}, body)]
    error = failed(site, "issue", {"number": 1})
    assert (error.code, error.reason) == (grpc.StatusCode.UNAVAILABLE, "BROKEN_ANSWER")
    if body != "[]":
        assert failed(site, "issues", {}).reason == "BROKEN_ANSWER"


def test_the_token_goes_to_the_server_only(site: Site) -> None:
    with WebServer() as other:
        site[1].replies = [reply(302, {"location": f"{other.url}/x"})]
        error = failed(site, "repository", {})
        assert error.reason == "HOST_NOT_GRANTED"
        site[1].replies = [reply(200, {"link": f'<{other.url}/x>; rel="next"'}, "[]")]
        assert failed(site, "issues", {}).reason == "BROKEN_ANSWER"
        site[1].replies = [reply(200, {"link": '<http://user:pass@x/>; rel="next"'}, "[]")]
        assert failed(site, "issues", {}).reason == "BROKEN_ANSWER"
        assert other.connections == 0


def test_pages_without_end_end(site: Site) -> None:
    site[1].replies = [reply(200, {"link": f'<{site[1].url}/again>; rel="next"'}, "[]")]
    assert done(site, "issues", {}).output == {"issues": [], "more": True}
    assert len(site[1].asked) == 50


def test_only_granted_repositories_are_touched(site: Site) -> None:
    place = {"repositories": ["Acme/APP", "other/*"]}
    assert done(site, "repository", {}, place=place).output["repository"] == "acme/app"
    listed = done(site, "repositories", {}, place=place).output
    assert [each["repository"] for each in listed["repositories"]] == ["acme/app"]
    error = failed(site, "issues", {"repository": "acme/tools"}, place=place)
    assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "REPOSITORY_NOT_GRANTED")
    assert list(error.violations) == ["repository"]


@pytest.mark.parametrize(
    ("operation", "given", "field"),
    [
        ("repository", {"repository": "acme"}, "repository"),
        ("repository", {"repository": "acme/.."}, "repository"),
        ("repository", {"repository": "acme/a/b"}, "repository"),
        ("repository", {"server": "other"}, "server"),
        ("repositories", {"owner": ".."}, "owner"),
        ("contents", {"path": "../../../user"}, "path"),
        ("contents", {"path": "/etc"}, "path"),
        ("contents", {"path": "a", "ref": "a..b"}, "ref"),
        ("issue", {"number": 0}, "number"),
        ("edit_issue", {"number": 1}, "title"),
        ("review_pull", {"number": 1}, "body"),
        ("review_pull", {"number": 1, "comments": [{"path": "../x", "line": 1, "body": "x"}]}, "comments[0].path"),
        ("create_pull", {"title": "x", "head": "a b", "base": "main"}, "head"),
        ("create_release", {"tag": "v1~2"}, "tag"),
        ("merge_pull", {"number": 1, "sha": "main"}, "sha"),
    ],
)
def test_bad_input_is_named(site: Site, operation: str, given: dict[str, Any], field: str) -> None:
    assert list(failed(site, operation, given).violations) == [field]
    assert site[1].connections == 0


@pytest.mark.parametrize(
    ("operation", "given", "would"),
    [
        ("create_issue", {"title": "x"}, "create the issue 'x'"),
        ("comment", {"number": 1, "body": "xyz"}, "comment on 1 with 3 characters"),
        ("edit_issue", {"number": 1, "title": "x"}, "edit issue 1: title"),
        ("close_issue", {"number": 1}, "close issue 1"),
        ("create_pull", {"title": "x", "head": "a", "base": "main"}, "create the pull request 'x' from a into main"),
        ("review_pull", {"number": 1, "event": "APPROVE"}, "review pull request 1: APPROVE, with comments on 0 lines"),
        ("merge_pull", {"number": 1}, "merge pull request 1 by merge"),
        ("publish", {"branch": "b", "message": "m", "files": [{"path": "x", "text": ""}]}, "publish 1 files on b: x"),
        ("create_release", {"tag": "v1"}, "create the release v1"),
    ],
)
def test_a_dry_run_asks_nobody(site: Site, operation: str, given: dict[str, Any], would: str) -> None:
    outcome = done(site, operation, given, dry_run=True, secrets={})
    assert (outcome.output, outcome.would, outcome.actions) == (None, [f"{would} (acme/app)"], [])
    assert site[1].connections == 0


def test_bad_settings_are_named(site: Site) -> None:
    error = failed(site, "repository", {}, place={"url": "https://u:p@github.test", "repositories": ["acme"]})
    assert list(error.violations) == ["servers.default.url", "servers.default.repositories[0]"]


def test_enterprise_is_asked_over_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    fake = FakeGitHub("/api/v3")
    with WebServer(fake.reply, authority=authority) as server:
        config = {"ca_file": str(tmp_path / "ca.pem")}
        assert done((fake, server), "repository", {}, config=config).output["repository"] == "acme/app"
        assert asked((fake, server)) == ["GET /api/v3/repos/acme/app"]
        error = failed((fake, server), "repository", {})
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_TRUSTED")


def test_the_process_starts_and_logs_no_token(site: Site) -> None:
    asyncio.run(_in_a_process(site))


async def _in_a_process(site: Site) -> None:
    config = {"servers": {"default": {"url": site[1].url}}}
    async with PluginProcess(FOLDER, config=config, secrets=SECRETS) as process:
        effects = {each.name: (each.effect, each.dry_run) for each in process.hello.operations}
        assert len(effects) == 19
        writes = {name for name, (effect, _) in effects.items() if effect == 3}
        assert writes == {"create_issue", "comment", "create_pull", "review_pull", "create_release"}
        assert all(dry_run for effect, dry_run in effects.values() if effect != 1)
        created = await process.invoke("create_issue", {"repository": "acme/app", "title": "x"})
        assert created.output["number"] == 1
        assert TOKEN not in "".join(process.logs)
