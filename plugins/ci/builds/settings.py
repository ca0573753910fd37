"""What the operator sets: services by name, webhooks by name, and how services are asked."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from consort.plugin import Limits, PluginError
from consort.plugin.web import place_of


@dataclass
class GitHub:
    """A repository with GitHub Actions. The secret is a token that may read and write actions."""

    repository: Annotated[str, Limits(pattern=r"^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+$")]
    kind: Literal["github"] = "github"
    url: str = "https://api.github.com"
    secret: str = "ci-github"  # noqa: S105 - a name.


@dataclass
class Jenkins:
    """A Jenkins server. The secret is the user's API token. With `jobs` only these may be started, by full name."""

    url: str
    user: str
    kind: Literal["jenkins"] = "jenkins"
    secret: str = "ci-jenkins"  # noqa: S105 - a name.
    jobs: list[str] = field(default_factory=list)


@dataclass
class Hook:
    """Who signs webhooks: GitHub, GitLab with its token, or anybody by Standard Webhooks."""

    kind: Literal["github", "gitlab", "standard"]
    secret: str = "ci-webhook"  # noqa: S105 - a name.
    tolerance_s: Annotated[int, Limits(minimum=1, maximum=86_400)] = 300


@dataclass
class Settings:
    """`attempts` counts the first one, `timeout_s` is for each, `poll_s` the pause between two looks at a build."""

    services: dict[str, GitHub | Jenkins] = field(default_factory=dict)
    webhooks: dict[str, Hook] = field(default_factory=dict)
    attempts: Annotated[int, Limits(minimum=1, maximum=10)] = 4
    timeout_s: Annotated[float, Limits(exclusiveMinimum=0, maximum=120)] = 15.0
    pause_s: Annotated[float, Limits(exclusiveMinimum=0, maximum=8)] = 0.5
    poll_s: Annotated[float, Limits(exclusiveMinimum=0, maximum=300)] = 5.0
    ca_file: str = ""


def check(settings: Settings) -> None:
    """PluginError INVALID_ARGUMENT names every URL that is none."""
    wrong = {}
    for name, service in settings.services.items():
        try:
            is_base = "?" not in place_of(service.url).path
        except ValueError as error:
            wrong[f"services.{name}.url"] = str(error)
        else:
            if not is_base:
                wrong[f"services.{name}.url"] = (
                    f"{service.url!r} is no base URL; write for example https://ci.example.com"
                )
    if wrong:
        told = "; ".join(f"{place}: {text}" for place, text in wrong.items())
        raise PluginError("INVALID_ARGUMENT", told, reason="CONFIG_INVALID", violations=wrong)
