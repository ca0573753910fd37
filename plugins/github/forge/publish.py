"""Commits and releases."""

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

import grpc

from consort.plugin import Call, Limits, PluginError
from forge import shapes
from forge.api import Api, encoded
from forge.found import Found
from forge.plugin import At, Body, Ref, Repo, Sha, checked_path, checked_ref, plugin

# How often it is begun anew because somebody else changed the branch meanwhile.
_MOST_RACES = 5
_FILE, _PROGRAM = "100644", "100755"
Branch = Annotated[str, Limits(minLength=1, maxLength=255)]


@dataclass
class Change:
    """A file as it shall be: one of `text`, `base64` and `delete`."""

    path: Annotated[str, Limits(minLength=1, maxLength=4096)]
    text: Annotated[str, Limits(maxLength=10_000_000)] | None = None
    base64: Annotated[str, Limits(maxLength=40_000_000)] | None = None
    executable: bool = False
    delete: bool = False


class Published(TypedDict):
    """What the branch is at; `changed` is false if it was so already."""

    branch: str
    commit: str
    changed: bool


@plugin.operation(effect="idempotent_write", dry_run=True, timeout=300)
def publish(
    call: Call,
    repository: Repo,
    branch: Branch,
    message: Annotated[str, Limits(minLength=1, maxLength=65_536)],
    files: Annotated[list[Change], Limits(minItems=1, maxItems=300)],
    base: Ref = "",
    parent: Sha = "",
    server: str = "default",
) -> Published | None:
    """Creates, changes and deletes files of a branch in one commit; if they are so already there is none.

    Args:
        base: The branch, tag or commit from which the branch begins if it is not there yet.
        parent: The commit that the branch must be at; left out, any, and what others do meanwhile stays.
        server: Its name in the configuration.

    """
    at = At(call, server, repository)
    checked_ref(branch, "branch")
    checked_ref(base, "base")
    _check(files)
    told = f"{len(files)} files on {branch}"
    if at.would(f"publish {told}: {', '.join(each.path for each in files)[:500]}"):
        return None
    work = _Work(at, branch, message, files)
    for race in range(1, _MOST_RACES + 1):
        call.raise_if_cancelled()
        try:
            found = work.done(base, parent)
            break
        except _MovedError as moved:
            if race == _MOST_RACES:
                problem = f"'{branch}' was changed by others {race} times meanwhile: {moved}"
                raise PluginError("ABORTED", problem, reason="BRANCH_MOVED") from None
            call.log("warn", f"'{branch}' was changed by others meanwhile; it is begun anew")
    if found["changed"]:
        at.did(f"published {told}: {found['commit']}")
    return found


@plugin.operation(effect="write", dry_run=True)
def create_release(
    call: Call,
    repository: Repo,
    tag: Branch,
    name: Annotated[str, Limits(maxLength=256)] = "",
    body: Body = "",
    target: Ref = "",
    draft: bool = False,
    prerelease: bool = False,
    generate_notes: bool = False,
    server: str = "default",
) -> shapes.Release | None:
    """Creates a release, and its tag if there is none.

    Args:
        target: The branch or commit of a new tag; left out, the default branch.
        generate_notes: Lets GitHub write what changed.
        server: Its name in the configuration.

    """
    at = At(call, server, repository)
    checked_ref(tag, "tag")
    checked_ref(target, "target")
    if at.would(f"create the release {tag}"):
        return None
    given: dict[str, Any] = {"tag_name": tag, "draft": draft, "prerelease": prerelease}
    given |= {key: value for key, value in (("name", name), ("body", body), ("target_commitish", target)) if value}
    if generate_notes:
        given["generate_release_notes"] = True
    found = at.api.write("POST", f"{at.path}/releases", given, shapes.release)
    at.did(f"created the release {tag}")
    return found


class _MovedError(Exception):
    """Somebody else was faster."""


