"""The examples of the Amazon S3 API Reference, and what another implementation signs."""

import datetime
import hashlib

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from objectstore import signing
from objectstore.signing import Keys, presigned_query, signed_headers

# Published with the examples; nobody's.
KEYS = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
NOW = datetime.datetime(2013, 5, 24, tzinfo=datetime.UTC)
HOST = "examplebucket.s3.amazonaws.com"
WELCOME = hashlib.sha256(b"Welcome to Amazon S3.").hexdigest()
PUT_HEADERS = {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY"}


@pytest.mark.parametrize(
    ("method", "key", "query", "headers", "digest", "signature"),
    [
        (
            "GET",
            "test.txt",
            {},
            {"range": "bytes=0-9"},
            signing.EMPTY,
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "PUT",
            "test$file.text",
            {},
            PUT_HEADERS,
            WELCOME,
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
        ),
        (
            "GET",
            "",
            {"lifecycle": ""},
            {},
            signing.EMPTY,
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "GET",
            "",
            {"max-keys": "2", "prefix": "J"},
            {},
            signing.EMPTY,
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)
def test_requests_are_signed_as_in_the_reference(
    method: str, key: str, query: dict[str, str], headers: dict[str, str], digest: str, signature: str
) -> None:
    signed = signed_headers(KEYS, method, signing.encoded_path(key), query, {**headers, "host": HOST}, digest, NOW)
    assert signed["authorization"].endswith(f",Signature={signature}")
    assert "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request," in signed["authorization"]


def test_links_are_signed_as_in_the_reference() -> None:
    query = presigned_query(KEYS, "GET", HOST, "/test.txt", 86_400, NOW)
    assert query.endswith("&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


@pytest.mark.parametrize("key", ["a b/ü+&=?#%.txt", "~tilde_-.!*'()", "a//b", "日本語", "100%25"])
def test_another_implementation_signs_the_same(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_any: NOW.replace(tzinfo=None))
    credentials = Credentials(KEYS.access_key_id, KEYS.secret_access_key)
    path, query = signing.encoded_path(f"bucket/{key}"), {"list-type": "2", "prefix": key, "x-id": "A/b c"}
    url = f"https://{HOST}{path}?{signing.encoded_query(query)}"
    request = AWSRequest("PUT", url, data=b"Welcome to Amazon S3.")
    S3SigV4Auth(credentials, "s3", KEYS.region).add_auth(request)
    digest = request.headers["X-Amz-Content-SHA256"]
    ours = signed_headers(KEYS, "PUT", path, query, {"host": HOST}, digest, NOW)
    assert request.headers["Authorization"].replace(", ", ",") == ours["authorization"]
    link = AWSRequest("GET", f"https://{HOST}{path}")
    S3SigV4QueryAuth(credentials, "s3", KEYS.region, expires=60).add_auth(link)
    theirs = link.url.partition("Signature=")[2]
    assert presigned_query(KEYS, "GET", HOST, path, 60, NOW).endswith(f"X-Amz-Signature={theirs}")
