"""Commits that appear on branches whole or not at all, and releases."""

import base64
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from github_kit import Site, asked, done, failed

from consort.plugin.testing import Outcome
from fake_github import FakeGitHub
from web_servers import Asked, Line, WebServer, reply


@pytest.fixture
def site() -> Iterator[Site]:
    """A server."""
    fake = FakeGitHub()
    with WebServer(fake.reply) as server:
        yield fake, server


def published(site: Site, files: list[dict[str, Any]], **more: Any) -> Outcome:
    return done(site, "publish", {"branch": "main", "message": "Change", "files": files, **more})


def text(path: str, content: str) -> dict[str, Any]:
    return {"path": path, "text": content}


def test_files_change_in_one_commit(site: Site) -> None:
    fake, _ = site
    before = fake.refs["heads/main"]
    files = [
        text("src/a.txt", "zwei é\n"),
        {"path": "run.sh", "text": "#!/bin/sh\n", "executable": True},
        {"path": "logo", "base64": base64.b64encode(b"\xff\0").decode()},
        {"path": "README.md", "delete": True},
        {"path": "none", "delete": True},
    ]
    outcome = published(site, files)
    commit = fake.commits[fake.refs["heads/main"]]
    assert outcome.output == {"branch": "main", "commit": commit["sha"], "changed": True}
    assert outcome.actions == [f"published 5 files on main: {commit['sha']} (acme/app)"]
    assert ([each["sha"] for each in commit["parents"]], commit["message"]) == ([before], "Change")
    assert fake.files() == {"src/a.txt": "zwei é\n".encode(), "run.sh": b"#!/bin/sh\n", "logo": b"\xff\0"}
    assert fake.trees[commit["tree"]["sha"]]["run.sh"][0] == "100755"
    # Once more is nothing more.
    again = published(site, files)
    assert (again.output, again.actions) == ({**outcome.output, "changed": False}, [])


def test_a_branch_begins(site: Site) -> None:
    fake, _ = site
    error = failed(site, "publish", {"branch": "new/x", "message": "m", "files": [text("b", "")]})
    assert (error.code, error.reason, list(error.violations)) == (grpc.StatusCode.NOT_FOUND, "NO_BRANCH", ["branch"])
    outcome = published(site, [text("b", "2")], branch="new/x", base="main")
    assert fake.files("new/x")["b"] == b"2"
    assert "b" not in fake.files()
    assert outcome.output["commit"] == fake.refs["heads/new/x"]
    # Of what is there already a branch begins without a commit.
    same = published(site, [text("src/a.txt", "one\n")], branch="same", base="main").output
    assert same == {"branch": "same", "commit": fake.refs["heads/main"], "changed": True}
    assert failed(site, "publish", {"branch": "z", "base": "none", "message": "m", "files": [text("b", "")]}).code is (
        grpc.StatusCode.NOT_FOUND
    )


def test_what_others_do_meanwhile_stays(site: Site) -> None:
    fake, _ = site

    def meanwhile() -> None:
        head = fake.refs["heads/main"]
        files = fake.trees[fake.commits[head]["tree"]["sha"]]
        fake.refs["heads/main"] = fake.commit(fake.tree({**files, "other": ("100644", b"o")}), [head], "Other")

    fake.before_ref = meanwhile
    outcome = published(site, [text("mine", "m")])
    assert len(outcome.logs) == 1
    assert {"mine", "other"} <= set(fake.files())

    def begins() -> None:
        fake.refs["heads/new"] = fake.refs["heads/main"]

    fake.before_ref = begins
    assert published(site, [text("mine", "n")], branch="new", base="main").output["changed"]
    assert fake.files("new")["mine"] == b"n"


def test_a_branch_that_is_elsewhere_is_not_changed(site: Site) -> None:
    fake, _ = site
    start = fake.refs["heads/main"]
    first = published(site, [text("b", "1")], parent=start).output
    # A repeat of the same call finds what it did.
    assert published(site, [text("b", "1")], parent=start).output == first
    error = failed(site, "publish", {"branch": "main", "message": "Change", "files": [text("b", "2")], "parent": start})
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BRANCH_MOVED")
    assert fake.refs["heads/main"] == first["commit"]


