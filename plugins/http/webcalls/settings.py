"""What the operator sets: where secrets may go, which networks may be reached, and how much may come back."""

import ipaddress
from dataclasses import dataclass, field
from typing import Annotated

from consort.plugin import Limits, PluginError
from consort.plugin.web import Reach, Tries, place_of


@dataclass
class Settings:
    """What is not said by the manifest's `net`.

    `networks` are networks that are not public and may be reached all the same, such as `10.20.0.0/16`. `secrets` says
    for each secret to which hosts it may be sent: `host:port` over TLS, `http://host:port` without. `answer_mib` is the
    most that an answer may have, and `download_mib` a download, once decompressed. `attempts` counts the first one,
    `timeout_s` is for each, `pause_s` the first pause between two, which doubles up to 8 s; a service that asks to wait
    for more than `longest_wait_s` is not waited for. `redirects` are followed at most. `idempotency_header` carries the
    call's idempotency key; empty, none does. `ca_file` has certificates to trust beside the system's, in PEM.
    """

    networks: list[str] = field(default_factory=list)
    secrets: dict[str, list[str]] = field(default_factory=dict)
    answer_mib: Annotated[int, Limits(minimum=1, maximum=64)] = 4
    download_mib: Annotated[int, Limits(minimum=1, maximum=65_536)] = 1024
    redirects: Annotated[int, Limits(minimum=0, maximum=20)] = 5
    attempts: Annotated[int, Limits(minimum=1, maximum=10)] = 4
    timeout_s: Annotated[float, Limits(exclusiveMinimum=0, maximum=300)] = 30.0
    pause_s: Annotated[float, Limits(exclusiveMinimum=0, maximum=8)] = 0.5
    longest_wait_s: Annotated[float, Limits(minimum=0, maximum=600)] = 60.0
    idempotency_header: Annotated[str, Limits(pattern=r"^[A-Za-z0-9-]{0,100}$")] = "idempotency-key"
    ca_file: str = ""

    def reach(self, net: tuple[str, ...]) -> Reach:
        """Whom requests may go to, with what the manifest was granted."""
        return Reach(net, tuple(ipaddress.ip_network(each) for each in self.networks))

    def tries(self, timeout_s: float | None) -> Tries:
        """How what may fail in passing is tried."""
        return Tries(self.attempts, timeout_s or self.timeout_s, self.pause_s, self.longest_wait_s)


def check(settings: Settings) -> None:
    """PluginError INVALID_ARGUMENT names every network and host that is none."""
    wrong: dict[str, str] = {}
    for number, network in enumerate(settings.networks):
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            wrong[f"networks[{number}]"] = f"is no network ({error}); write for example 10.20.0.0/16"
    for name, hosts in settings.secrets.items():
        for number, host in enumerate(hosts):
            if not _is_host(host):
                problem = f"{host!r} is no host; write for example api.example.com:443, or http://10.0.0.7:8080"
                wrong[f"secrets.{name}[{number}]"] = problem
    if wrong:
        told = "; ".join(f"{place}: {text}" for place, text in wrong.items())
        raise PluginError("INVALID_ARGUMENT", told, reason="CONFIG_INVALID", violations=wrong)


def _is_host(entry: str) -> bool:
    """`host:port`, and nothing that means more than the hosts of one owner: a secret is not for everybody."""
    host, _, port = entry.removeprefix("http://").rpartition(":")
    try:
        place_of(f"http://{host.removeprefix('*.')}:{port}/")
    except ValueError:
        return False
    return bool(host) and "*" not in host.removeprefix("*.") and "/" not in entry.removeprefix("http://")
