"""The life of a plugin's process: handshake, service, end."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import grpc

from consort._gen.plugin.v1 import plugin_service_pb2 as pb
from consort._gen.plugin.v1.plugin_service_pb2_grpc import add_PluginServiceServicer_to_server
from consort.plugin._desk import Desk
from consort.plugin._health import Health
from consort.plugin._service import Service
from consort.plugin.host import Host, RemoteHost

log = logging.getLogger("consort.plugin")

COOKIE = "consort-plugin-host"
PROTOCOL = 1
_BY_HAND = 2
# How long a process that was told to end waits for what is in work; the mesh has drained it before.
_GRACE = 5.0
# When the mesh is gone nobody is left to end a process that does not end by itself.
_ORPHAN = 3.0
_OPTIONS = [
    ("grpc.max_receive_message_length", 8 * 1024 * 1024),
    ("grpc.max_send_message_length", 8 * 1024 * 1024),
    ("grpc.max_concurrent_streams", 4096),
]


class Surroundings(NamedTuple):
    """What the mesh said to the process."""

    socket: str
    data: str
    host_socket: str
    token: str


def surroundings(name: str) -> Surroundings:
    """Reads the environment. Ends the process with status 2 if it was started by hand, or by a mesh of another age."""
    environment = os.environ
    socket = environment.get("CONSORT_PLUGIN_SOCKET", "")
    if environment.get("CONSORT_PLUGIN_COOKIE") != COOKIE or not socket:
        print(
            f"'{name}' is a plugin of Consort, which the mesh starts. Install its folder with "
            "`consort plugin install DIR`, or try it with `consort plugin test DIR`.",
            file=sys.stderr,
        )
        sys.exit(_BY_HAND)
    low, _, high = environment.get("CONSORT_PLUGIN_PROTOCOLS", "1-1").partition("-")
    if not (low.isdigit() and high.isdigit() and int(low) <= PROTOCOL <= int(high)):
        offered = environment["CONSORT_PLUGIN_PROTOCOLS"]
        print(f"'{name}' speaks protocol {PROTOCOL}, and the mesh speaks {offered}", file=sys.stderr)
        sys.exit(_BY_HAND)
    return Surroundings(
        socket=socket,
        data=environment.get("CONSORT_PLUGIN_DATA", ""),
        host_socket=environment.get("CONSORT_HOST_SOCKET", ""),
        token=environment.pop("CONSORT_PLUGIN_TOKEN", ""),  # Not for what the plugin starts.
    )


def serve(name: str, hello: pb.HelloResponse, make_desk: Callable[[Host], Desk]) -> None:
    """Serves until the mesh is gone or says so, then leaves the process with status 0."""
    around = surroundings(name)
    if not logging.getLogger().handlers:
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # Commands that the plugin starts must not take what is said to it.
    stdin = os.dup(0)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    desk = asyncio.run(_serve(around, hello, make_desk, stdin))
    logging.shutdown()
    sys.stdout.flush()
    if desk.busy_threads:
        os._exit(0)  # A thread cannot be stopped, and the interpreter would wait for it for ever.


async def _serve(around: Surroundings, hello: pb.HelloResponse, make_desk: Callable[[Host], Desk], stdin: int) -> Desk:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    host = RemoteHost(around.host_socket, around.token) if around.host_socket else Host()
    desk = make_desk(host)
    health = Health(lambda: desk.is_stuck)
    desk.data = Path(around.data) if around.data else None
    server = grpc.aio.server(options=_OPTIONS)
    add_PluginServiceServicer_to_server(Service(hello, desk, health), server)
    server.add_generic_rpc_handlers((health.handler(),))
    server.add_insecure_port(f"unix:{around.socket}")
    await server.start()
    with contextlib.suppress(OSError):
        os.chmod(around.socket, 0o600)
    _say(f"1|{PROTOCOL}|unix|{around.socket}|grpc\n")

    def on_signal() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, os._exit, 128 + number)
        over.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    gone = threading.Event()

    def on_gone() -> None:
        gone.set()
        over.set()

    threading.Thread(target=_await_end, args=(stdin, loop, on_gone), daemon=True).start()
    await over.wait()
    health.leave()
    await desk.drain(0 if gone.is_set() else _GRACE)
    await server.stop(0)
    await host.close()
    desk.close()
    return desk


def _say(line: str) -> None:
    """Writes the handshake before anything that was printed while modules were loaded and is still buffered."""
    os.write(1, line.encode())
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        stream.flush()


def _await_end(stdin: int, loop: asyncio.AbstractEventLoop, on_gone: Callable[[], None]) -> None:
    """Reads standard input to its end: then the mesh is gone, and so is this process soon, whatever blocks its loop."""
    with contextlib.suppress(OSError):
        while os.read(stdin, 4096):
            pass
    with contextlib.suppress(RuntimeError):  # The loop may have ended before.
        loop.call_soon_threadsafe(on_gone)
    time.sleep(_ORPHAN)
    os._exit(0)
