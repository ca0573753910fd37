"""Calls of the plugin at a server that answers as GitHub does."""

from typing import Any

import pytest

from consort.plugin import PluginError
from consort.plugin.testing import Outcome, invoke
from fake_github import TOKEN, FakeGitHub
from forge.operations import plugin
from web_servers import WebServer

SECRETS = {"github-token": TOKEN}
Site = tuple[FakeGitHub, WebServer]


def done(site: Site, operation: str, given: dict[str, Any], **options: Any) -> Outcome:
    """Calls an operation about acme/app, unless the input says otherwise."""
    config = options.pop("config", {})
    server = {"url": site[1].url + site[0].prefix, **options.pop("place", {})}
    settings = {"servers": {"default": server}, "pause_s": 0.001, "timeout_s": 10.0, **config}
    whole = {"repository": "acme/app", **given}
    if operation == "repositories":
        del whole["repository"]
    return invoke(plugin, operation, whole, config=settings, **{"secrets": SECRETS, **options})


def failed(site: Site, operation: str, given: dict[str, Any], **options: Any) -> PluginError:
    """How a call fails; its words hold no token."""
    with pytest.raises(PluginError) as caught:
        done(site, operation, given, **options)
    assert TOKEN not in str(caught.value)
    return caught.value


def asked(site: Site) -> list[str]:
    """The requests so far."""
    return [f"{each.method} {each.path}" for each in site[1].asked]
