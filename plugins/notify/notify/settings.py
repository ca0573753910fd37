"""What the operator sets: where messages go, and the names of the secrets that go with them."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from consort.plugin import Limits, PluginError
from consort.plugin.web import Tries, place_of

# A receiver that asks for a longer pause than this is not waited for.
_LONGEST_WISH = 30.0
Port = Annotated[int, Limits(minimum=1, maximum=65535)]


@dataclass
class Slack:
    """An incoming webhook of Slack, or of what speaks its language. The secret is what follows the base URL."""

    base_url: str = "https://hooks.slack.com/services/"
    secret: str = "notify-slack"  # noqa: S105 - a name.


@dataclass
class Email:
    """A mail server. With a username the secret is its password."""

    host: str
    sender: str
    port: Port = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: str = ""
    secret: str = "notify-smtp"  # noqa: S105 - a name.


@dataclass
class PagerDuty:
    """A service of PagerDuty. The secret is its integration key."""

    url: str = "https://events.pagerduty.com/v2/enqueue"
    secret: str = "notify-pagerduty"  # noqa: S105 - a name.


@dataclass
class Webhook:
    """A receiver of signed requests. The secret signs them: `whsec_` and base64, or any text."""

    url: str
    secret: str = "notify-webhook"  # noqa: S105 - a name.
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Settings:
    """Targets by name, and how they are tried.

    `attempts` counts the first one, `timeout_s` is for each, `pause_s` is the first pause between two, which doubles up
    to 8 s. `ca_file` has certificates to trust beside the system's, in PEM.
    """

    slack: dict[str, Slack] = field(default_factory=dict)
    email: Email | None = None
    pagerduty: dict[str, PagerDuty] = field(default_factory=dict)
    webhooks: dict[str, Webhook] = field(default_factory=dict)
    attempts: Annotated[int, Limits(minimum=1, maximum=10)] = 4
    timeout_s: Annotated[float, Limits(exclusiveMinimum=0, maximum=60)] = 10.0
    pause_s: Annotated[float, Limits(exclusiveMinimum=0, maximum=8)] = 0.5
    ca_file: str = ""


def check(settings: Settings) -> None:
    """PluginError INVALID_ARGUMENT names every setting that cannot work."""
    wrong: dict[str, str] = {}
    urls = [(f"slack.{name}.base_url", each.base_url) for name, each in settings.slack.items()]
    urls += [(f"pagerduty.{name}.url", each.url) for name, each in settings.pagerduty.items()]
    urls += [(f"webhooks.{name}.url", each.url) for name, each in settings.webhooks.items()]
    for place, url in urls:
        try:
            place_of(url)
        except ValueError as error:
            wrong[place] = str(error)
    mail = settings.email
    if mail is not None and mail.security == "none" and mail.username:
        wrong["email.security"] = "is none, which would send the password in the clear; use starttls or tls"
    if wrong:
        told = "; ".join(f"{place}: {text}" for place, text in wrong.items())
        raise PluginError("INVALID_ARGUMENT", told, reason="CONFIG_INVALID", violations=wrong)


def tries(settings: Settings) -> Tries:
    """How what may fail in passing is tried."""
    return Tries(settings.attempts, settings.timeout_s, settings.pause_s, _LONGEST_WISH)