class _Work:
    """A commit on its way; everything but its last step is seen by nobody, and may be done twice."""

    def __init__(self, at: At, branch: str, message: str, files: list[Change]) -> None:
        self._api: Api = at.api
        self._git = f"{at.path}/git"
        self._commits = f"{at.path}/commits"
        self._branch = branch
        self._message = message
        self._entries = [self._entry(each) for each in files if not each.delete]
        self._deleted = [each.path for each in files if each.delete]

    def done(self, base: str, parent: str) -> Published:
        head = self._head()
        if parent and head and head != parent:
            return self._repeated(head, parent)
        start = head or self._begin(base)
        if parent and start != parent:
            raise PluginError("FAILED_PRECONDITION", f"'{base}' is at {start}", field="parent", reason="BRANCH_MOVED")
        before = self._tree_of(start)
        tree = self._tree(before)
        if tree == before:
            if not head:
                self._put(start, head)
            return {"branch": self._branch, "commit": start, "changed": not head}
        given = {"message": self._message, "tree": tree, "parents": [start]}
        commit = self._api.write("POST", f"{self._git}/commits", given, _sha, repeatable=True)
        self._put(commit, head)
        return {"branch": self._branch, "commit": commit, "changed": True}

    def _repeated(self, head: str, parent: str) -> Published:
        """The branch is elsewhere: it may be at what an earlier try of the same call left."""
        found = self._api.read(f"{self._git}/commits/{head}", lambda commit: commit)
        parents = [each.text("sha") for each in found.each("parents")]
        is_ours = parents == [parent] and found.text("message") == self._message
        if is_ours and found.inside("tree").text("sha") == self._tree(self._tree_of(parent)):
            return {"branch": self._branch, "commit": head, "changed": True}
        problem = f"'{self._branch}' is at {head}"
        raise PluginError("FAILED_PRECONDITION", problem, field="parent", reason="BRANCH_MOVED")

    def _head(self) -> str:
        """The commit that the branch is at; empty if there is no branch."""
        try:
            return self._api.read(f"{self._git}/ref/heads/{encoded(self._branch)}", _ref_sha)
        except PluginError as error:
            if error.code is not grpc.StatusCode.NOT_FOUND:
                raise
            return ""

    def _begin(self, base: str) -> str:
        if not base:
            problem = f"there is no branch '{self._branch}'; give `base` to begin one"
            raise PluginError("NOT_FOUND", problem, field="branch", reason="NO_BRANCH")
        return self._api.read(f"{self._commits}/{encoded(base)}", _sha)

    def _tree_of(self, commit: str) -> str:
        return self._api.read(f"{self._git}/commits/{commit}", lambda found: _sha(found.inside("tree")))

    def _tree(self, before: str) -> str:
        """The tree with the changes."""
        gone = [{"path": path, "mode": _FILE, "type": "blob", "sha": None} for path in self._there(before)]
        entries = [*self._entries, *gone]
        if not entries:
            return before
        given = {"base_tree": before, "tree": entries}
        return self._api.write("POST", f"{self._git}/trees", given, _sha, repeatable=True)

    def _there(self, tree: str) -> list[str]:
        """Those files to delete that are there; GitHub refuses to delete others."""
        if not self._deleted:
            return []
        found = self._api.read(f"{self._git}/trees/{tree}", lambda each: each, {"recursive": "1"})
        if found.flag("truncated"):
            return self._deleted
        known = {each.text("path") for each in found.each("tree") if each.text("type") != "tree"}
        return [path for path in self._deleted if path in known]

    def _entry(self, change: Change) -> dict[str, Any]:
        entry: dict[str, Any] = {"path": change.path, "mode": _PROGRAM if change.executable else _FILE, "type": "blob"}
        if change.text is not None:
            return {**entry, "content": change.text}
        given = {"content": change.base64, "encoding": "base64"}
        return {**entry, "sha": self._api.write("POST", f"{self._git}/blobs", given, _sha, repeatable=True)}

    def _put(self, commit: str, before: str) -> None:
        """Makes it seen: the branch, which was at `before`, or was not, is at a commit from now on."""
        try:
            if not before:
                given = {"ref": f"refs/heads/{self._branch}", "sha": commit}
                self._api.write("POST", f"{self._git}/refs", given, _ref_sha, repeatable=True)
            else:
                path = f"{self._git}/refs/heads/{encoded(self._branch)}"
                self._api.write("PATCH", path, {"sha": commit, "force": False}, _ref_sha, repeatable=True)
        except PluginError as error:
            # Of a try whose answer was lost the branch is there already.
            if error.reason != "SERVICE_REFUSED" or error.code is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            head = self._head()
            if head == before:
                raise  # It was refused for another reason, such as the branch's protection.
            if head != commit:
                raise _MovedError(error.message) from None


def _check(files: list[Change]) -> None:
    seen: set[str] = set()
    for number, change in enumerate(files):
        field = f"files[{number}]"
        checked_path(change.path, f"{field}.path")
        if change.path in seen:
            raise PluginError("INVALID_ARGUMENT", f"{change.path!r} is there twice", field=f"{field}.path")
        seen.add(change.path)
        given = (change.text is not None) + (change.base64 is not None) + change.delete
        if given != 1:
            raise PluginError("INVALID_ARGUMENT", f"give one of text, base64 and delete, not {given}", field=field)
        if change.base64 is not None:
            try:
                base64.b64decode(change.base64, validate=True)
            except (binascii.Error, ValueError) as error:
                problem = f"is no base64: {error}"
                raise PluginError("INVALID_ARGUMENT", problem, field=f"{field}.base64") from None


def _sha(found: Found) -> str:
    return found.needed("sha")


def _ref_sha(found: Found) -> str:
    return found.inside("object").needed("sha")
