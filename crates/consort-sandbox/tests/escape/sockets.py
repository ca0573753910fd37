"""Networks and sockets."""

import errno
import socket

from attempt import T, fail, probe

# Networks and sockets


@probe("closed")
def tcp_out():
    return socket.create_connection(("127.0.0.1", T["tcp"]), 2).fileno()


@probe("closed")
def tcp_in():
    server = socket.create_server(("127.0.0.1", 0))
    return server.getsockname()[1]


@probe("closed")
def tcp_over_ipv6():
    return socket.socket(socket.AF_INET6, socket.SOCK_STREAM).fileno()


@probe("closed")
def udp_out():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        return own.sendto(b"x", ("127.0.0.1", T["udp"]))


@probe("closed")
def raw_socket():
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).fileno()


@probe("closed")
def packet_socket():
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).fileno()


@probe("closed")
def netlink_socket():
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).fileno()


@probe("closed")
def vsock_socket():
    return socket.socket(40, socket.SOCK_STREAM).fileno()


@probe("closed", harmless=False)
def other_families():
    for family in (4, 5, 9, 10, 17, 21, 29, 30, 31, 37, 38, 39, 41, 43, 44):
        try:
            return socket.socket(family, socket.SOCK_DGRAM).fileno()
        except OSError as error:
            last = error
    raise last


@probe("closed")
def crypto_socket():
    return socket.socket(38, socket.SOCK_SEQPACKET).fileno()


@probe("closed")
def abstract_socket():
    with socket.socket(socket.AF_UNIX) as own:
        return own.connect("\0" + T["abstract"])


@probe("closed")
def unix_socket_outside():
    with socket.socket(socket.AF_UNIX) as own:
        return own.connect(T["socket"])


@probe("closed")
def interfaces():
    names = [name for _, name in socket.if_nameindex() if name != "lo"]
    return names or fail(errno.ENODEV)


# With some ports granted


@probe("ports")
def tcp_to_other_port():
    return socket.create_connection(("127.0.0.1", T["tcp"]), 2).fileno()


@probe("ports")
def tcp_fast_open():
    with socket.socket() as own:
        return own.sendto(b"x", 0x20000000, ("127.0.0.1", T["tcp"]))


@probe("ports")
def listen_on_other_port():
    with socket.socket() as own:
        return own.bind(("127.0.0.1", T["free"]))


@probe("ports")
def udp_beside_ports():
    return udp_out()


@probe("ports")
def raw_beside_ports():
    return raw_socket()


@probe("ports")
def multipath_tcp():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as own:
        return own.connect(("127.0.0.1", T["tcp"]))


@probe("ports")
def abstract_beside_ports():
    return abstract_socket()


@probe("ports")
def netlink_beside_ports():
    return netlink_socket()
