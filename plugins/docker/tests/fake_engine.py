"""A server on a unix socket that answers as a Docker Engine is documented to, with containers that nobody runs."""

import contextlib
import json
import socket
import socketserver
import ssl
import struct
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qs, unquote, urlsplit

ALPINE = "docker.io/library/alpine:3.20"
DIGEST = "sha256:" + "d" * 64


class Asked(NamedTuple):
    """A request. `path` is without the version of the API, which is `version`, empty if there is none."""

    method: str
    path: str
    version: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.body)


class Answered(NamedTuple):
    """What is answered. With `raw` the bytes go out as they are, and the connection is closed after them."""

    status: int = 200
    body: Any = None
    raw: Iterator[bytes] | None = None


def frame(stream: int, text: str) -> bytes:
    """A piece of output, as the engine sends it."""
    data = text.encode()
    return struct.pack(">B3xI", stream, len(data)) + data


def lines(*messages: dict[str, Any]) -> Iterator[bytes]:
    """Messages of a pull or a build."""
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    for message in messages:
        data = json.dumps(message).encode() + b"\r\n"
        yield b"%x\r\n%s\r\n" % (len(data), data)
    yield b"0\r\n\r\n"


def stream(*pieces: bytes) -> Iterator[bytes]:
    """What is written by a container, until the connection is closed."""
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\r\n"
    yield from pieces


def endless(*pieces: bytes) -> Iterator[bytes]:
    """It never stops."""
    yield from stream()
    while True:
        yield from pieces


