"""Asks the web as a plugin does, in a call of its own."""

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from consort.plugin import Call, Plugin, PluginError
from consort.plugin.testing import Outcome, invoke
from consort.plugin.web import Answer, Reach, Request, Tries, Web

LOOPBACK = Reach(networks=(ipaddress.IPv4Network("127.0.0.0/8"),))
QUICK = Tries(attempts=3, timeout_s=5.0, pause_s=0.001, longest_wait_s=1.0)


class FakeResolver:
    """Looks names up in lists of answers, one for each look-up; the last one again and again."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def within(work: Callable[[Call], Any], **options: Any) -> Outcome:
    """Does something in a call."""
    plugin = Plugin("web", version="0.1.0")

    @plugin.operation(effect="read")
    def test(call: Call) -> Any:
        return work(call)

    return invoke(plugin, "test", **options)


def asked(request: Request, *, cut: bool = False, timeout: float = 10.0, **options: Any) -> Answer:
    """Asks, and returns what was answered."""
    found: list[Answer] = []

    def ask(call: Call) -> None:
        web = Web(call, agent="test/1", **{"tries": QUICK, **options})
        found.append(web.ask(request, cut=cut))

    within(ask, timeout=timeout)
    return found[0]


def got(url: str, **options: Any) -> Answer:
    return asked(Request("GET", url, repeatable=True), **options)


def failed(request: Request, **options: Any) -> PluginError:
    with pytest.raises(PluginError) as caught:
        asked(request, **options)
    return caught.value


def not_got(url: str, **options: Any) -> PluginError:
    return failed(Request("GET", url, repeatable=True), **options)


def post(url: str, **more: Any) -> Request:
    return Request("POST", url, body=b"{}", **more)


def trusted(authority: trustme.CA, folder: Path) -> str:
    path = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)
