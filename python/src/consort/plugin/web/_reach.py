"""Whom requests may go to: hosts by name, and addresses by network.

What is not public is in IANA's registries of special-purpose addresses (RFC 6890 and those after it), with the address
at which Azure's machines find their host.
"""

import ipaddress
import queue
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from consort.plugin.errors import PluginError
from consort.plugin.web._place import Place

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Sequence[str]]

_MOST_ADDRESSES = 32
# Look-ups that hang are left to end by themselves; this many may.
_LOOKUPS = threading.BoundedSemaphore(64)

_NOT_PUBLIC_4 = [
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network, and the unspecified address
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT, and Alibaba's metadata
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host
        "169.254.0.0/16",  # link-local, and the metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments, and Oracle's metadata
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
]
# Of IPv6 only this part is public, but for what follows; unique local, link-local and multicast addresses are outside.
_GLOBAL_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = [
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, with Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which carries any IPv4 address
        "3fff::/20",  # documentation
    )
]
# Networks whose addresses carry an IPv4 address in their last 4 bytes: mapped, compatible, translated (NAT64).
_CARRIERS = [ipaddress.IPv6Network(network) for network in ("::ffff:0:0/96", "::/96", "64:ff9b::/96")]


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    return address in _GLOBAL_6 and not any(address in network for network in _NOT_PUBLIC_6)


@dataclass(frozen=True, slots=True)
class Reach:
    """Whom requests may go to.

    `hosts` are `host:port`, `host:*` or `*`, as in a manifest's `net`; a host may begin with `*.`, for all names below.
    `networks` are those that are not public and may be reached all the same. An address that stands in `hosts` as it
    is, such as `10.1.2.3:8080`, may be reached, too.
    """

    hosts: tuple[str, ...] = ("*",)
    networks: tuple[Network, ...] = ()

    def admit(self, place: Place) -> None:
        """PluginError PERMISSION_DENIED, reason HOST_NOT_GRANTED, if the host and port are not granted."""
        if not matches(self.hosts, place.host, place.port):
            host = f"[{place.host}]" if ":" in place.host else place.host
            problem = f'{host}:{place.port} is not granted; an operator may grant `net: ["{host}:{place.port}"]`'
            raise PluginError("PERMISSION_DENIED", problem, reason="HOST_NOT_GRANTED")

    def admit_address(self, address: Address, place: Place) -> None:
        """PluginError PERMISSION_DENIED, reason ADDRESS_REFUSED, if the address is not one to go to."""
        if self._is_open(address):
            return
        if place.address == address and matches(self.hosts, place.host, place.port, exactly=True):
            return
        problem = f"{place.host} is at {address}, which is not public; an operator may grant its network"
        raise PluginError("PERMISSION_DENIED", problem, reason="ADDRESS_REFUSED")

    def _is_open(self, address: Address) -> bool:
        granted = any(address.version == network.version and address in network for network in self.networks)
        if isinstance(address, ipaddress.IPv6Address) and any(address in carrier for carrier in _CARRIERS):
            # Whoever grants the translator has not granted what lies behind it.
            return granted and self._is_open(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
        return granted or is_public(address)


def matches(hosts: Iterable[str], host: str, port: int, *, exactly: bool = False) -> bool:
    """Whether one of the entries `host:port`, `host:*`, `*.name:port` or `*` means a host; `exactly`: names it."""
    for entry in hosts:
        if entry == "*":
            if not exactly:
                return True
            continue
        name, _, of = entry.rpartition(":")
        name = name.strip("[]").lower().rstrip(".")
        if of not in ("*", str(port)):
            continue
        if name == host or (not exactly and _is_wild(name, host)):
            return True
    return False


def _is_wild(name: str, host: str) -> bool:
    if name == "*":
        return True
    # A name only: no address ends in another one's tail.
    return name.startswith("*.") and host.endswith(name[1:]) and not host.replace(".", "").isdigit()


def resolved(place: Place, reach: Reach | None, resolve: Resolver, seconds: float) -> list[str]:
    """The addresses of a place, in the order to try them; every one is in reach.

    One that is not refuses the whole name: a public name that also leads inside is not to be trusted. OSError if there
    is none, or if it takes longer than `seconds`.
    """
    if reach is not None:
        reach.admit(place)
    found = [place.host] if place.address else _looked_up(place, resolve, seconds)
    if not found:
        raise OSError("the name has no address")
    for each in found[:_MOST_ADDRESSES]:
        address = ipaddress.ip_address(each)
        if reach is not None:
            reach.admit_address(address, place)
    return found[:_MOST_ADDRESSES]


def system_resolver(host: str, port: int) -> list[str]:
    """Asks the machine's own resolver."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _looked_up(place: Place, resolve: Resolver, seconds: float) -> list[str]:
    """Looks up in a thread, for a resolver cannot be told how long it may take."""
    if not _LOOKUPS.acquire(blocking=False):
        raise OSError("too many names are being looked up")
    said: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            said.put(list(resolve(place.host, place.port)))
        except Exception as error:
            said.put(error)
        finally:
            _LOOKUPS.release()

    threading.Thread(target=look_up, name="resolve", daemon=True).start()
    try:
        found = said.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError("the name was not resolved in time") from None
    if isinstance(found, UnicodeError):
        raise OSError("the name cannot be looked up")
    if isinstance(found, Exception):
        raise found
    return found
