"""Signatures of requests to S3: AWS Signature Version 4, with headers and with query parameters.

The method and its examples are in the Amazon S3 API Reference, "Authenticating Requests (AWS Signature Version 4)".
"""

import datetime
import hashlib
import hmac
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote

EMPTY = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"
_ALGORITHM = "AWS4-HMAC-SHA256"


class Keys(NamedTuple):
    """Who signs, and where."""

    access_key_id: str
    secret_access_key: str
    region: str


def encoded_path(key: str) -> str:
    """The path of an object's key: each byte but letters, digits, `-_.~` and `/` is encoded, once."""
    return "/" + quote(key, safe="/-_.~")


def encoded_query(query: Mapping[str, str]) -> str:
    """Query parameters in the order of their encoded names."""
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def signed_headers(
    keys: Keys,
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    digest: str,
    now: datetime.datetime,
) -> dict[str, str]:
    """All headers of a request, signed. `headers` has lower-case names and `host`; `digest` is the body's SHA-256."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    whole = {**headers, "x-amz-content-sha256": digest, "x-amz-date": stamp}
    names = ";".join(sorted(whole))
    signature = _signature(keys, method, path, encoded_query(query), whole, digest, stamp)
    scope = f"{stamp[:8]}/{keys.region}/s3/aws4_request"
    whole["authorization"] = (
        f"{_ALGORITHM} Credential={keys.access_key_id}/{scope},SignedHeaders={names},Signature={signature}"
    )
    return whole


def presigned_query(keys: Keys, method: str, host: str, path: str, expires_s: int, now: datetime.datetime) -> str:
    """The query of a link that works for `expires_s` seconds, at most a week, without any header but the host's."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    query = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{keys.access_key_id}/{stamp[:8]}/{keys.region}/s3/aws4_request",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(expires_s),
        "X-Amz-SignedHeaders": "host",
    }
    text = encoded_query(query)
    signature = _signature(keys, method, path, text, {"host": host}, UNSIGNED, stamp)
    return f"{text}&X-Amz-Signature={signature}"


def _signature(
    keys: Keys, method: str, path: str, query: str, headers: Mapping[str, str], digest: str, stamp: str
) -> str:
    names = sorted(headers)
    listed = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in names)
    request = "\n".join((method, path, query, listed, ";".join(names), digest))
    scope = f"{stamp[:8]}/{keys.region}/s3/aws4_request"
    to_sign = "\n".join((_ALGORITHM, stamp, scope, hashlib.sha256(request.encode()).hexdigest()))
    key = f"AWS4{keys.secret_access_key}".encode()
    for part in (stamp[:8], keys.region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
