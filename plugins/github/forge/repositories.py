"""Repositories and what is in them."""

import base64
import binascii
from collections.abc import Iterator
from typing import Annotated, TypedDict

from consort.plugin import Call, Limits, PluginError
from forge import shapes
from forge.api import Api, encoded
from forge.found import BrokenAnswerError, Found, objects
from forge.plugin import At, Limit, Owner, Ref, Repo, checked_path, checked_ref, plugin, server_of

Path = Annotated[str, Limits(maxLength=4096)]
_RAW = "application/vnd.github.raw+json"


class Repositories(TypedDict):
    """Repositories; `more` says that there are others."""

    repositories: list[shapes.Repository]
    more: bool


class Entry(TypedDict):
    """What is in a folder: file, dir, symlink or submodule."""

    name: str
    path: str
    kind: str
    size_bytes: int
    sha: str


class Contents(TypedDict):
    """A file, or a folder with its entries. A file that is no UTF-8 is in `base64`."""

    path: str
    kind: str
    sha: str
    size_bytes: int
    text: str | None
    base64: str | None
    entries: list[Entry]


@plugin.operation(effect="read")
def repository(call: Call, repository: Repo, server: str = "default") -> shapes.Repository:
    """Says what a repository is.

    Args:
        server: Its name in the configuration.

    """
    at = At(call, server, repository)
    return at.api.read(at.path, shapes.repository)


@plugin.operation(effect="read")
def repositories(call: Call, owner: Owner = "", limit: Limit = 100, server: str = "default") -> Repositories:
    """Lists repositories by their last push.

    Args:
        owner: A person or an organization; left out, all that the token may see as its own.
        server: Its name in the configuration.

    """
    place = server_of(call, server)
    if owner in (".", ".."):
        raise PluginError("INVALID_ARGUMENT", f"{owner!r} is no owner", field="owner")
    api = Api(call, place)
    query = {"sort": "pushed", "direction": "desc"}

    def is_let(found: Found) -> bool:
        return place.lets(found.needed("full_name"))

    try:
        page = api.pages(f"/orgs/{owner}/repos" if owner else "/user/repos", query, limit, is_let)
    except PluginError as error:
        if not owner or error.code.name != "NOT_FOUND":
            raise
        page = api.pages(f"/users/{owner}/repos", query, limit, is_let)
    return {"repositories": [shapes.repository(each) for each in page.found], "more": page.more}


@plugin.operation(effect="read")
def contents(call: Call, repository: Repo, path: Path = "", ref: Ref = "", server: str = "default") -> Contents:
    """Reads a file of at most 1 MiB, or lists a folder.

    Args:
        path: From the repository's root; left out, the root.
        ref: A branch, a tag or a commit; left out, the default branch.
        server: Its name in the configuration.

    """
    at = At(call, server, repository)
    checked_path(path, "path", empty=True)
    answer = at.api.answer(f"{at.path}/contents/{encoded(path)}", {"ref": checked_ref(ref, "ref")})
    if isinstance(answer, list):
        listed = [_entry(each) for each in objects(answer)]
        return _contents(path, "dir", "", 0, None, listed)
    found = Found(answer)
    size = found.count("size")
    if found.text("type") == "file" and found.text("encoding") != "base64":
        problem = f"has {size} bytes, which is too much here; use `download`"
        raise PluginError("RESOURCE_EXHAUSTED", problem, field="path", reason="FILE_TOO_LARGE")
    try:
        content = base64.b64decode("".join(found.text("content").split()), validate=True)
    except (binascii.Error, ValueError):
        raise BrokenAnswerError("content that is no base64") from None
    return _contents(path, found.needed("type"), found.text("sha"), size, content, [])


@plugin.operation(effect="read", timeout=600)
def download(call: Call, repository: Repo, path: Path, ref: Ref = "", server: str = "default") -> Iterator[bytes]:
    """Gets a file of at most 100 MB, as a blob.

    Args:
        path: From the repository's root.
        ref: A branch, a tag or a commit; left out, the default branch.
        server: Its name in the configuration.

    """
    at = At(call, server, repository)
    place = f"{at.path}/contents/{encoded(checked_path(path, 'path'))}"
    with at.api.opened(place, _RAW, {"ref": checked_ref(ref, "ref")}) as stream:
        if "json" in stream.headers.get("content-type", "") and "raw" not in stream.headers.get("content-type", ""):
            raise PluginError("FAILED_PRECONDITION", "is a folder; use `contents`", field="path", reason="NO_FILE")
        call.media_type = "application/octet-stream"
        yield from stream.pieces()


def _entry(found: Found) -> Entry:
    return {
        "name": found.needed("name"),
        "path": found.needed("path"),
        "kind": found.needed("type"),
        "size_bytes": found.count("size"),
        "sha": found.text("sha"),
    }


def _contents(path: str, kind: str, sha: str, size: int, content: bytes | None, entries: list[Entry]) -> Contents:
    text, coded = None, None
    if content is not None:
        try:
            text = content.decode()
        except UnicodeDecodeError:
            coded = base64.b64encode(content).decode()
    return {
        "path": path,
        "kind": kind,
        "sha": sha,
        "size_bytes": size,
        "text": text,
        "base64": coded,
        "entries": entries,
    }
