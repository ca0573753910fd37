"""Issues and their comments, which pull requests have, too."""

from typing import Annotated, Any, Literal, TypedDict

from consort.plugin import Call, Limits, PluginError
from forge import shapes
from forge.plugin import At, Body, Limit, Number, Repo, Title, plugin

State = Literal["open", "closed", "all"]
Reason = Literal["completed", "not_planned"]
Names = Annotated[list[Annotated[str, Limits(minLength=1, maxLength=100)]], Limits(maxItems=100)]


class Issues(TypedDict):
    """Issues; `more` says that there are others."""

    issues: list[shapes.Issue]
    more: bool


class Comments(TypedDict):
    """Comments, the oldest first; `more` says that there are others."""

    comments: list[shapes.Comment]
    more: bool


@plugin.operation(effect="read")
def issues(
    call: Call,
    repository: Repo,
    state: State = "open",
    labels: Names | None = None,
    since: Annotated[str, Limits(maxLength=40)] = "",
    limit: Limit = 100,
    server: str = "default",
) -> Issues:
    """Lists issues, the newest first; pull requests are not among them.

    Args:
        labels: Only those with all of these labels.
        since: Only those that changed since this time, as 2026-03-01T00:00:00Z.
        server: Its name in the configuration.

    """
    at = At(call, server, repository)
    query = {"state": state, "labels": ",".join(labels or []), "since": since}
    page = at.api.pages(f"{at.path}/issues", query, limit, lambda each: not each.has("pull_request"))
    return {"issues": [shapes.issue(each) for each in page.found], "more": page.more}


@plugin.operation(effect="read")
def issue(call: Call, repository: Repo, number: Number, server: str = "default") -> shapes.Issue:
    """Reads an issue.

    Args:
        server: Its name in the configuration.

    """
    at = At(call, server, repository)
    return at.api.read(f"{at.path}/issues/{number}", shapes.issue)


@plugin.operation(effect="read")
def comments(call: Call, repository: Repo, number: Number, limit: Limit = 100, server: str = "default") -> Comments:
    """Lists the comments of an issue or a pull request.

    Args:
        server: Its name in the configuration.

    """
    at = At(call, server, repository)
    page = at.api.pages(f"{at.path}/issues/{number}/comments", {}, limit, lambda _each: True)
    return {"comments": [shapes.comment(each) for each in page.found], "more": page.more}


@plugin.operation(effect="write", dry_run=True)
def create_issue(
    call: Call,
    repository: Repo,
    title: Title,
    body: Body = "",
    labels: Names | None = None,
    assignees: Names | None = None,
    server: str = "default",
) -> shapes.Issue | None:
    """Creates an issue.

    Args:
        server: Its name in the configuration.

    """
    at = At(call, server, repository)
    if at.would(f"create the issue {title!r}"):
        return None
    given: dict[str, Any] = {"title": title, "body": body}
    given |= {name: value for name, value in (("labels", labels), ("assignees", assignees)) if value}
    found = at.api.write("POST", f"{at.path}/issues", given, shapes.issue)
    at.did(f"created issue {found['number']} {title!r}")
    return found


@plugin.operation(effect="write", dry_run=True)
def comment(
    call: Call,
    repository: Repo,
    number: Number,
    body: Annotated[str, "Markdown", Limits(minLength=1, maxLength=65_536)],
    server: str = "default",
) -> shapes.Comment | None:
    """Comments on an issue or a pull request.

    Args:
        server: Its name in the configuration.

    """
    at = At(call, server, repository)
    if at.would(f"comment on {number} with {len(body)} characters"):
        return None
    found = at.api.write("POST", f"{at.path}/issues/{number}/comments", {"body": body}, shapes.comment)
    at.did(f"commented on {number} with {len(body)} characters")
    return found


@plugin.operation(effect="idempotent_write", dry_run=True)
def edit_issue(
    call: Call,
    repository: Repo,
    number: Number,
    title: Title | None = None,
    body: Body | None = None,
    state: Literal["open", "closed"] | None = None,
    labels: Names | None = None,
    assignees: Names | None = None,
    server: str = "default",
) -> shapes.Issue | None:
    """Edits an issue: what is given takes the place of what is there.

    Args:
        server: Its name in the configuration.

    """
    given = {"title": title, "body": body, "state": state, "labels": labels, "assignees": assignees}
    return _edited(At(call, server, repository), number, given, "edit", "edited")


@plugin.operation(effect="idempotent_write", dry_run=True)
def close_issue(
    call: Call, repository: Repo, number: Number, reason: Reason = "completed", server: str = "default"
) -> shapes.Issue | None:
    """Closes an issue; one that is closed stays so.

    Args:
        server: Its name in the configuration.

    """
    given = {"state": "closed", "state_reason": reason}
    return _edited(At(call, server, repository), number, given, "close", "closed")


def _edited(at: At, number: int, given: dict[str, Any], would: str, did: str) -> shapes.Issue | None:
    body = {name: value for name, value in given.items() if value is not None}
    if not body:
        raise PluginError("INVALID_ARGUMENT", f"give one of {', '.join(given)}", field="title")
    told = "" if "state_reason" in body else f": {', '.join(body)}"
    if at.would(f"{would} issue {number}{told}"):
        return None
    found = at.api.write("PATCH", f"{at.path}/issues/{number}", body, shapes.issue, repeatable=True)
    at.did(f"{did} issue {number}{told}")
    return found
