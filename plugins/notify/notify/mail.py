"""Sends mail over SMTP (RFC 5321), by default with STARTTLS (RFC 3207)."""

import smtplib
import ssl
import uuid
from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate

from consort.plugin import Call, PluginError
from consort.plugin.web import Trouble, tls, tried, unknown
from notify.settings import Email, Settings, tries

_NAMESPACE = uuid.UUID("5b8f6a51-6d7c-4e0c-9d53-0d3e2f7b1c44")


def compose(server: Email, to: Sequence[str], subject: str, text: str, html: str, key: str) -> EmailMessage:
    """The message. Its id follows from the idempotency key, so that a repeat can be told from a second message."""
    message = EmailMessage(policy=SMTP)
    try:
        message["From"] = server.sender
        message["To"] = ", ".join(to)
        message["Subject"] = subject
    except ValueError as error:  # A line break would be a header of its own.
        raise PluginError(
            "INVALID_ARGUMENT", f"the subject does not fit into a line: {error}", field="subject"
        ) from error
    domain = server.sender.rpartition("@")[2].rstrip("> ") or "localhost"
    message["Message-ID"] = f"<{uuid.uuid5(_NAMESPACE, key)}@{domain}>"
    message["Date"] = formatdate(usegmt=True)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answering machine shall answer.
    message.set_content(text)
    if html:
        message.add_alternative(html, subtype="html")
    return message


def send(call: Call, settings: Settings, server: Email, message: EmailMessage, password: str) -> dict[str, str]:
    """Sends a message; whom the server refused, with its words. PluginError if it refused all, or is not there."""
    return tried(call, tries(settings), lambda seconds: _once(settings, server, message, password, seconds))


def _once(settings: Settings, server: Email, message: EmailMessage, password: str, seconds: float) -> dict[str, str]:
    place = f"{server.host}:{server.port}"
    connection = _opened(settings, server, password, seconds, place)
    try:
        refused = connection.send_message(message)
    except smtplib.SMTPRecipientsRefused as error:
        told = "; ".join(f"{who}: {_words(*said)}" for who, said in error.recipients.items())
        passing = all(400 <= code < 500 for code, _ in error.recipients.values())
        raise Trouble("NOT_FOUND", f"{place} refused every recipient: {told}", again=passing) from None
    except smtplib.SMTPResponseException as error:
        raise _answered(place, error) from None
    except (OSError, smtplib.SMTPException) as error:
        raise unknown(f"{place} broke off: {type(error).__name__}") from None
    else:
        return {who: _words(*said) for who, said in refused.items()}
    finally:
        _hang_up(connection)


def _opened(settings: Settings, server: Email, password: str, seconds: float, place: str) -> smtplib.SMTP:
    """A connection that is encrypted and knows who we are. Nothing was sent if it fails, so it may be tried again."""
    connection: smtplib.SMTP | None = None
    try:
        if server.security == "tls":
            connection = smtplib.SMTP_SSL(server.host, server.port, timeout=seconds, context=tls(settings.ca_file))
        else:
            connection = smtplib.SMTP(server.host, server.port, timeout=seconds)
        if server.security == "starttls":
            connection.starttls(context=tls(settings.ca_file))
        if server.username:
            connection.login(server.username, password)
    except ssl.SSLCertVerificationError as error:
        trouble = Trouble("FAILED_PRECONDITION", f"{place}: {error.verify_message}", again=False)
    except smtplib.SMTPNotSupportedError as error:
        trouble = Trouble("FAILED_PRECONDITION", f"{place}: {error}", again=False)
    except smtplib.SMTPAuthenticationError as error:
        # Not what it said: some servers repeat the password's beginning.
        text = f"{place} does not accept '{server.username}' with the secret '{server.secret}' ({error.smtp_code})"
        trouble = Trouble("PERMISSION_DENIED", text, again=False)
    except smtplib.SMTPResponseException as error:
        trouble = _answered(place, error)
    except (OSError, smtplib.SMTPException) as error:
        trouble = Trouble("UNAVAILABLE", f"{place} cannot be reached: {error}", again=True)
    else:
        return connection
    if connection is not None:
        _hang_up(connection)
    raise trouble


def _answered(place: str, error: smtplib.SMTPResponseException) -> Trouble:
    """A code of 4xx is a refusal for now, one of 5xx for good; neither took the message."""
    passing = 400 <= error.smtp_code < 500
    code = "UNAVAILABLE" if passing else "FAILED_PRECONDITION"
    return Trouble(code, f"{place} answered {_words(error.smtp_code, error.smtp_error)}", again=passing)


def _hang_up(connection: smtplib.SMTP) -> None:
    try:
        connection.quit()
    except (OSError, smtplib.SMTPException):
        connection.close()


def _words(code: int, text: bytes | str) -> str:
    said = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code} {' '.join(said.split())[:200]}"
