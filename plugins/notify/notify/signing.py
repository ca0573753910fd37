"""Signatures of webhooks, as Standard Webhooks 1.0.0 writes them (https://www.standardwebhooks.com).

What is signed is `{id}.{timestamp}.{body}` with HMAC-SHA256; so neither can a body be changed nor an old request be
sent again later, if the receiver looks at the timestamp.
"""

import base64
import binascii
import hashlib
import hmac

_PREFIX = "whsec_"


def headers(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that go with a body. A secret is `whsec_` and base64, or taken as the text it is.

    ValueError if what follows `whsec_` is no base64.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(_key(secret), signed, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _key(secret: str) -> bytes:
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("what follows whsec_ is no base64") from error
