"""A store that speaks S3 in a process of its own, and checks the signatures of requests."""

import json
import os
import queue
import re
import subprocess
import sys
import threading
from typing import Any, Self

import boto3
from botocore.config import Config

BUCKET = "reports"
_POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
# Making the user, its key, its policy and the bucket; from then on the store asks who is there.
_FREE_ACTIONS = 4
_START_S = 30


class S3Server:
    """moto's server on a free port. `access_key_id` and `secret` are those of a user who may do all with S3.

    It checks signatures in headers, and answers 500 to those in links; with `checks=False` it takes all.
    """

    def __init__(self, *, checks: bool = True) -> None:
        self._free = _FREE_ACTIONS if checks else 1_000_000

    def __enter__(self) -> Self:
        environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(self._free)}
        arguments = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
        self._process = subprocess.Popen(arguments, stderr=subprocess.PIPE, env=environment)  # noqa: S603
        found: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(found,), daemon=True)
        self._reader.start()
        self.url = found.get(timeout=_START_S)
        iam = self._client("iam", "any", "any")
        iam.create_user(UserName="consort")
        key = iam.create_access_key(UserName="consort")["AccessKey"]
        self.access_key_id, self.secret = key["AccessKeyId"], key["SecretAccessKey"]
        iam.put_user_policy(UserName="consort", PolicyName="s3", PolicyDocument=json.dumps(_POLICY))
        self._client("s3", "any", "any").create_bucket(Bucket=BUCKET)
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def client(self) -> Any:
        """Another client, which everybody has."""
        return self._client("s3", self.access_key_id, self.secret)

    def _client(self, service: str, key: str, secret: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(s3={"addressing_style": "path"}),
        )

    def _read(self, found: "queue.Queue[str]") -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if match := re.search(rb"Running on (http://\S+)", line):
                found.put(match[1].decode())