def test_a_protected_branch_is_said_to_be_one(site: Site) -> None:
    site[0].protected = True
    error = failed(site, "publish", {"branch": "main", "message": "m", "files": [text("b", "1")]})
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "SERVICE_REFUSED")
    assert "through a pull request" in error.message


def test_a_branch_that_never_rests_is_left(site: Site) -> None:
    fake, _ = site

    def meanwhile() -> None:
        head = fake.refs["heads/main"]
        fake.refs["heads/main"] = fake.commit(fake.commits[head]["tree"]["sha"], [head], "Other")
        fake.before_ref = meanwhile

    fake.before_ref = meanwhile
    error = failed(site, "publish", {"branch": "main", "message": "m", "files": [text("b", "1")]})
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "BRANCH_MOVED")


@pytest.mark.parametrize("branch", ["main", "new"])
def test_every_step_may_be_lost_once(site: Site, branch: str) -> None:
    fake, server = site

    def works_and_hangs_up(_line: Line, asked: Asked) -> None:
        """It is done, and nobody hears of it."""
        fake._answered(asked)

    coded = base64.b64encode(b"\xff").decode()
    files: list[dict[str, Any]] = [{"path": "logo", "base64": coded}, {"path": "README.md", "delete": True}]
    steps = 0
    while True:
        whole = FakeGitHub()
        fake.__dict__.update(whole.__dict__)
        server.asked.clear()
        server.replies = [fake.reply] * steps + [works_and_hangs_up, fake.reply]
        outcome = published(site, files, branch=branch, base="main")
        assert fake.files(branch) == {"src/a.txt": b"one\n", "logo": b"\xff"}
        head = fake.commits[fake.refs[f"heads/{branch}"]]
        assert (outcome.output["commit"], len(head["parents"])) == (head["sha"], 1)
        if len(server.replies) > 1:
            break  # The lost step was beyond the last.
        steps += 1
    assert steps >= 7


def test_nothing_is_seen_until_all_is_there(site: Site) -> None:
    fake, server = site
    before = dict(fake.refs)
    server.replies = [*[fake.reply] * 3, reply(500)]
    given = {"branch": "main", "message": "m", "files": [text("b", "1")]}
    assert failed(site, "publish", given).code is grpc.StatusCode.UNAVAILABLE
    assert fake.refs == before
    assert not any(each.startswith("PATCH") for each in asked(site))


@pytest.mark.parametrize(
    ("files", "field"),
    [
        ([], "files"),
        ([{"path": "a"}], "files[0]"),
        ([{"path": "a", "text": "x", "delete": True}], "files[0]"),
        ([text("a", ""), text("a", "")], "files[1].path"),
        ([text("../a", "")], "files[0].path"),
        ([text(".git/config", "")], "files[0].path"),
        ([text("a//b", "")], "files[0].path"),
        ([{"path": "a", "base64": "é"}], "files[0].base64"),
    ],
)
def test_bad_files_are_named(site: Site, files: list[dict[str, Any]], field: str) -> None:
    error = failed(site, "publish", {"branch": "main", "message": "m", "files": files})
    assert list(error.violations) == [field]
    assert site[1].connections == 0


def test_a_release_is_created_once(site: Site) -> None:
    given = {"tag": "v1.0.0", "name": "One", "body": "notes", "target": "main", "prerelease": True}
    outcome = done(site, "create_release", given)
    assert outcome.output == {
        "id": 1,
        "tag": "v1.0.0",
        "name": "One",
        "draft": False,
        "prerelease": True,
        "url": "https://github.com/acme/app/releases/tag/v1.0.0",
    }
    assert outcome.actions == ["created the release v1.0.0 (acme/app)"]
    error = failed(site, "create_release", given)
    assert error.message.endswith("Validation Failed (Release.tag_name: already_exists)")
