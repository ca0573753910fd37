"""Addresses, channels and the pauses between attempts."""

import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

DEFAULT_ADDRESS = "127.0.0.1:7420"
MAX_FRAME = 16 * 1024 * 1024
# A peer that vanished without a word is noticed after 30 s; a channel of its own per owner keeps back-offs apart.
_OPTIONS = [
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.max_receive_message_length", MAX_FRAME),
    ("grpc.use_local_subchannel_pool", 1),
]


def resolve(address: str | None) -> str:
    """The given address, else CONSORT_ADDR, else 127.0.0.1:7420. ValueError if it is none."""
    source = "address" if address else "CONSORT_ADDR"
    found = address or os.environ.get("CONSORT_ADDR") or DEFAULT_ADDRESS
    plain = found.removeprefix("http://").removeprefix("https://").rstrip("/")
    if plain.startswith("unix:"):
        return found
    host, _, port = plain.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{source}: {found!r} is no address; write host:port, for example {DEFAULT_ADDRESS}")
    return found


def connect(address: str) -> grpc.aio.Channel:
    """A channel to the address: TLS with the system's roots for `https://`, otherwise plain text."""
    if address.startswith("https://"):
        target = address.removeprefix("https://").rstrip("/")
        return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(), options=_OPTIONS)
    return grpc.aio.insecure_channel(address.removeprefix("http://").rstrip("/"), options=_OPTIONS)


def pauses(first: float, longest: float) -> Iterator[float]:
    """Endless pauses in seconds, doubling from `first` to `longest`.

    Each is drawn from its upper half, so that workers which lost the mesh together do not return together.
    """
    pause = first
    while True:
        yield random.uniform(pause / 2, pause)
        pause = min(pause * 2, longest)


def now() -> Timestamp:
    """The time by this machine's clock."""
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp


def to_datetime(stamp: Timestamp) -> datetime:
    """The timestamp as a time in UTC, to the microsecond."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)