class FakeEngine:
    """`asked` has the requests; `troubles` are answered instead, by method and path, as often as they are asked."""

    def __init__(self, path: Path, tls: ssl.SSLContext | None = None) -> None:
        self.path = path
        self.asked: list[Asked] = []
        self.troubles: dict[str, Callable[[Asked], Answered]] = {}
        self.versions = ("1.24", "1.51")
        self.images: dict[str, dict[str, Any]] = {}
        self.containers: dict[str, dict[str, Any]] = {}
        self.volumes: dict[str, dict[str, Any]] = {}
        self.networks: dict[str, dict[str, Any]] = {}
        self.execs: dict[str, dict[str, Any]] = {}
        self.logs = [frame(1, "one\n"), frame(2, "wrong\n"), frame(1, "tw"), frame(1, "o\n")]
        self.archives: list[list[str]] = []
        self.endless_exec = False
        self.ended = threading.Event()
        self._ids = 0
        self._lock = threading.Lock()
        self.network("bridge", {"Driver": "bridge"})
        self.network("host", {"Driver": "host"})
        fake = self

        class Handler(BaseHTTPRequestHandler):
            """Hands requests over."""

            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                head, _, rest = parts.path.lstrip("/").partition("/")
                versioned = head.startswith("v1.")
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers.get("content-length", "0")))
                path = unquote(f"/{rest}" if versioned else parts.path)
                asked = Asked(self.command, path, head[1:] if versioned else "", query, headers, body)
                with fake._lock:
                    fake.asked.append(asked)
                    trouble = fake.troubles.get(f"{self.command} {path}")
                    said = trouble(asked) if trouble else fake.answer(asked)
                self.close_connection = True
                if said.raw is not None:
                    for piece in said.raw:
                        if fake.ended.is_set():
                            return
                        self.wfile.write(piece)
                        self.wfile.flush()
                    return
                content = b"" if said.body is None else json.dumps(said.body).encode()
                self.send_response(said.status)
                self.send_header("content-type", "application/json")
                if said.status not in (204, 304):
                    self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_DELETE = do_GET  # noqa: N815

            def log_message(self, *_words: Any) -> None:
                """Says nothing."""

        class Server(socketserver.ThreadingUnixStreamServer):
            """Its threads end with it."""

            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_what: Any) -> None:
                """Who asked has gone."""

        class Secure(socketserver.ThreadingTCPServer):
            """The same over TLS."""

            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_what: Any) -> None:
                """Who asked has gone, or showed no certificate."""

            def get_request(self) -> Any:
                connection, address = super().get_request()
                assert tls is not None
                connection.settimeout(5)
                return tls.wrap_socket(connection, server_side=True), address

        self._server: socketserver.BaseServer
        self.port = 0
        if tls is None:
            self._server = Server(str(path), Handler)
        else:
            self._server = secure = Secure(("127.0.0.1", 0), Handler)
            self.port = secure.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, asked: Asked) -> Answered:
        """As the Engine API documents it."""
        parts = asked.path.strip("/").split("/")
        if asked.path == "/version":
            low, high = self.versions
            more = {"Version": "28.5.1", "Os": "linux", "Arch": "amd64", "KernelVersion": "6.8.0"}
            return Answered(200, {"ApiVersion": high, "MinAPIVersion": low, **more})
        if asked.path == "/info":
            told = {
                "Name": "box",
                "NCPU": 4,
                "MemTotal": 8 << 30,
                "Containers": len(self.containers),
                "Driver": "overlay2",
            }
            return Answered(200, {**told, "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"]})
        rooms: dict[str, Callable[[Asked, list[str]], Answered]] = {
            "images": self._images,
            "build": self._build,
            "containers": self._containers,
            "exec": self._exec,
            "volumes": self._volumes,
            "networks": self._networks,
        }
        room = rooms.get(parts[0])
        return room(asked, parts[1:]) if room else Answered(404, {"message": "page not found"})

    def id(self) -> str:
        """An id that was not there before."""
        self._ids += 1
        return f"{self._ids:064x}"

    def image(self, name: str, **config: Any) -> None:
        """Makes an image be there."""
        found = {"Id": f"sha256:{self.id()}", "RepoTags": [name], "RepoDigests": [f"{name}@{DIGEST}"], "Size": 7 << 20}
        self.images[name] = {**found, "Created": "2026-03-01T10:00:00Z", "Os": "linux", "Config": config}

    def container(self, name: str, labels: dict[str, str], state: str = "running", **more: Any) -> str:
        """Makes a container be there."""
        return self._made(name, {"Image": ALPINE, "Labels": labels, "HostConfig": {}, **more}, state)

    def network(self, name: str, more: dict[str, Any]) -> str:
        """Makes a network be there."""
        made = self.id()
        self.networks[made] = {"Id": made, "Name": name, "Internal": False, "Labels": {}, **more}
        return made

    def _made(self, name: str, config: dict[str, Any], state: str) -> str:
        made = self.id()
        running = {"Status": state, "Running": state == "running", "ExitCode": 0, "OOMKilled": False, "Error": ""}
        times = {"StartedAt": "2026-03-01T10:00:00Z", "FinishedAt": "0001-01-01T00:00:00Z"}
        self.containers[made] = {
            "Id": made,
            "Name": f"/{name}",
            "Created": "2026-03-01T10:00:00Z",
            "Path": "sh",
            "Args": ["-c", "true"],
            "State": {**running, **times},
            "Config": config,
            "HostConfig": config["HostConfig"],
            "Mounts": [],
            "NetworkSettings": {"Networks": {"none": {"IPAddress": ""}}},
        }
        return made

    def _images(self, asked: Asked, parts: list[str]) -> Answered:
        if parts == ["json"]:
            wanted = json.loads(asked.query.get("filters", "{}")).get("reference")
            found = [each for name, each in self.images.items() if not wanted or name in wanted]
            return Answered(200, [{**each, "Created": 1_772_359_200 + index} for index, each in enumerate(found)])
        if parts == ["create"]:
            name = asked.query["fromImage"]
            if "secret" in name and "x-registry-auth" not in asked.headers:
                told = f"pull access denied for {name}, repository does not exist or may require 'docker login'"
                return Answered(404, {"message": told})
            self.image(name)
            return Answered(raw=lines(*_pulled(name)))
        name = "/".join(parts if asked.method == "DELETE" else parts[:-1])
        if name not in self.images:
            return Answered(404, {"message": f"No such image: {name}"})
        if asked.method == "DELETE":
            used = [each for each in self.containers.values() if each["Config"]["Image"] == name]
            if used and "force" not in asked.query:
                told = f'conflict: unable to remove repository reference "{name}" (must force) - container is using it'
                return Answered(409, {"message": told})
            gone = self.images.pop(name)
            return Answered(200, [{"Untagged": name}, {"Deleted": gone["Id"]}])
        return Answered(200, self.images[name])

    def _build(self, asked: Asked, _parts: list[str]) -> Answered:
        with tarfile.open(fileobj=BytesIO(asked.body)) as tar:
            self.archives.append(sorted(tar.getnames()))
            file = tar.extractfile(asked.query["dockerfile"])
            assert file is not None
            commands = file.read().decode().splitlines()
        told: list[dict[str, Any]] = []
        for number, command in enumerate(commands, 1):
            told.append({"stream": f"Step {number}/{len(commands)} : {command}"})
            told.append({"stream": "\n"})
            if command == "RUN false":
                failure = "The command '/bin/sh -c false' returned a non-zero code: 1"
                error = {"errorDetail": {"code": 1, "message": failure}, "error": failure}
                return Answered(raw=lines(*told, error))
        self.image(asked.query["t"])
        made = self.images[asked.query["t"]]["Id"]
        done = f"Successfully built {made[7:19]}\n"
        return Answered(raw=lines(*told, {"aux": {"ID": made}}, {"stream": done}))

    def _containers(self, asked: Asked, parts: list[str]) -> Answered:
        if parts == ["json"]:
            return Answered(200, self._listed(asked))
        if parts == ["create"]:
            return self._create(asked)
        found = self._found(self.containers, parts[0])
        if found is None:
            return Answered(404, {"message": f"No such container: {parts[0]}"})
        what = parts[1] if len(parts) > 1 else ""
        state = found["State"]
        if asked.method == "DELETE":
            if state["Running"] and asked.query.get("force") != "true":
                told = f'cannot remove container "{found["Name"]}": container is running: stop it before removing it'
                return Answered(409, {"message": told})
            del self.containers[found["Id"]]
            return Answered(204)
        if what == "json":
            return Answered(200, found)
        if what in ("start", "restart"):
            if state["Running"] and what == "start":
                return Answered(304)
            if found["Config"].get("Cmd") == ["no-such-program"]:
                told = (
                    'failed to create task for container: exec: "no-such-program": executable file not found in $PATH'
                )
                return Answered(400, {"message": told})
            state.update(Status="running", Running=True)
            return Answered(204)
        if what in ("stop", "kill"):
            if not state["Running"]:
                told = f"cannot kill container: {parts[0]}: container {parts[0]} is not running"
                return Answered(304) if what == "stop" else Answered(409, {"message": told})
            state.update(Status="exited", Running=False, ExitCode=137, FinishedAt="2026-03-01T10:05:00Z")
            return Answered(204)
        if what == "wait":
            return Answered(200, {"StatusCode": 3})
        if what == "logs":
            return Answered(raw=stream(*self.logs))
        if what == "exec":
            made = self.id()
            self.execs[made] = {"ID": made, "Running": True, "ExitCode": None, "Asked": asked.value, "Looks": 0}
            return Answered(201, {"Id": made})
        if what == "stats":
            return Answered(200, STATS)
        return Answered(404, {"message": "page not found"})

    def _listed(self, asked: Asked) -> list[dict[str, Any]]:
        wanted = json.loads(asked.query.get("filters", "{}")).get("label", [])
        found = []
        for index, each in enumerate(self.containers.values()):
            labels = each["Config"]["Labels"]
            state = each["State"]["Status"]
            if all(labels.get(label.partition("=")[0]) == label.partition("=")[2] for label in wanted) and (
                asked.query["all"] == "true" or state == "running"
            ):
                names = {"Id": each["Id"], "Names": [each["Name"]], "Image": each["Config"]["Image"], "Labels": labels}
                found.append({**names, "State": state, "Status": "Up 5 minutes", "Created": 1_772_359_200 + index})
        return found

    def _create(self, asked: Asked) -> Answered:
        name, config = asked.query["name"], asked.value
        if config["Image"] not in self.images:
            return Answered(404, {"message": f"No such image: {config['Image']}"})
        if (taken := self._found(self.containers, name)) is not None:
            told = f'Conflict. The container name "/{name}" is already in use by container "{taken["Id"]}".'
            return Answered(409, {"message": f"{told} You have to remove (or rename) that container."})
        return Answered(201, {"Id": self._made(name, config, "created"), "Warnings": []})

    def _exec(self, asked: Asked, parts: list[str]) -> Answered:
        found = self.execs[parts[0]]
        if parts[1] == "start":
            return Answered(raw=endless(frame(1, ".")) if self.endless_exec else stream(*self.logs))
        found["Looks"] += 1  # The engine may be a moment later than the end of the output.
        return Answered(200, {**found, "Running": found["Looks"] < 3, "ExitCode": 7 if found["Looks"] > 2 else None})

    def _volumes(self, asked: Asked, parts: list[str]) -> Answered:
        if not parts:
            return Answered(200, {"Volumes": list(self.volumes.values()), "Warnings": None})
        if parts == ["create"]:
            made = {"CreatedAt": "2026-03-01T10:00:00Z", **asked.value}
            self.volumes[made["Name"]] = made
            return Answered(201, made)
        if parts[0] not in self.volumes:
            return Answered(404, {"message": f"get {parts[0]}: no such volume"})
        if asked.method == "DELETE":
            if parts[0] == "used":
                return Answered(409, {"message": "remove used: volume is in use - [abc]"})
            del self.volumes[parts[0]]
            return Answered(204)
        return Answered(200, self.volumes[parts[0]])

    def _networks(self, asked: Asked, parts: list[str]) -> Answered:
        if not parts:
            return Answered(200, list(self.networks.values()))
        if parts == ["create"]:
            return Answered(201, {"Id": self.network(asked.value["Name"], asked.value), "Warning": ""})
        found = self._found(self.networks, parts[0])
        if found is None:
            return Answered(404, {"message": f"network {parts[0]} not found"})
        if asked.method == "DELETE":
            del self.networks[found["Id"]]
            return Answered(204)
        return Answered(200, found)

    @staticmethod
    def _found(things: dict[str, dict[str, Any]], name: str) -> dict[str, Any] | None:
        named = (each for each in things.values() if each["Name"].lstrip("/") == name)
        return things.get(name) or next(named, None)


