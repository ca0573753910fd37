"""The operations of the plugin."""

from collections.abc import Iterator
from dataclasses import replace
from json import dumps
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlencode

from consort.plugin import Call, Limits, Plugin, PluginError
from consort.plugin.web import Place, Request, Stream, Web, place_of
from webcalls.credentials import filled, named
from webcalls.output import Answered, answered
from webcalls.settings import Settings, check

plugin = Plugin(
    "http",
    version="0.1.0",
    description="Calls web services: only granted hosts, only public addresses, with limits on all that comes back.",
    config=Settings,
    threads=32,
)
plugin.on_configure(check)

_AGENT = "consort-http/0.1"
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
_TEXT = "text/plain; charset=utf-8"
_MIB = 1024 * 1024
Url = Annotated[str, Limits(minLength=1, maxLength=8192)]
Query = dict[str, str | list[str]]
Headers = dict[str, str]
Seconds = Annotated[float, Limits(exclusiveMinimum=0, maximum=300)]
Text = Annotated[str, Limits(maxLength=16 * _MIB)]
Method = Literal["POST", "PUT", "PATCH", "DELETE"]
Expect = Literal["success", "any"]


class Asked(NamedTuple):
    """A request whose place was checked; `secrets` are the names of those in its headers."""

    place: Place
    request: Request
    secrets: list[str]


@plugin.operation(effect="read", timeout=300)
def get(
    call: Call,
    url: Url,
    query: Query | None = None,
    headers: Headers | None = None,
    method: Literal["GET", "HEAD"] = "GET",
    expect: Expect = "success",
    timeout_s: Seconds | None = None,
) -> Answered:
    """Asks a web service for something, and asks again if it does not answer.

    Args:
        url: Of a host that the operator granted.
        query: Parameters that are added to the URL.
        headers: A value may name secrets, as in `Bearer ${secret:api-token}`.
        expect: With any, every answer is an output; with success, one of 400 and above is a failure.
        timeout_s: Seconds that a try may take; left out, as the operator says.

    """
    asked = _asked(call, method, url, query, headers, None, expect, repeatable=True)
    return _done(call, asked, timeout_s)


@plugin.operation(effect="write", dry_run=True, timeout=300)
def request(
    call: Call,
    url: Url,
    method: Method = "POST",
    query: Query | None = None,
    headers: Headers | None = None,
    json: Any = None,
    text: Text | None = None,
    form: dict[str, str] | None = None,
    expect: Expect = "success",
    timeout_s: Seconds | None = None,
) -> Answered | None:
    """Sends something to a web service, once: if it is cut off, nobody knows whether it was done.

    It is sent again only if it surely was not done: nobody was reached, or the service said that it is too much.

    Args:
        url: Of a host that the operator granted.
        query: Parameters that are added to the URL.
        headers: A value may name secrets, as in `Bearer ${secret:api-token}`.
        json: What is sent, as JSON. At most one of json, text and form is given.
        text: What is sent, as text.
        form: What is sent, as fields of a form.
        expect: With any, every answer is an output; with success, one of 400 and above is a failure.
        timeout_s: Seconds that a try may take; left out, as the operator says.

    """
    body = _body(json, text, form)
    asked = _asked(call, method, url, query, headers, body, expect, repeatable=False)
    return _written(call, asked, timeout_s)


@plugin.operation(effect="idempotent_write", dry_run=True, timeout=300)
def request_idempotent(
    call: Call,
    url: Url,
    method: Method = "PUT",
    query: Query | None = None,
    headers: Headers | None = None,
    json: Any = None,
    text: Text | None = None,
    form: dict[str, str] | None = None,
    expect: Expect = "success",
    timeout_s: Seconds | None = None,
) -> Answered | None:
    """Sends something to a web service to which twice is once, and sends it again if it does not answer.

    That is PUT and DELETE of a service that keeps to HTTP, and POST and PATCH of one that knows the idempotency key,
    which is equal for all tries of a call.

    Args:
        url: Of a host that the operator granted.
        query: Parameters that are added to the URL.
        headers: A value may name secrets, as in `Bearer ${secret:api-token}`.
        json: What is sent, as JSON. At most one of json, text and form is given.
        text: What is sent, as text.
        form: What is sent, as fields of a form.
        expect: With any, every answer is an output; with success, one of 400 and above is a failure.
        timeout_s: Seconds that a try may take; left out, as the operator says.

    """
    body = _body(json, text, form)
    asked = _asked(call, method, url, query, headers, body, expect, repeatable=True)
    return _written(call, asked, timeout_s)


