"""URLs, taken apart and held to what may stand in one."""

import ipaddress
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

_LONGEST = 8 * 1024
_LONGEST_HOST = 253
_PORTS = {"http": 80, "https": 443}
# What RFC 3986 lets stand in a path and a query, with what is encoded already.
_SAFE = "%/:=&?~+!$,;'@()*[]-._"


class Place(NamedTuple):
    """Where a request goes: `host` in lower case and ASCII, an IPv6 address without brackets; `path` with the query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def shown(self) -> str:
        """The part that may stand in a message: host, and port if it is not the scheme's."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole as a URL."""
        return f"{self.scheme}://{self.shown}{self.path}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """Equal for places that credentials may be shared between."""
        return self.scheme, self.host, self.port

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The host as an address, None if it is a name."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    def linked(self, url: str) -> "Place":
        """The place of a link that stands here. ValueError as `place_of`."""
        return place_of(urljoin(self.url, _plain(url)))


def place_of(url: str) -> Place:
    """Takes a URL apart; its fragment is left out. ValueError says what is wrong about it."""
    parts = urlsplit(_plain(url))
    if parts.scheme not in _PORTS:
        raise ValueError("is neither http:// nor https://; write for example https://example.com/path")
    if parts.username is not None or parts.password is not None:
        raise ValueError("has a name or a password in it; put it into a header, by a secret")
    host = _host(parts.hostname or "")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("has a port that is none; write 1 to 65535")
    path = quote(parts.path or "/", safe=_SAFE)
    if parts.query:
        path += "?" + quote(parts.query, safe=_SAFE)
    return Place(parts.scheme, host, port or _PORTS[parts.scheme], path)


def _plain(url: str) -> str:
    # Parsers differ in what they make of these, and so might a check and a connection.
    if any(character <= " " or character in "\\\x7f" for character in url):
        raise ValueError("has a blank, a control character or a backslash in it; encode it")
    if len(url) > _LONGEST:
        raise ValueError(f"has {len(url)} characters; {_LONGEST} is the most")
    return url


def _host(host: str) -> str:
    if not host:
        raise ValueError("has no host; write for example https://example.com/path")
    if ":" in host:
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError:
            raise ValueError(f"has a host that is no address: [{host}]") from None
    try:
        found = host.rstrip(".").encode("idna").decode().lower()
    except UnicodeError:
        found = ""
    if not 0 < len(found) <= _LONGEST_HOST or not all(each.isalnum() or each in "-._" for each in found):
        raise ValueError(f"has a host that is no name: {host[:100]!r}")
    return found
