"""Repositories, issues and pull requests, as operations tell of them."""

from typing import TypedDict

from forge.found import Found


class Repository(TypedDict):
    """A repository."""

    repository: str
    description: str
    private: bool
    archived: bool
    fork: bool
    default_branch: str
    language: str
    url: str
    pushed: str


class Issue(TypedDict):
    """An issue. `reason` is why it is closed: completed, not_planned, duplicate."""

    number: int
    title: str
    state: str
    reason: str
    body: str
    author: str
    labels: list[str]
    assignees: list[str]
    comments: int
    url: str
    created: str
    updated: str
    closed: str


class Comment(TypedDict):
    """A comment."""

    id: int
    author: str
    body: str
    url: str
    created: str


class Pull(TypedDict):
    """A pull request. `mergeable` is null while GitHub does not know; `merge_sha` is the commit once it is merged."""

    number: int
    title: str
    state: str
    draft: bool
    merged: bool
    mergeable: bool | None
    body: str
    author: str
    labels: list[str]
    head: str
    head_sha: str
    base: str
    merge_sha: str
    url: str
    created: str
    updated: str


class Review(TypedDict):
    """A review."""

    id: int
    state: str
    url: str


class Release(TypedDict):
    """A release."""

    id: int
    tag: str
    name: str
    draft: bool
    prerelease: bool
    url: str


def repository(found: Found) -> Repository:
    """A repository, as GitHub tells of it."""
    return {
        "repository": found.needed("full_name"),
        "description": found.text("description"),
        "private": found.flag("private"),
        "archived": found.flag("archived"),
        "fork": found.flag("fork"),
        "default_branch": found.text("default_branch"),
        "language": found.text("language"),
        "url": found.text("html_url"),
        "pushed": found.text("pushed_at"),
    }


def issue(found: Found) -> Issue:
    """An issue, as GitHub tells of it."""
    return {
        "number": found.number("number"),
        "title": found.text("title"),
        "state": found.needed("state"),
        "reason": found.text("state_reason"),
        "body": found.text("body"),
        "author": found.inside("user").text("login"),
        "labels": [each.text("name") for each in found.each("labels")],
        "assignees": [each.text("login") for each in found.each("assignees")],
        "comments": found.count("comments"),
        "url": found.text("html_url"),
        "created": found.text("created_at"),
        "updated": found.text("updated_at"),
        "closed": found.text("closed_at"),
    }


def comment(found: Found) -> Comment:
    """A comment, as GitHub tells of it."""
    return {
        "id": found.number("id"),
        "author": found.inside("user").text("login"),
        "body": found.text("body"),
        "url": found.text("html_url"),
        "created": found.text("created_at"),
    }


def pull(found: Found) -> Pull:
    """A pull request, as GitHub tells of it."""
    head = found.inside("head")
    merged = found.flag("merged") or found.has("merged_at")
    return {
        "number": found.number("number"),
        "title": found.text("title"),
        "state": found.needed("state"),
        "draft": found.flag("draft"),
        "merged": merged,
        "mergeable": found.maybe("mergeable"),
        "body": found.text("body"),
        "author": found.inside("user").text("login"),
        "labels": [each.text("name") for each in found.each("labels")],
        "head": head.text("label") or head.text("ref"),
        "head_sha": head.needed("sha"),
        "base": found.inside("base").text("ref"),
        "merge_sha": found.text("merge_commit_sha") if merged else "",
        "url": found.text("html_url"),
        "created": found.text("created_at"),
        "updated": found.text("updated_at"),
    }


def review(found: Found) -> Review:
    """A review, as GitHub tells of it."""
    return {"id": found.number("id"), "state": found.text("state"), "url": found.text("html_url")}


def release(found: Found) -> Release:
    """A release, as GitHub tells of it."""
    return {
        "id": found.number("id"),
        "tag": found.needed("tag_name"),
        "name": found.text("name"),
        "draft": found.flag("draft"),
        "prerelease": found.flag("prerelease"),
        "url": found.text("html_url"),
    }
