"""The plugin, and what all its operations begin with."""

import re
from typing import Annotated

from consort.plugin import Call, Limits, Plugin, PluginError
from forge.api import Api
from forge.settings import Server, Settings, check

plugin = Plugin(
    "github",
    version="0.1.0",
    description="Repositories, issues, pull requests, commits and releases on GitHub.",
    config=Settings,
    threads=32,
)
plugin.on_configure(check)

Repo = Annotated[str, "owner/name", Limits(pattern=r"^[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}$")]
Owner = Annotated[str, Limits(pattern=r"^[A-Za-z0-9_.-]{0,100}$")]
Number = Annotated[int, Limits(minimum=1, maximum=2_147_483_647)]
Limit = Annotated[int, "how many at most", Limits(minimum=1, maximum=1000)]
Title = Annotated[str, Limits(minLength=1, maxLength=256)]
Body = Annotated[str, "Markdown", Limits(maxLength=65_536)]
Ref = Annotated[str, Limits(maxLength=255)]
Sha = Annotated[str, Limits(pattern=r"^([0-9a-f]{40}([0-9a-f]{24})?)?$")]
_REF = re.compile(r"[^\x00-\x20\x7f~^:?*\[\\]+")


class At:
    """A repository of a server. PluginError if the operator did not name the server, or does not let it be touched."""

    def __init__(self, call: Call, server: str, repository: str) -> None:
        self.call = call
        self.server = server_of(call, server)
        owner, name = repository.split("/")
        if owner in (".", "..") or name in (".", ".."):
            raise PluginError("INVALID_ARGUMENT", f"{repository!r} is no repository", field="repository")
        if not self.server.lets(repository):
            problem = f"the configuration lets only these be touched: {', '.join(self.server.repositories)}"
            raise PluginError("PERMISSION_DENIED", problem, field="repository", reason="REPOSITORY_NOT_GRANTED")
        self.repository = repository
        self.path = f"/repos/{repository}"

    @property
    def api(self) -> Api:
        """The server. The token is asked for now."""
        return Api(self.call, self.server)

    def would(self, what: str) -> bool:
        """Whether nothing is to be done; it is said then."""
        if self.call.dry_run:
            self.call.would(f"{what} ({self.repository})")
        return self.call.dry_run

    def did(self, what: str) -> None:
        """Says for the audit log what was done."""
        self.call.did(f"{what} ({self.repository})")


def server_of(call: Call, name: str) -> Server:
    """A server by its name in the configuration."""
    servers: dict[str, Server] = call.config.servers
    if name in servers:
        return servers[name]
    problem = f"no server '{name}'; the configuration has: {', '.join(servers) or 'none'}"
    raise PluginError("NOT_FOUND", problem, field="server", reason="NO_SERVER")


def checked_ref(ref: str, field: str) -> str:
    """A name of a branch or tag, or a commit, that git lets be one; empty ones pass."""
    wrong = ref and (
        not _REF.fullmatch(ref)
        or any(part.startswith(".") or part.endswith(".lock") or not part for part in ref.split("/"))
        or ".." in ref
        or "@{" in ref
        or ref.endswith(".")
        or ref.startswith("-")
    )
    if wrong:
        raise PluginError("INVALID_ARGUMENT", f"{ref!r} is no name of a branch, a tag or a commit", field=field)
    return ref


def checked_path(path: str, field: str, *, empty: bool = False) -> str:
    """A path inside a repository, from its root, without a slash at the beginning."""
    parts = path.split("/")
    wrong = any(part in ("", ".", "..", ".git") for part in parts) or any(each < " " or each == "\x7f" for each in path)
    if wrong and not (empty and not path):
        raise PluginError("INVALID_ARGUMENT", f"{path!r} is no path from the repository's root", field=field)
    return path
