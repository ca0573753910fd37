"""The operations of the plugin."""

import json
import re
import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypedDict, TypeVar

from consort.plugin import Call, Limits, Plugin, PluginError
from consort.plugin.web import Answer, Request, Web, place_of
from notify import mail, signing
from notify.settings import Settings, check, tries

plugin = Plugin(
    "notify",
    version="0.1.0",
    description="Tells people and services: Slack, e-mail, PagerDuty and signed webhooks.",
    config=Settings,
    threads=16,
)
plugin.on_configure(check)

_Target = TypeVar("_Target")
_MOST_ANSWER = 64 * 1024
_ADDRESS = re.compile(r"[^\s<>,;:@\"]+@[^\s<>,;:@\"]+")
Address = Annotated[str, Limits(minLength=3, maxLength=254)]
Severity = Literal["critical", "error", "warning", "info"]


class Delivered(TypedDict):
    """What the receiver answered."""

    status: int
    answer: str


class Mailed(TypedDict):
    """The message's id, and the recipients whom the server refused, with its words."""

    message_id: str
    refused: dict[str, str]


class Alerted(TypedDict):
    """The key under which later events of the same incident are sent."""

    dedup_key: str
    status: int


@plugin.operation(effect="write", dry_run=True)
def slack(
    call: Call,
    text: Annotated[str, Limits(minLength=1, maxLength=40_000)],
    target: str = "default",
    blocks: Annotated[list[dict[str, Any]], Limits(maxItems=50)] | None = None,
) -> Delivered | None:
    """Posts a message to a channel of Slack.

    Args:
        text: The message, in Slack's mrkdwn; with blocks, what notifications show.
        target: Name of the webhook in the configuration.
        blocks: Slack's Block Kit.

    """
    place = _target(call.config.slack, target, "slack")
    if call.dry_run:
        call.would(f"post {len(text)} characters to Slack '{target}' at {place_of(place.base_url).shown}")
        return None
    secret = call.host.get_secret(place.secret)
    body = {"text": text} | ({"blocks": blocks} if blocks else {})
    url = f"{place.base_url.rstrip('/')}/{secret.lstrip('/')}"
    answer = _post(call, url, _json(body), {}, secret, repeatable=False)
    call.did(f"posted {len(text)} characters to Slack '{target}'")
    return {"status": answer.status, "answer": answer.text[:1000]}


@plugin.operation(effect="write", dry_run=True)
def email(
    call: Call,
    to: Annotated[list[Address], Limits(minItems=1, maxItems=100)],
    subject: Annotated[str, Limits(minLength=1, maxLength=500)],
    text: Annotated[str, Limits(maxLength=1_000_000)],
    html: Annotated[str, Limits(maxLength=1_000_000)] = "",
) -> Mailed | None:
    """Sends a mail.

    Args:
        to: Addresses, without names.
        text: The body, in plain text.
        html: The same in HTML, for readers that show it.

    """
    server = call.config.email
    if server is None:
        raise PluginError("FAILED_PRECONDITION", "no mail server is configured; set `email`", reason="NO_TARGET")
    for number, address in enumerate(to):
        if not _ADDRESS.fullmatch(address):
            problem = f"{address!r} is no address; write for example ada@example.com"
            raise PluginError("INVALID_ARGUMENT", problem, field=f"to[{number}]")
    message = mail.compose(server, to, subject, text, html, call.idempotency_key)
    if call.dry_run:
        call.would(f"mail {subject!r} to {', '.join(to)} by way of {server.host}:{server.port}")
        return None
    password = call.host.get_secret(server.secret) if server.username else ""
    refused = mail.send(call, call.config, server, message, password)
    call.did(f"mailed {subject!r} to {', '.join(each for each in to if each not in refused)}")
    return {"message_id": message["Message-ID"], "refused": refused}


@plugin.operation(effect="idempotent_write", dry_run=True)
def pagerduty(
    call: Call,
    summary: Annotated[str, Limits(minLength=1, maxLength=1024)],
    severity: Severity = "error",
    action: Literal["trigger", "acknowledge", "resolve"] = "trigger",
    source: str = "consort",
    dedup_key: Annotated[str, Limits(maxLength=255)] = "",
    details: dict[str, Any] | None = None,
    target: str = "default",
) -> Alerted | None:
    """Triggers, acknowledges or resolves an incident of PagerDuty (Events API v2).

    Args:
        source: What the incident is about, such as a host.
        dedup_key: Names the incident; needed to acknowledge and to resolve. Left out, the call's idempotency key.
        target: Name of the service in the configuration.

    """
    place = _target(call.config.pagerduty, target, "pagerduty")
    if action != "trigger" and not dedup_key:
        raise PluginError("INVALID_ARGUMENT", f"is needed to {action}: which incident is meant?", field="dedup_key")
    key = dedup_key or call.idempotency_key
    if call.dry_run:
        call.would(f"{action} incident '{key}' of PagerDuty '{target}' at {place_of(place.url).shown}")
        return None
    routing_key = call.host.get_secret(place.secret)
    body: dict[str, Any] = {"routing_key": routing_key, "event_action": action, "dedup_key": key}
    if action == "trigger":
        body["payload"] = {"summary": summary, "severity": severity, "source": source, "custom_details": details or {}}
    answer = _post(call, place.url, _json(body), {}, routing_key, repeatable=True)
    call.did(f"{action} incident '{key}' of PagerDuty '{target}'")
    return {"dedup_key": key, "status": answer.status}


@plugin.operation(effect="idempotent_write", dry_run=True)
def webhook(call: Call, payload: Any, target: str = "default") -> Delivered | None:
    """Posts a JSON value to a webhook, signed as Standard Webhooks says; its id is the call's idempotency key.

    Args:
        target: Name of the receiver in the configuration.

    """
    place = _target(call.config.webhooks, target, "webhooks")
    body = _json(payload)
    if call.dry_run:
        call.would(f"post {len(body)} bytes to webhook '{target}' at {place_of(place.url).shown}")
        return None
    secret = call.host.get_secret(place.secret)
    try:
        signed = signing.headers(secret, call.idempotency_key, int(time.time()), body)
    except ValueError as error:
        raise PluginError("FAILED_PRECONDITION", f"secret '{place.secret}': {error}") from error
    headers = {**place.headers, **signed, "idempotency-key": call.idempotency_key}
    answer = _post(call, place.url, body, headers, secret, repeatable=True)
    call.did(f"posted {len(body)} bytes to webhook '{target}'")
    return {"status": answer.status, "answer": answer.text[:1000]}


def _post(call: Call, url: str, body: bytes, headers: Mapping[str, str], secret: str, *, repeatable: bool) -> Answer:
    """Posts JSON. Redirects are not followed: where messages go is the operator's to say."""
    settings: Settings = call.config
    web = Web(
        call,
        agent="consort-notify/0.1",
        tries=tries(settings),
        most_bytes=_MOST_ANSWER,
        ca_file=settings.ca_file,
        hidden=[secret],
    )
    whole = {"content-type": "application/json", **headers}
    return web.ask(Request("POST", url, whole, body, repeatable=repeatable, accept=299), cut=True)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _target(targets: dict[str, _Target], name: str, section: str) -> _Target:
    if name in targets:
        return targets[name]
    known = ", ".join(targets) or "none"
    problem = f"no target '{name}'; the configuration's `{section}` has: {known}"
    raise PluginError("NOT_FOUND", problem, field="target", reason="NO_TARGET")