def waiting(seconds: float = 60.0) -> Iterator[bytes]:
    """Nothing, for a long time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.02)
        yield b""


def _pulled(name: str) -> Iterator[dict[str, Any]]:
    yield {"status": f"Pulling from {name}", "id": "3.20"}
    for layer in ("a1", "b2"):
        yield {"status": "Pulling fs layer", "progressDetail": {}, "id": layer}
    for layer, total in (("a1", 1 << 20), ("b2", 3 << 20)):
        for current in (total // 2, total):
            yield {"status": "Downloading", "progressDetail": {"current": current, "total": total}, "id": layer}
        yield {"status": "Download complete", "progressDetail": {}, "id": layer}
        yield {"status": "Pull complete", "progressDetail": {}, "id": layer}
    yield {"status": f"Digest: {DIGEST}"}
    yield {"status": f"Status: Downloaded newer image for {name}"}


STATS: dict[str, Any] = {
    "cpu_stats": {"cpu_usage": {"total_usage": 300_000_000}, "system_cpu_usage": 9_000_000_000, "online_cpus": 4},
    "precpu_stats": {"cpu_usage": {"total_usage": 100_000_000}, "system_cpu_usage": 5_000_000_000, "online_cpus": 4},
    "memory_stats": {"usage": 20 << 20, "limit": 512 << 20, "stats": {"inactive_file": 4 << 20}},
    "pids_stats": {"current": 3},
    "networks": {"eth0": {"rx_bytes": 10, "tx_bytes": 20}, "eth1": {"rx_bytes": 1, "tx_bytes": 2}},
    "blkio_stats": {"io_service_bytes_recursive": [{"op": "read", "value": 4096}, {"op": "Write", "value": 8192}]},
}


@contextlib.contextmanager
def silent(path: Path) -> Iterator[None]:
    """An engine that takes connections and says nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(8)
        yield
