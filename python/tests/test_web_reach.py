"""Where requests of plugins go, and where they do not: by name, by address, and by redirect."""

import ipaddress
import threading
import time
from pathlib import Path

import grpc
import pytest
import trustme

from consort.plugin import PluginError
from consort.plugin.web import Reach, Request, Tries, is_public, matches, place_of
from web_kit import LOOPBACK, FakeResolver, asked, failed, got, not_got, post, trusted
from web_servers import WebServer, reply


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who vouches for the servers."""
    return trustme.CA()


@pytest.mark.parametrize("attempt", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "0"])
def test_however_it_is_written_this_machine_is_out_of_reach(attempt: str) -> None:
    with WebServer() as server:
        error = not_got(f"http://{attempt}:{server.port}/", reach=Reach())
        assert server.connections == 0
    assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ADDRESS_REFUSED")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("172.32.0.1", True),
        ("192.0.1.1", True),
        ("2606:4700::1111", True),
        ("2400:cb00::1", True),
        ("0.0.0.0", False),  # noqa: S104 - no server is bound to it.
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("100.100.100.200", False),
        ("127.0.0.1", False),
        ("168.63.129.16", False),
        ("169.254.169.254", False),
        ("172.31.255.255", False),
        ("192.0.0.192", False),
        ("192.168.1.1", False),
        ("198.18.0.1", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::8.8.8.8", False),
        ("::ffff:8.8.8.8", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::808:808", False),
        ("64:ff9b:1::1", False),
        ("100::1", False),
        ("2001::1", False),
        ("2001:db8::1", False),
        ("2002:7f00:1::", False),
        ("3fff::1", False),
        ("5f00::1", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),
        ("fe80::1", False),
        ("fec0::1", False),
        ("ff02::1", False),
    ],
)
def test_what_is_public(address: str, public: bool) -> None:
    parsed = ipaddress.ip_address(address)
    assert is_public(parsed) is public
    place = place_of("http://example.com/")
    if public:
        Reach().admit_address(parsed, place)
    else:
        with pytest.raises(PluginError, match="is not public"):
            Reach().admit_address(parsed, place)


@pytest.mark.parametrize(
    ("networks", "address", "open_"),
    [
        (["10.0.0.0/8"], "10.1.2.3", True),
        (["10.0.0.0/8"], "11.1.2.3", True),
        (["10.0.0.0/8"], "192.168.0.1", False),
        (["fd00::/8"], "fd12::1", True),
        (["64:ff9b::/96"], "64:ff9b::808:808", True),
        (["64:ff9b::/96"], "64:ff9b::a9fe:a9fe", False),
        (["64:ff9b::/96", "169.254.0.0/16"], "64:ff9b::a9fe:a9fe", True),
        (["::ffff:0:0/96"], "::ffff:127.0.0.1", False),
        (["127.0.0.0/8"], "::ffff:127.0.0.1", False),
        (["::/0"], "::1", False),
        (["::/0", "0.0.0.0/0"], "::1", True),
    ],
)
def test_networks_are_granted(networks: list[str], address: str, open_: bool) -> None:
    reach = Reach(networks=tuple(ipaddress.ip_network(each) for each in networks))
    place = place_of("http://example.com/")
    if open_:
        reach.admit_address(ipaddress.ip_address(address), place)
    else:
        with pytest.raises(PluginError, match="is not public"):
            reach.admit_address(ipaddress.ip_address(address), place)


@pytest.mark.parametrize(
    ("entry", "host", "port", "fits"),
    [
        ("*", "example.com", 1, True),
        ("example.com:443", "example.com", 443, True),
        ("Example.com.:443", "example.com", 443, True),
        ("example.com:443", "example.com", 80, False),
        ("example.com:*", "example.com", 80, True),
        ("*.example.com:443", "a.b.example.com", 443, True),
        ("*.example.com:443", "example.com", 443, False),
        ("*.example.com:443", "badexample.com", 443, False),
        ("example.com:443", "example.com.evil.org", 443, False),
        ("*.0.0.1:80", "127.0.0.1", 80, False),
        ("[::1]:80", "::1", 80, True),
        ("*:443", "example.com", 443, True),
        ("example.com", "example.com", 443, False),
    ],
)
def test_hosts_are_granted(entry: str, host: str, port: int, fits: bool) -> None:
    assert matches([entry], host, port) is fits


def test_only_granted_hosts_are_asked() -> None:
    with WebServer() as server:
        exact = Reach(hosts=(f"127.0.0.1:{server.port}",))
        assert got(server.url, reach=exact).status == 200
        error = not_got(server.url, reach=Reach(hosts=("example.com:443",), networks=LOOPBACK.networks))
        assert server.connections == 1
        # Granted by its name it is still held to what is public.
        error_by_name = not_got(f"http://localhost:{server.port}/", reach=Reach(hosts=(f"localhost:{server.port}",)))
    assert (error.code, error.reason) == (grpc.StatusCode.PERMISSION_DENIED, "HOST_NOT_GRANTED")
    assert f'net: ["127.0.0.1:{server.port}"]' in error.message
    assert error_by_name.reason == "ADDRESS_REFUSED"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://example.com/", "neither http"),
        ("file:///etc/passwd", "neither http"),
        ("gopher://example.com/", "neither http"),
        ("example.com/x", "neither http"),
        ("http:///x", "no host"),
        ("http://user:pass@example.com/", "a name or a password"),
        ("http://example.com@127.0.0.1/", "a name or a password"),
        ("http://example.com\\@127.0.0.1/", "backslash"),
        ("http://example.com/a b", "blank"),
        ("http://example.com/\r\nx: y", "blank"),
        ("http://example.com:0/", "port"),
        ("http://example.com:99999/", "port"),
        ("http://exa%6dple.com/", "no name"),
        ("http://[::1/", "URL"),
        ("http://[vX.1]/", "URL"),
        ("http://" + "a" * 300 + ".com/", "no name"),
        ("http://example.com/" + "a" * 9000, "characters"),
    ],
)
def test_bad_urls_are_refused_before_anything_is_looked_up(url: str, said: str) -> None:
    resolver = FakeResolver(["8.8.8.8"])
    error = not_got(url, reach=Reach(), resolve=resolver)
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "URL_INVALID")
    assert said in error.message
    assert resolver.asked == []


def test_urls_are_told_apart() -> None:
    place = place_of("HTTP://Bücher.Example.:8080/ä?q=ü&x=%41")
    assert (place.scheme, place.host, place.port) == ("http", "xn--bcher-kva.example", 8080)
    assert place.path == "/%C3%A4?q=%C3%BC&x=%41"
    assert place_of("https://[2606:4700::1]/").shown == "[2606:4700::1]"
    assert place_of("https://example.com/a/b").linked("../c?d").url == "https://example.com/c?d"
    assert place_of("https://example.com/a").linked("//other.org").origin == ("https", "other.org", 443)


def test_a_name_that_changes_its_mind_leads_nowhere_else() -> None:
    with WebServer(reply(503), reply(200, {}, "inside")) as server:
        # The check sees an address where nobody listens, and a second look-up would see the server.
        resolver = FakeResolver(["127.0.0.2"], ["127.0.0.1"])
        elsewhere = Reach(networks=(ipaddress.IPv4Network("127.0.0.2/32"),))
        tries = Tries(attempts=1)
        error = not_got(f"http://rebind.test:{server.port}/", reach=elsewhere, resolve=resolver, tries=tries)
        assert (error.reason, resolver.asked) == ("NOT_REACHED", ["rebind.test"])
        # The next attempt looks anew, and is checked anew.
        error = not_got(f"http://rebind.test:{server.port}/", reach=elsewhere, resolve=resolver, tries=tries)
        assert error.reason == "ADDRESS_REFUSED"
        # One address of several that is inside refuses the name.
        mixed = FakeResolver(["127.0.0.2", "127.0.0.1"])
        error = not_got(f"http://rebind.test:{server.port}/", reach=elsewhere, resolve=mixed)
        assert error.reason == "ADDRESS_REFUSED"
        assert server.connections == 0
        # The connection goes to what was resolved, with the name that was asked for.
        assert got(f"http://rebind.test:{server.port}/", reach=LOOPBACK, resolve=resolver).status == 200
        assert server.asked[0].headers["host"] == f"rebind.test:{server.port}"


def test_a_resolver_that_hangs_is_left() -> None:
    ends = threading.Event()

    def hangs(_host: str, _port: int) -> list[str]:
        ends.wait(10)
        return []

    began = time.monotonic()
    error = not_got("http://slow.test/", resolve=hangs, tries=Tries(attempts=1, timeout_s=0.1))
    ends.set()
    assert time.monotonic() - began < 8.0
    assert error.reason == "NOT_REACHED"


def test_names_that_are_nowhere_are_tried_again() -> None:
    resolver = FakeResolver([])
    error = not_got("http://nowhere.test/", resolve=resolver)
    assert (error.code, len(resolver.asked)) == (grpc.StatusCode.UNAVAILABLE, 3)
    assert error.message.endswith("(attempt 3 of 3)")


def test_redirects_are_followed_as_far_as_allowed() -> None:
    with WebServer() as last, WebServer() as first:
        last.replies = [reply(200, {}, "there")]
        first.replies = [reply(302, {"location": "/b"}), reply(308, {"location": f"{last.url}/c"})]
        headers = {"authorization": "Bearer x", "cookie": "a=b", "x-api-key": "k", "accept": "text/plain"}
        request = Request("GET", first.url, headers, repeatable=True)
        answer = asked(request, redirects=5, reach=LOOPBACK)
        assert (answer.text, answer.url) == ("there", f"{last.url}/c")
        assert [each.headers.get("authorization") for each in first.asked] == ["Bearer x", "Bearer x"]
        # Another port is another place: nothing goes there that might be a credential.
        (other,) = last.asked
        assert not {"authorization", "cookie", "x-api-key"} & set(other.headers)
        assert (other.headers["accept"], other.headers["host"]) == ("text/plain", f"127.0.0.1:{last.port}")
        first.replies = [reply(302, {"location": "/b"})]
        assert got(first.url).status == 302
        error = failed(Request("GET", first.url, repeatable=True, accept=299))
        assert "redirects are not followed" in error.message


def test_a_redirect_loop_ends() -> None:
    with WebServer(reply(302, {"location": "/again"})) as server:
        error = not_got(server.url, redirects=5)
        assert server.connections == 6
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TOO_MANY_REDIRECTS")


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://169.254.169.254/latest/meta-data/", "ADDRESS_REFUSED"),
        ("http://[::ffff:169.254.169.254]/", "ADDRESS_REFUSED"),
        ("http://[::1]/", "ADDRESS_REFUSED"),
        ("http://metadata.google.internal/", "ADDRESS_REFUSED"),
        ("//10.0.0.1/", "ADDRESS_REFUSED"),
        ("http://elsewhere.test/", "HOST_NOT_GRANTED"),
        ("file:///etc/passwd", "REDIRECT_REFUSED"),
        ("http://user:pass@x.test/", "REDIRECT_REFUSED"),
        ("http://x.test/ y", "REDIRECT_REFUSED"),
    ],
)
def test_each_hop_is_held_to_the_same_rules(location: str, reason: str) -> None:
    hosts: tuple[str, ...] = ("127.0.0.1:*", "169.254.169.254:*", "10.0.0.1:*", "*:80")
    if reason == "HOST_NOT_GRANTED":
        hosts = ("127.0.0.1:*",)
    elif reason == "ADDRESS_REFUSED":
        hosts = ("*",)
    with WebServer(reply(302, {"location": location})) as server:
        reach = Reach(hosts=hosts, networks=LOOPBACK.networks)
        error = not_got(server.url, redirects=5, reach=reach, resolve=FakeResolver(["169.254.169.254"]))
        assert server.connections == 1
    assert error.reason == reason


def test_a_redirect_does_not_leave_tls(authority: trustme.CA, tmp_path: Path) -> None:
    with WebServer() as plain, WebServer(reply(301, {"location": plain.url}), authority=authority) as server:
        error = not_got(server.url, redirects=5, ca_file=trusted(authority, tmp_path))
        assert plain.connections == 0
    assert "without TLS" in error.message


def test_writes_are_redirected_only_where_it_is_clear_what_that_means() -> None:
    with WebServer() as other, WebServer() as server:
        server.replies = [reply(303, {"location": "/done"}), reply(200, {}, "done")]
        assert asked(post(server.url, headers={"content-type": "a/b"}), redirects=5).text == "done"
        assert [each.method for each in server.asked] == ["POST", "GET"]
        assert (server.asked[1].body, "content-type" in server.asked[1].headers) == (b"", False)
        server.replies = [reply(307, {"location": "/there"}), reply(200)]
        assert asked(post(server.url), redirects=5).status == 200
        assert [(each.method, each.body) for each in server.asked[2:]] == [("POST", b"{}")] * 2
        for status in (301, 302, 307, 308):
            server.replies = [reply(status, {"location": other.url})]
            assert failed(post(server.url), redirects=5).reason == "OUTCOME_UNKNOWN"
            assert failed(post(server.url, repeatable=True), redirects=5).reason == "REDIRECT_REFUSED"
        # It was done, and what it says about that is nowhere.
        server.replies = [reply(303, {"location": "/done"}), reply(404)]
        assert failed(post(server.url), redirects=5).reason == "OUTCOME_UNKNOWN"
        assert other.connections == 0
