"""Webhooks that come in: whether they are from whom they say, and which build they are about."""

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any, TypedDict

from builds import github
from builds.build import Build
from builds.settings import Hook
from consort.plugin import PluginError

_PREFIX = "whsec_"


class Event(TypedDict):
    """What a webhook tells, once its signature is right. `delivery` is its id, equal for repeats of the same."""

    event: str
    delivery: str
    payload: Any
    build: Build | None


def verified(hook: Hook, secret: str, headers: Mapping[str, str], body: bytes) -> Event:
    """Checks and reads a webhook. PERMISSION_DENIED, reason SIGNATURE_INVALID, if its sender lacks the secret."""
    given = {name.lower(): value for name, value in headers.items()}
    if hook.kind == "github":
        event, delivery = _github(secret, given, body)
    elif hook.kind == "gitlab":
        event, delivery = _gitlab(secret, given)
    else:
        event, delivery = _standard(hook, secret, given, body)
    try:
        payload = json.loads(body)
    except ValueError:
        raise PluginError("INVALID_ARGUMENT", "is no JSON", field="body") from None
    build = None
    if hook.kind == "github" and event == "workflow_run" and isinstance(payload, dict):
        build = github.build_of(payload["workflow_run"])
    return {"event": event, "delivery": delivery, "payload": payload, "build": build}


def _github(secret: str, headers: Mapping[str, str], body: bytes) -> tuple[str, str]:
    expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    _same(headers.get("x-hub-signature-256", ""), expected, "x-hub-signature-256")
    return headers.get("x-github-event", ""), headers.get("x-github-delivery", "")


def _gitlab(secret: str, headers: Mapping[str, str]) -> tuple[str, str]:
    _same(headers.get("x-gitlab-token", ""), secret, "x-gitlab-token")
    return headers.get("x-gitlab-event", ""), headers.get("x-gitlab-event-uuid", "")


def _standard(hook: Hook, secret: str, headers: Mapping[str, str], body: bytes) -> tuple[str, str]:
    """Standard Webhooks 1.0.0: one of the signatures is right, and it was signed a short while ago."""
    delivery, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (stamp.isascii() and stamp.isdigit()) or abs(time.time() - int(stamp)) > hook.tolerance_s:
        problem = f"was not signed within {hook.tolerance_s} s of now"
        raise PluginError("PERMISSION_DENIED", problem, field="headers.webhook-timestamp", reason="SIGNATURE_INVALID")
    digest = hmac.new(_key(secret), f"{delivery}.{stamp}.".encode() + body, hashlib.sha256).digest()
    expected = f"v1,{base64.b64encode(digest).decode()}"
    given = headers.get("webhook-signature", "").split(" ")[:10]
    right = [each for each in given if hmac.compare_digest(each.encode(), expected.encode())]
    _same(right[0] if right else "", expected, "webhook-signature")
    return "", delivery


def _key(secret: str) -> bytes:
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise PluginError("FAILED_PRECONDITION", "what follows whsec_ in the secret is no base64") from None


def _same(given: str, expected: str, header: str) -> None:
    if not hmac.compare_digest(given.encode(), expected.encode()):
        problem = "is missing" if not given else "does not fit the secret and the body"
        raise PluginError("PERMISSION_DENIED", problem, field=f"headers.{header}", reason="SIGNATURE_INVALID")
