"""Messages that arrive, at receivers that look at them."""

import asyncio
import base64
import email
import email.policy
import hashlib
import hmac
import json
import socket
import time
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from consort import RpcError
from consort.plugin import PluginError
from consort.plugin.testing import Outcome, PluginProcess, invoke
from notify import signing
from notify.operations import plugin
from receivers import PASSWORD, USER, MailReceiver, WebReceiver, trusted

FOLDER = Path(__file__).resolve().parent.parent
SECRETS = {
    "notify-slack": "T0/B0/x9K2secret",
    "notify-smtp": PASSWORD,
    "notify-pagerduty": "R0utingKey0123456789",
    "notify-webhook": "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode(),
}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who vouches for the receivers."""
    return trustme.CA()


def told(operation: str, given: dict[str, Any], config: dict[str, Any], **options: Any) -> Outcome:
    """Calls an operation with pauses that tests can wait for."""
    return invoke(plugin, operation, given, config={"pause_s": 0.001, **config}, secrets=SECRETS, **options)


def failed(operation: str, given: dict[str, Any], config: dict[str, Any], **options: Any) -> PluginError:
    """How an operation fails; its words hold no secret."""
    with pytest.raises(PluginError) as caught:
        told(operation, given, config, **options)
    for secret in SECRETS.values():
        assert secret not in str(caught.value)
    return caught.value


def slack_at(receiver: WebReceiver, **more: Any) -> dict[str, Any]:
    return {"slack": {"default": {"base_url": f"{receiver.url}/services/"}}, **more}


def test_slack_gets_the_message() -> None:
    with WebReceiver() as receiver:
        given = {"text": "Deploy *done* é", "blocks": [{"type": "divider"}]}
        outcome = told("slack", given, slack_at(receiver))
        (request,) = receiver.arrived
    assert request.path == "/services/T0/B0/x9K2secret"
    assert request.headers["content-type"] == "application/json"
    assert request.json == given
    assert outcome.output == {"status": 200, "answer": "ok"}
    assert outcome.actions == ["posted 15 characters to Slack 'default'"]


def test_what_slack_refuses_is_told_without_the_secret() -> None:
    with WebReceiver((403, {}, "invalid_token T0/B0/x9K2secret")) as receiver:
        error = failed("slack", {"text": "x"}, slack_at(receiver))
        assert len(receiver.arrived) == 1
    assert error.code is grpc.StatusCode.PERMISSION_DENIED
    assert error.message.endswith("answered 403: invalid_token ***")


@pytest.mark.parametrize("answer", [(500, {}, "oops"), (0, {}, "")])
def test_slack_cannot_tell_repeats_so_an_unknown_outcome_is_said_to_be_one(answer: Any) -> None:
    with WebReceiver(answer) as receiver:
        error = failed("slack", {"text": "x"}, slack_at(receiver))
        assert len(receiver.arrived) == 1
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "OUTCOME_UNKNOWN")


def test_a_receiver_that_is_busy_is_asked_again_when_it_says() -> None:
    with WebReceiver((429, {"retry-after": "0"}, ""), (200, {}, "ok")) as receiver:
        outcome = told("slack", {"text": "x"}, slack_at(receiver))
        assert len(receiver.arrived) == 2
    assert [level for level, _ in outcome.logs] == ["warn"]
    with WebReceiver((429, {"retry-after": "3600"}, "")) as receiver:
        error = failed("slack", {"text": "x"}, slack_at(receiver))
        assert len(receiver.arrived) == 1
    assert error.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_nobody_there_is_tried_as_often_as_agreed() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        error = failed("slack", {"text": "x"}, {"slack": {"default": {"base_url": url}}, "attempts": 3})
    assert error.code is grpc.StatusCode.UNAVAILABLE
    assert "cannot be reached" in error.message
    assert error.message.endswith("(attempt 3 of 3)")


def test_a_receiver_that_never_ends_its_answer_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = {"webhooks": {"default": {"url": f"http://127.0.0.1:{silent.getsockname()[1]}/"}}, "timeout_s": 0.1}
        began = time.monotonic()
        error = failed("webhook", {"payload": 1}, {**config, "attempts": 2})
    assert error.code is grpc.StatusCode.UNAVAILABLE
    assert time.monotonic() - began < 8.0


def test_webhooks_are_signed_and_every_try_is_the_same_message(authority: trustme.CA, tmp_path: Path) -> None:
    with WebReceiver((503, {}, ""), (502, {}, ""), (202, {}, "taken"), authority=authority) as receiver:
        target = {"url": f"{receiver.url}/in?from=consort", "headers": {"x-team": "ops"}}
        config = {"webhooks": {"reports": target}, "ca_file": trusted(authority, tmp_path)}
        payload = {"report": "é", "n": [1, 2.5, None]}
        outcome = told("webhook", {"payload": payload, "target": "reports"}, config, idempotency_key="key-1")
        assert len(receiver.arrived) == 3
        assert len({(each.headers["webhook-id"], each.body) for each in receiver.arrived}) == 1
        request = receiver.arrived[-1]
    assert outcome.output == {"status": 202, "answer": "taken"}
    assert (request.path, request.headers["x-team"], request.json) == ("/in?from=consort", "ops", payload)
    assert request.headers["webhook-id"] == request.headers["idempotency-key"] == "key-1"
    stamp = request.headers["webhook-timestamp"]
    assert abs(int(stamp) - time.time()) < 60
    signed = b"key-1." + stamp.encode() + b"." + request.body
    digest = hmac.new(b"0123456789abcdef01234567", signed, hashlib.sha256).digest()
    assert request.headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


def test_the_signature_is_that_of_the_standard() -> None:
    # The example of the specification's reference libraries.
    found = signing.headers(
        "whsec_plJ3nmyCDGBKInavdOK15jsl",
        "msg_loFOjxBNrRLzqYUf",
        1731705121,
        b'{"event_type":"ping","data":{"success":true}}',
    )
    assert found["webhook-signature"] == "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(authority: trustme.CA) -> None:
    with WebReceiver(authority=authority) as receiver:
        error = failed("webhook", {"payload": 1}, {"webhooks": {"default": {"url": receiver.url}}})
        assert receiver.arrived == []
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION


def test_redirects_are_not_followed() -> None:
    with WebReceiver() as other, WebReceiver((307, {"location": other.url}, "")) as receiver:
        error = failed("webhook", {"payload": 1}, {"webhooks": {"default": {"url": receiver.url}}})
        assert other.arrived == []
    assert "redirects are not followed" in error.message


def test_pagerduty_gets_events_of_one_incident() -> None:
    with WebReceiver((500, {}, ""), (202, {}, '{"status":"success"}')) as receiver:
        config = {"pagerduty": {"default": {"url": f"{receiver.url}/v2/enqueue"}}}
        given = {"summary": "Disk full", "severity": "critical", "source": "db-1", "details": {"free": 0}}
        outcome = told("pagerduty", given, config, idempotency_key="run-7")
        assert outcome.output == {"dedup_key": "run-7", "status": 202}
        resolve = {"summary": "Disk full", "action": "resolve", "dedup_key": "run-7"}
        told("pagerduty", resolve, config)
        first, second, third = receiver.arrived
    assert (
        first.json
        == second.json
        == {
            "routing_key": SECRETS["notify-pagerduty"],
            "event_action": "trigger",
            "dedup_key": "run-7",
            "payload": {
                "summary": "Disk full",
                "severity": "critical",
                "source": "db-1",
                "custom_details": {"free": 0},
            },
        }
    )
    assert third.json == {
        "routing_key": SECRETS["notify-pagerduty"],
        "event_action": "resolve",
        "dedup_key": "run-7",
    }
    error = failed("pagerduty", {"summary": "x", "action": "resolve"}, config)
    assert list(error.violations) == ["dedup_key"]


def mail_at(receiver: MailReceiver, authority: trustme.CA, folder: Path, **more: Any) -> dict[str, Any]:
    server = {"host": "127.0.0.1", "port": receiver.port, "sender": "Consort <robot@example.com>", "username": USER}
    return {"email": {**server, **more}, "ca_file": trusted(authority, folder)}


def test_mail_arrives_encrypted_and_whole(authority: trustme.CA, tmp_path: Path) -> None:
    with MailReceiver(authority) as receiver:
        given = {
            "to": ["ada@example.com", "bob@example.com"],
            "subject": "Bericht für März",
            "text": "Hallo,\n.\nalles gut: é\n",
            "html": "<p>gut</p>",
        }
        config = mail_at(receiver, authority, tmp_path)
        outcome = told("email", given, config, idempotency_key="run-7")
        again = told("email", given, config, idempotency_key="run-7")
        (envelope, _) = receiver.arrived
        assert receiver.encrypted == [True, True]
    assert envelope.rcpt_tos == given["to"]
    assert envelope.mail_from == "robot@example.com"
    assert isinstance(envelope.content, bytes)
    message = email.message_from_bytes(envelope.content, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert (message["Subject"], message["From"]) == ("Bericht für März", "Consort <robot@example.com>")
    assert (message["To"], message["Auto-Submitted"]) == ("ada@example.com, bob@example.com", "auto-generated")
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert (plain.get_content().replace("\r\n", "\n"), html.get_content().strip()) == (given["text"], "<p>gut</p>")
    assert outcome.output == again.output == {"message_id": message["Message-ID"], "refused": {}}
    assert message["Message-ID"].endswith("@example.com>")
    assert outcome.actions == ["mailed 'Bericht für März' to ada@example.com, bob@example.com"]


def test_refused_recipients_are_named(authority: trustme.CA, tmp_path: Path) -> None:
    with MailReceiver(authority, refused=["eve@example.com"]) as receiver:
        config = mail_at(receiver, authority, tmp_path)
        given = {"to": ["ada@example.com", "eve@example.com"], "subject": "s", "text": "t"}
        outcome = told("email", given, config)
        assert outcome.output["refused"] == {"eve@example.com": "550 5.1.1 eve@example.com is unknown here"}
        assert outcome.actions == ["mailed 's' to ada@example.com"]
        error = failed("email", {**given, "to": ["eve@example.com"]}, config)
    assert error.code is grpc.StatusCode.NOT_FOUND
    assert "eve@example.com: 550" in error.message


def test_a_server_that_is_busy_gets_the_mail_later_and_one_that_refuses_it_does_not(
    authority: trustme.CA, tmp_path: Path
) -> None:
    given = {"to": ["ada@example.com"], "subject": "s", "text": "t"}
    with MailReceiver(authority, said=["451 4.3.0 later", "552 5.2.3 too large"]) as receiver:
        config = mail_at(receiver, authority, tmp_path)
        error = failed("email", given, config)
        assert "552 5.2.3 too large" in error.message
        assert error.code is grpc.StatusCode.FAILED_PRECONDITION
        assert told("email", given, config).output["refused"] == {}
        assert len(receiver.arrived) == 1


def test_the_password_is_only_said_to_whom_it_may_be(authority: trustme.CA, tmp_path: Path) -> None:
    given = {"to": ["ada@example.com"], "subject": "s", "text": "t"}
    with MailReceiver(authority) as receiver:
        wrong = mail_at(receiver, authority, tmp_path, username="other")
        error = failed("email", given, wrong)
        assert error.code is grpc.StatusCode.PERMISSION_DENIED
        assert "'other' with the secret 'notify-smtp' (535)" in error.message
        stranger = mail_at(receiver, trustme.CA(), tmp_path)
        assert failed("email", given, stranger).code is grpc.StatusCode.FAILED_PRECONDITION
        clear = mail_at(receiver, authority, tmp_path, security="none")
        assert list(failed("email", given, clear).violations) == ["email.security"]
        assert receiver.arrived == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"to": ["ada@example.com", "bob"]}, "to[1]"),
        ({"to": ["a@b, c@d"]}, "to[0]"),
        ({"to": []}, "to"),
        ({"subject": "x\r\nBcc: eve@example.com"}, "subject"),
        ({"subject": ""}, "subject"),
    ],
)
def test_bad_mail_is_refused_before_anything_is_sent(change: dict[str, Any], field: str) -> None:
    config = {"email": {"host": "127.0.0.1", "port": 1, "sender": "a@b.c"}}
    error = failed("email", {"to": ["ada@example.com"], "subject": "s", "text": "t", **change}, config)
    assert (error.code, list(error.violations)) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


@pytest.mark.parametrize(
    ("operation", "given", "config", "would"),
    [
        (
            "slack",
            {"text": "hi"},
            {"slack": {"default": {}}},
            "post 2 characters to Slack 'default' at hooks.slack.com",
        ),
        ("webhook", {"payload": {}}, {"webhooks": {"default": {"url": "http://x.y/z"}}}, "post 2 bytes to webhook"),
        ("pagerduty", {"summary": "s", "dedup_key": "k"}, {"pagerduty": {"default": {}}}, "trigger incident 'k'"),
        (
            "email",
            {"to": ["a@b.c"], "subject": "s", "text": "t"},
            {"email": {"host": "h", "sender": "x@y.z"}},
            "mail 's' to a@b.c by way of h:587",
        ),
    ],
)
def test_a_dry_run_says_what_would_be_done(
    operation: str, given: dict[str, Any], config: dict[str, Any], would: str
) -> None:
    outcome = invoke(plugin, operation, given, config=config, dry_run=True)  # No secrets: none is asked for.
    assert (outcome.output, outcome.actions) == (None, [])
    assert outcome.would[0].startswith(would)


def test_unknown_targets_and_bad_settings_are_named() -> None:
    error = failed("slack", {"text": "x", "target": "ops"}, {"slack": {"dev": {}}})
    assert (error.code, error.reason) == (grpc.StatusCode.NOT_FOUND, "NO_TARGET")
    assert "has: dev" in error.message
    config = {"webhooks": {"a": {"url": "ftp://x"}, "b": {"url": "https://u:p@x/"}}, "attempts": 4}
    assert list(failed("webhook", {"payload": 1}, config).violations) == ["webhooks.a.url", "webhooks.b.url"]
    assert failed("email", {"to": ["a@b.c"], "subject": "s", "text": "t"}, {}).reason == "NO_TARGET"


def test_the_process_posts_and_logs_no_secret() -> None:
    asyncio.run(_in_a_process())


async def _in_a_process() -> None:
    with WebReceiver((200, {}, "ok"), (404, {}, json.dumps(SECRETS))) as receiver:
        config = {"slack": {"default": {"base_url": receiver.url}}}
        granted = {"secrets": ["notify-slack"]}
        async with PluginProcess(FOLDER, config=config, secrets=SECRETS, granted=granted) as process:
            outcome = await process.invoke("slack", {"text": "hi"})
            assert outcome.output == {"status": 200, "answer": "ok"}
            with pytest.raises(RpcError) as caught:
                await process.invoke("slack", {"text": "hi"})
            assert caught.value.code is grpc.StatusCode.NOT_FOUND
            assert SECRETS["notify-slack"] not in "".join(process.logs) + str(caught.value)
        assert [each.path for each in receiver.arrived] == ["/T0/B0/x9K2secret"] * 2
