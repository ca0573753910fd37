"""What the operator sets: servers by name, and how they are asked."""

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated

from consort.plugin import Limits, PluginError
from consort.plugin.web import Tries, place_of

_REPOSITORY = re.compile(r"[A-Za-z0-9_.*?-]{1,100}/[A-Za-z0-9_.*?-]{1,100}")


@dataclass
class Server:
    """GitHub, or a server of GitHub Enterprise, whose URL ends in /api/v3. The secret is a token.

    With `repositories` nothing else is touched: names such as `acme/app`, in which `*` and `?` stand for others.
    """

    url: str = "https://api.github.com"
    secret: str = "github-token"  # noqa: S105 - a name.
    repositories: list[str] = field(default_factory=list)

    def lets(self, repository: str) -> bool:
        """Whether a repository may be touched; names are the same in capitals."""
        name = repository.lower()
        return not self.repositories or any(fnmatchcase(name, pattern.lower()) for pattern in self.repositories)


@dataclass
class Settings:
    """Servers by name, and how they are asked; left out, `default` is github.com.

    `attempts` counts the first one, `timeout_s` is for each, `pause_s` is the first pause between two, which doubles up
    to 8 s. When GitHub's limits are reached, their end is waited for if it is at most `longest_wait_s` away. `ca_file`
    has certificates to trust beside the system's, in PEM.
    """

    servers: dict[str, Server] = field(default_factory=lambda: {"default": Server()})
    attempts: Annotated[int, Limits(minimum=1, maximum=10)] = 4
    timeout_s: Annotated[float, Limits(exclusiveMinimum=0, maximum=120)] = 15.0
    pause_s: Annotated[float, Limits(exclusiveMinimum=0, maximum=8)] = 0.5
    longest_wait_s: Annotated[float, Limits(minimum=0, maximum=3600)] = 60.0
    ca_file: str = ""

    @property
    def tries(self) -> Tries:
        """How what may fail in passing is tried."""
        return Tries(self.attempts, self.timeout_s, self.pause_s, self.longest_wait_s)


def check(settings: Settings) -> None:
    """PluginError INVALID_ARGUMENT names every URL and repository that is none."""
    wrong: dict[str, str] = {}
    for name, server in settings.servers.items():
        try:
            is_base = "?" not in place_of(server.url).path
        except ValueError as error:
            wrong[f"servers.{name}.url"] = str(error)
        else:
            if not is_base:
                wrong[f"servers.{name}.url"] = f"{server.url!r} is no base URL; write https://github.example.com/api/v3"
        for number, repository in enumerate(server.repositories):
            if not _REPOSITORY.fullmatch(repository):
                wrong[f"servers.{name}.repositories[{number}]"] = f"{repository!r} is none; write for example acme/*"
    if wrong:
        told = "; ".join(f"{place}: {text}" for place, text in wrong.items())
        raise PluginError("INVALID_ARGUMENT", told, reason="CONFIG_INVALID", violations=wrong)
