"""What the operator sets: the stores by name, and how they are tried."""

from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import urlsplit

from consort.plugin import Limits, PluginError


@dataclass
class Store:
    """A bucket, or what lies in it below `prefix`; callers reach nothing else.

    The secret is the secret access key. With `path_style` the bucket is the first part of the path, which every store
    understands; without, it is the first part of the host's name.
    """

    bucket: Annotated[str, Limits(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    access_key_id: str
    endpoint: str = "https://s3.amazonaws.com"
    region: str = "us-east-1"
    prefix: str = ""
    secret: str = "s3-secret-key"  # noqa: S105 - a name.
    path_style: bool = True
    ca_file: str = ""


@dataclass
class Settings:
    """Stores by name. `timeout_s` is for a connection and for each wait on it, `attempts` counts the first one."""

    stores: dict[str, Store] = field(default_factory=dict)
    attempts: Annotated[int, Limits(minimum=1, maximum=10)] = 4
    timeout_s: Annotated[float, Limits(exclusiveMinimum=0, maximum=300)] = 20.0
    pause_s: Annotated[float, Limits(exclusiveMinimum=0, maximum=8)] = 0.3


def check(settings: Settings) -> None:
    """PluginError INVALID_ARGUMENT names every endpoint that is none."""
    wrong = {}
    for name, store in settings.stores.items():
        try:
            parts = urlsplit(store.endpoint)
            fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.path in ("", "/")
            fits = fits and not parts.query and not parts.username and parts.port != 0
        except ValueError:
            fits = False
        if not fits:
            wrong[f"stores.{name}.endpoint"] = (
                f"{store.endpoint!r} is no endpoint; write https://host or https://host:port"
            )
    if wrong:
        told = "; ".join(f"{place}: {text}" for place, text in wrong.items())
        raise PluginError("INVALID_ARGUMENT", told, reason="CONFIG_INVALID", violations=wrong)
