"""Pull requests."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import grpc

from consort.plugin import Call, Limits, PluginError
from forge import shapes
from forge.api import Api
from forge.found import Found
from forge.issues import State
from forge.plugin import At, Body, Limit, Number, Ref, Repo, Sha, Title, checked_path, checked_ref, plugin

_DIFF = "application/vnd.github.diff"
_CLASHES = (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT)


class Pulls(TypedDict):
    """Pull requests; `more` says that there are others."""

    pulls: list[shapes.Pull]
    more: bool


class Merged(TypedDict):
    """The commit in which a pull request is; `already` says that it was merged before."""

    sha: str
    already: bool


@dataclass
class Remark:
    """A comment on lines of a file, as they are after the change or, on the side LEFT, before it."""

    path: str
    line: Annotated[int, Limits(minimum=1)]
    body: Annotated[str, Limits(minLength=1, maxLength=65_536)]
    side: Literal["LEFT", "RIGHT"] = "RIGHT"
    start_line: Annotated[int, Limits(minimum=1)] | None = None


@plugin.operation(effect="read")
def pulls(
    call: Call,
    repository: Repo,
    state: State = "open",
    head: Ref = "",
    base: Ref = "",
    limit: Limit = 100,
    server: str = "default",
) -> Pulls:
    """Lists pull requests, the newest first; `mergeable` is told by `pull` only.

    Args:
        head: Only those from this branch, as owner:branch.
        base: Only those into this branch.
        server: Its name in the configuration.

    """
    at = At(call, server, repository)
    query = {"state": state, "head": head, "base": base}
    page = at.api.pages(f"{at.path}/pulls", query, limit, lambda _each: True)
    return {"pulls": [shapes.pull(each) for each in page.found], "more": page.more}


@plugin.operation(effect="read")
def pull(call: Call, repository: Repo, number: Number, server: str = "default") -> shapes.Pull:
    """Reads a pull request.

    Args:
        server: Its name in the configuration.

    """
    at = At(call, server, repository)
    return at.api.read(f"{at.path}/pulls/{number}", shapes.pull)


@plugin.operation(effect="read", media_type="text/x-diff; charset=utf-8", timeout=300)
def diff(call: Call, repository: Repo, number: Number, server: str = "default") -> Iterator[bytes]:
    """Reads what a pull request changes, as git's diff.

    Args:
        server: Its name in the configuration.

    """
    at = At(call, server, repository)
    with at.api.opened(f"{at.path}/pulls/{number}", _DIFF) as stream:
        yield from stream.pieces()


@plugin.operation(effect="write", dry_run=True)
def create_pull(
    call: Call,
    repository: Repo,
    title: Title,
    head: Annotated[str, Limits(minLength=1, maxLength=255)],
    base: Annotated[str, Limits(minLength=1, maxLength=255)],
    body: Body = "",
    draft: bool = False,
    server: str = "default",
) -> shapes.Pull | None:
    """Creates a pull request; of two from the same branch into the same, GitHub refuses the second.

    Args:
        head: The branch with the changes, as branch or owner:branch.
        base: The branch into which they shall go.
        server: Its name in the configuration.

    """
    at = At(call, server, repository)
    checked_ref(head.rpartition(":")[2], "head")
    checked_ref(base, "base")
    if at.would(f"create the pull request {title!r} from {head} into {base}"):
        return None
    given = {"title": title, "head": head, "base": base, "body": body, "draft": draft}
    found = at.api.write("POST", f"{at.path}/pulls", given, shapes.pull)
    at.did(f"created pull request {found['number']} {title!r} from {head} into {base}")
    return found


@plugin.operation(effect="write", dry_run=True)
def review_pull(
    call: Call,
    repository: Repo,
    number: Number,
    event: Literal["COMMENT", "APPROVE", "REQUEST_CHANGES"] = "COMMENT",
    body: Body = "",
    comments: Annotated[list[Remark], Limits(maxItems=100)] | None = None,
    commit: Sha = "",
    server: str = "default",
) -> shapes.Review | None:
    """Reviews a pull request, with comments on its lines.

    Args:
        comments: What is said about single lines.
        commit: What was reviewed; left out, the last commit.
        server: Its name in the configuration.

    """
    at = At(call, server, repository)
    remarks = [_remark(each, f"comments[{place}]") for place, each in enumerate(comments or [])]
    if event != "APPROVE" and not body and not remarks:
        raise PluginError("INVALID_ARGUMENT", f"is needed to {event}, or comments are", field="body")
    told = f"pull request {number}: {event}, with comments on {len(remarks)} lines"
    if at.would(f"review {told}"):
        return None
    given: dict[str, Any] = {"event": event, "comments": remarks}
    given |= {name: value for name, value in (("body", body), ("commit_id", commit)) if value}
    found = at.api.write("POST", f"{at.path}/pulls/{number}/reviews", given, shapes.review)
    at.did(f"reviewed {told}")
    return found


@plugin.operation(effect="idempotent_write", dry_run=True)
def merge_pull(
    call: Call,
    repository: Repo,
    number: Number,
    method: Literal["merge", "squash", "rebase"] = "merge",
    title: Annotated[str, Limits(maxLength=256)] = "",
    message: Body = "",
    sha: Sha = "",
    server: str = "default",
) -> Merged | None:
    """Merges a pull request; one that is merged stays so.

    Args:
        title: Of the commit; left out, GitHub's own.
        message: Of the commit; left out, GitHub's own.
        sha: What the head must be; another one is not merged.
        server: Its name in the configuration.

    """
    at = At(call, server, repository)
    if at.would(f"merge pull request {number} by {method}"):
        return None
    api = at.api
    if before := _merged(api, f"{at.path}/pulls/{number}"):
        return {"sha": before, "already": True}
    named = (("commit_title", title), ("commit_message", message), ("sha", sha))
    given = {"merge_method": method, **{name: value for name, value in named if value}}
    try:
        done = api.write("PUT", f"{at.path}/pulls/{number}/merge", given, _sha, repeatable=True)
    except PluginError as error:
        # A try whose answer was lost may have merged it, and then another one is refused.
        if error.code not in _CLASHES or not (done := _merged(api, f"{at.path}/pulls/{number}")):
            raise
    at.did(f"merged pull request {number} by {method}: {done}")
    return {"sha": done, "already": False}


def _merged(api: Api, path: str) -> str:
    """The commit in which a pull request is, empty if it is not merged."""
    return api.read(path, shapes.pull)["merge_sha"]


def _sha(found: Found) -> str:
    return found.needed("sha")


def _remark(remark: Remark, field: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "path": checked_path(remark.path, f"{field}.path"),
        "line": remark.line,
        "side": remark.side,
        "body": remark.body,
    }
    if remark.start_line is not None:
        if remark.start_line >= remark.line:
            raise PluginError("INVALID_ARGUMENT", "is not before `line`", field=f"{field}.start_line")
        found |= {"start_line": remark.start_line, "start_side": remark.side}
    return found