@plugin.operation(effect="read", timeout=3600)
def download(
    call: Call,
    url: Url,
    query: Query | None = None,
    headers: Headers | None = None,
    timeout_s: Seconds | None = None,
) -> Iterator[bytes]:
    """Gets something large, as a blob. One that breaks goes on where it broke, if the service names it by an ETag.

    Args:
        url: Of a host that the operator granted.
        query: Parameters that are added to the URL.
        headers: A value may name secrets, as in `Bearer ${secret:api-token}`.
        timeout_s: Seconds until it begins to come, and for each wait after that; left out, as the operator says.

    """
    asked = _asked(call, "GET", url, query, headers, None, "success", repeatable=True)
    settings: Settings = call.config
    web, request, _ = _ready(call, asked, timeout_s, settings.download_mib)

    def begun(stream: Stream) -> None:
        kind = stream.headers.get("content-type") or "application/octet-stream"
        # Bare, it would say that the result is a value, and no blob.
        call.media_type = f"{_JSON}; charset=utf-8" if kind == _JSON else kind

    yield from web.download(request, begun)


def _asked(
    call: Call,
    method: str,
    url: str,
    query: Query | None,
    headers: Headers | None,
    body: tuple[bytes, str] | None,
    expect: Expect,
    *,
    repeatable: bool,
) -> Asked:
    """The request, once it is clear that it may be sent. PluginError names the field that is to blame."""
    settings: Settings = call.config
    place = _place(url, query or {})
    reach = settings.reach(tuple(call.permissions.net))
    try:
        reach.admit(place)
        if place.address is not None:
            reach.admit_address(place.address, place)
    except PluginError as error:
        raise PluginError(error.code, error.message, reason=error.reason, field="url") from None
    given = dict(headers or {})
    secrets = named(settings.secrets, place, given)
    names = {name.lower() for name in given}
    if body is not None and "content-type" not in names:
        given["content-type"] = body[1]
    if method not in ("GET", "HEAD") and settings.idempotency_header.lower() not in names | {""}:
        given[settings.idempotency_header] = call.idempotency_key
    accept = 999 if expect == "any" else 399
    content = None if body is None else body[0]
    return Asked(place, Request(method, place.url, given, content, repeatable=repeatable, accept=accept), secrets)


def _place(url: str, query: Query) -> Place:
    if query:
        url = url.partition("#")[0]
        url += ("&" if "?" in url else "?") + urlencode(query, doseq=True)
    try:
        return place_of(url)
    except ValueError as error:
        raise PluginError("INVALID_ARGUMENT", str(error), field="url", reason="URL_INVALID") from None


def _body(json: Any, text: str | None, form: dict[str, str] | None) -> tuple[bytes, str] | None:
    given = [each for each in (json, text, form) if each is not None]
    if len(given) > 1:
        problem = f"give one of json, text and form, not {len(given)}"
        raise PluginError("INVALID_ARGUMENT", problem, field="json" if json is not None else "text")
    if json is not None:
        return dumps(json, ensure_ascii=False, separators=(",", ":")).encode(), _JSON
    if text is not None:
        return text.encode(), _TEXT
    return None if form is None else (urlencode(form).encode(), _FORM)


def _written(call: Call, asked: Asked, timeout_s: float | None) -> Answered | None:
    # The query may have what is nobody's business.
    place, request = asked.place, asked.request
    shown = f"{request.method} {place.scheme}://{place.shown}{place.path.partition('?')[0]}"
    if call.dry_run:
        kind = request.headers.get("content-type", "")
        size = f" with {len(request.body)} bytes of {kind}" if isinstance(request.body, bytes) else ""
        secrets = f", with the secret {', '.join(asked.secrets)}" if asked.secrets else ""
        call.would(f"{shown}{size}{secrets}")
        return None
    found = _done(call, asked, timeout_s)
    call.did(f"{shown}: {found['status']}")
    return found


def _done(call: Call, asked: Asked, timeout_s: float | None) -> Answered:
    settings: Settings = call.config
    web, request, secrets = _ready(call, asked, timeout_s, settings.answer_mib)
    return answered(web.ask(request), secrets)


def _ready(call: Call, asked: Asked, timeout_s: float | None, most_mib: int) -> tuple[Web, Request, list[str]]:
    """Who asks, the request with its secrets, and their values."""
    settings: Settings = call.config
    headers, secrets = filled(call, asked.secrets, asked.request.headers)
    web = Web(
        call,
        agent=_AGENT,
        tries=settings.tries(timeout_s),
        reach=settings.reach(tuple(call.permissions.net)),
        redirects=settings.redirects,
        most_bytes=most_mib * _MIB,
        ca_file=settings.ca_file,
        hidden=secrets,
    )
    return web, replace(asked.request, headers=headers), secrets
