"""Asks GitHub: again where that is safe, within its limits, page by page."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_network
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

from consort.plugin import Call, PluginError
from consort.plugin.web import Answer, Reach, Request, Stream, Trouble, Web, place_of, refusal
from forge.found import BrokenAnswerError, Found, objects
from forge.settings import Server, Settings

_Shape = TypeVar("_Shape")
_AGENT = "consort-github/0.1"
_JSON = "application/vnd.github+json"
_PER_PAGE = 100
# However little of each page is wanted.
_MOST_PAGES = 50
_NEXT = re.compile(r'<([^<>]+)>\s*;[^,]*\brel="?next"?')
_SHOWN = 400
# What GitHub hands out of a file at once.
_MOST_FILE = 100 * 1024 * 1024
# GitHub's advice where it limits and does not say for how long.
_MINUTE = 60.0
_ANY = (ip_network("0.0.0.0/0"), ip_network("::/0"))


class Api:
    """A server, on behalf of one call."""

    def __init__(self, call: Call, server: Server) -> None:
        settings: Settings = call.config
        secret = str(call.host.get_secret(server.secret)).strip()
        self._base = server.url.rstrip("/")
        self._place = place_of(server.url)
        self._headers = {"authorization": f"Bearer {secret}", "x-github-api-version": "2022-11-28"}
        host = f"[{self._place.host}]" if ":" in self._place.host else self._place.host
        self._web = partial(
            Web,
            call,
            agent=_AGENT,
            tries=settings.tries,
            # Where the server is, is the operator's word; it leads to itself only, as it does when names change.
            reach=Reach((f"{host}:{self._place.port}",), _ANY),
            redirects=3,
            ca_file=settings.ca_file,
            hidden=[secret],
            judge=_judged,
        )

    def read(self, path: str, shape: Callable[[Found], _Shape], query: dict[str, str] | None = None) -> _Shape:
        """One object."""
        return shape(Found(self._asked("GET", path + _query(query)).json()))

    def answer(self, path: str, query: dict[str, str] | None = None) -> Any:
        """Whatever is answered."""
        return self._asked("GET", path + _query(query)).json()

    def pages(self, path: str, query: dict[str, str], limit: int, keep: Callable[[Found], bool]) -> "Page":
        """At most `limit` objects of a list, of those to keep."""
        found: list[Found] = []
        size = str(min(limit, _PER_PAGE))
        url = self._base + path + _query({**query, "per_page": size})
        for _ in range(_MOST_PAGES):
            answer = self._web().ask(self._request("GET", url, None, repeatable=True))
            for each in objects(answer.json()):
                if not keep(each):
                    continue
                if len(found) == limit:
                    return Page(found, more=True)
                found.append(each)
            following = _NEXT.search(answer.headers.get("link", ""))
            if following is None:
                return Page(found, more=False)
            if len(found) == limit:
                return Page(found, more=True)
            url = self._following(following[1])
        return Page(found, more=True)

    def write(
        self,
        method: str,
        path: str,
        body: dict[str, Any],
        shape: Callable[[Found], _Shape],
        *,
        repeatable: bool = False,
    ) -> _Shape:
        """Changes something. ABORTED, reason OUTCOME_UNKNOWN, if it is not repeatable and may have been done."""
        answer = self._asked(method, path, body, repeatable=repeatable)
        try:
            return shape(Found(answer.json()))
        except PluginError as error:
            if repeatable or error.reason != "BROKEN_ANSWER":
                raise
            message = f"{error.message}; it may have been done"
            raise PluginError("ABORTED", message, reason="OUTCOME_UNKNOWN") from None

    @contextmanager
    def opened(self, path: str, accept: str, query: dict[str, str] | None = None) -> Iterator[Stream]:
        """Something large, of a media type."""
        request = self._request("GET", self._base + path + _query(query), None, repeatable=True, accept=accept)
        with self._web(most_bytes=_MOST_FILE).opened(request) as stream:
            yield stream

    def _asked(self, method: str, path: str, body: dict[str, Any] | None = None, *, repeatable: bool = True) -> Answer:
        return self._web().ask(self._request(method, self._base + path, body, repeatable=repeatable))

    def _request(
        self, method: str, url: str, body: dict[str, Any] | None, *, repeatable: bool, accept: str = _JSON
    ) -> Request:
        headers = {**self._headers, "accept": accept}
        content = None
        if body is not None:
            headers["content-type"] = "application/json"
            content = json.dumps(body, ensure_ascii=False).encode()
        return Request(method, url, headers, content, repeatable=repeatable, accept=299)

    def _following(self, url: str) -> str:
        """The URL of the next page; the token goes to the server only, wherever it links."""
        try:
            place = self._place.linked(url)
        except ValueError as error:
            raise BrokenAnswerError(f"a link that {error}") from None
        if place.origin != self._place.origin:
            raise BrokenAnswerError(f"the next page is at {place.shown}")
        return place.url


class Page(NamedTuple):
    """Objects of a list, and whether there are more."""

    found: list[Found]
    more: bool


def encoded(path: str) -> str:
    """A path, or a name with slashes in it, as part of a URL."""
    return quote(path, safe="/")


def _query(query: dict[str, str] | None) -> str:
    given = {name: value for name, value in (query or {}).items() if value}
    return "?" + urlencode(given) if given else ""


def _judged(request: Request, place: str, answer: Answer) -> Trouble:
    said = _words(answer)
    trouble = refusal(request, place, answer, said)
    if answer.status in (403, 429) and trouble.wait is None and "secondary rate limit" in said.lower():
        return Trouble("RESOURCE_EXHAUSTED", str(trouble), again=True, reason="RATE_LIMITED", wait=_MINUTE)
    return trouble


def _words(answer: Answer) -> str:
    """GitHub's message, with what it says about single fields."""
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(value, dict):
        return ""
    errors = value.get("errors")
    told = [_word(each) for each in errors[:10]] if isinstance(errors, list) else []
    text = str(value.get("message") or "")
    return " ".join((text + (f" ({'; '.join(told)})" if told else "")).split())[:_SHOWN]


def _word(error: Any) -> str:
    if not isinstance(error, dict):
        return str(error)
    return str(error.get("message") or f"{error.get('resource')}.{error.get('field')}: {error.get('code')}")
