"""A plugin's process, started as the mesh starts it."""

import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import tomllib
import uuid
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc
from google.protobuf.duration_pb2 import Duration

from consort._gen.blob.v1.blob_service_pb2_grpc import add_BlobServiceServicer_to_server
from consort._gen.blob.v1.payload_pb2 import Payload
from consort._gen.plugin.v1 import plugin_service_pb2 as pb
from consort._gen.plugin.v1.plugin_host_service_pb2_grpc import add_PluginHostServiceServicer_to_server
from consort._gen.plugin.v1.plugin_service_pb2_grpc import PluginServiceStub
from consort.errors import from_rpc
from consort.plugin._operation import struct_of
from consort.plugin._serve import COOKIE
from consort.plugin.testing._fakes import FakeMesh
from consort.plugin.testing._outcome import Outcome, gather

_START = 10.0
_MOST_LINES = 10_000
# A socket's path is no authority to every server.
_CHANNEL = [
    ("grpc.max_receive_message_length", 8 * 1024 * 1024),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.default_authority", "plugin"),
]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A plugin's `consort-plugin.toml`: what of it tests need, with its folder."""

    folder: Path
    id: str
    version: str
    command: list[str]
    permissions: Mapping[str, list[str]]
    limits: Mapping[str, int]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads the manifest of a folder."""
        found = tomllib.loads((folder / "consort-plugin.toml").read_text(encoding="utf-8"))
        limits = found.get("limits", {})
        permissions: dict[str, list[str]] = {}
        for table in ("permissions", "optional"):
            for name, values in found.get(table, {}).items():
                permissions.setdefault(name, []).extend(values)
        return cls(folder, found["id"], found["version"], found["command"], permissions, limits)

    def argv(self) -> list[str]:
        """The command. `python` is the folder's own, if it has one, or the one of the tests."""
        program, *arguments = self.command
        own = self.folder / ".venv" / "bin" / "python"
        if program == "python":
            program = str(own) if own.exists() else sys.executable
        elif (self.folder / program).exists():
            program = str(self.folder / program)
        return [program, *arguments]

    def granted(self, data: Path) -> pb.Permissions:
        """All that the manifest wants, with its variables filled in."""
        places = {"${folder}": str(self.folder), "${data}": str(data)}
        found = pb.Permissions()
        for name, values in self.permissions.items():
            for each in values:
                value = each
                for word, place in places.items():
                    value = value.replace(word, place)
                getattr(found, name).append(os.path.expanduser(value))
        return found


class PluginProcess:
    """A plugin in any language, started from its folder as the mesh starts it, with its limit of memory and no sandbox.

    `async with PluginProcess(folder, config=..., secrets=...) as plugin: await plugin.invoke("name", {...})`. It has
    said hello, is healthy and configured when the block begins, and is drained and ended when it is left. `hello` is
    what it said, `logs` the last 10,000 lines it wrote, `mesh` has its `state`, `events` and `blobs`, `data` is its own
    folder. `environment` adds variables to the few that the mesh sets, `granted` permissions
    to those of the manifest: `{"secrets": ["token"]}`. AssertionError says how it broke the protocol.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        config: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        granted: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.manifest = Manifest.read(Path(folder).resolve())
        self.logs: deque[str] = deque(maxlen=_MOST_LINES)
        self.hello = pb.HelloResponse()
        self._config = config
        self._secrets = secrets or {}
        self._environment = environment or {}
        self._granted = granted or {}
        self._readers: list[asyncio.Task[None]] = []
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        self._scratch = Path(tempfile.mkdtemp(prefix="consort-"))  # Short: a socket's path has 107 bytes at most.
        self.data = self._scratch / "data"
        self.data.mkdir()
        self.permissions = self.manifest.granted(self.data)
        for kind, entries in self._granted.items():
            getattr(self.permissions, kind).extend(entries)
        token = uuid.uuid4().hex
        self.mesh = FakeMesh(token, self.permissions, self._secrets)
        self._server = grpc.aio.server()
        add_PluginHostServiceServicer_to_server(self.mesh, self._server)
        add_BlobServiceServicer_to_server(self.mesh, self._server)
        self._server.add_insecure_port(f"unix:{self._scratch}/host")
        await self._server.start()
        try:
            await self._start(token)
        except BaseException:
            await self._clean_up()
            raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        try:
            if self.process.returncode is None:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await self.drain(1.0)
                await self.terminate()
        finally:
            await self._clean_up()

    @property
    def process(self) -> Process:
        """The process."""
        assert self._process is not None, "it was not started"
        return self._process

    async def invoke(
        self,
        operation: str,
        input: Mapping[str, Any] | None = None,  # noqa: A002
        *,
        timeout: float = 10.0,
        dry_run: bool = False,
        idempotency_key: str = "",
    ) -> Outcome:
        """Calls an operation and waits for its end. RpcError is how it fails."""
        call = self.call(operation, input, timeout=timeout, dry_run=dry_run, idempotency_key=idempotency_key)
        try:
            return await gather(call)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None

    def call(
        self,
        operation: str,
        input: Mapping[str, Any] | None = None,  # noqa: A002
        *,
        timeout: float = 10.0,
        dry_run: bool = False,
        idempotency_key: str = "",
    ) -> Any:
        """Calls an operation: the stream of its messages, which can be cancelled."""
        request = pb.InvokeRequest(
            operation=operation,
            input=Payload(json=json.dumps(input or {})),
            call_id=str(uuid.uuid4()),
            idempotency_key=idempotency_key or str(uuid.uuid4()),
            dry_run=dry_run,
        )
        return self._stub.Invoke(request, timeout=timeout)

    async def drain(self, grace: float) -> int:
        """Asks to take nothing new; how many calls were cancelled after `grace` seconds."""
        duration = Duration()
        duration.FromMilliseconds(round(grace * 1e3))
        answer = await self._stub.Drain(pb.DrainRequest(grace=duration), timeout=grace + 5.0)
        return int(answer.cancelled)

    async def health(self) -> int:
        """The status that grpc.health.v1 tells: 1 is SERVING, 2 is NOT_SERVING."""
        check: Any = self._channel.unary_unary("/grpc.health.v1.Health/Check", None, None)
        answer: bytes = await check(b"", timeout=5.0)
        return answer[1]

    async def terminate(self) -> int:
        """Ends it with SIGTERM, after 5 s with SIGKILL; its exit status."""
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            return await asyncio.wait_for(self.process.wait(), 5.0)
        except TimeoutError:
            os.killpg(self.process.pid, signal.SIGKILL)
            return await self.process.wait()

    async def _start(self, token: str) -> None:
        socket = f"{self._scratch}/plugin"
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            **{name: os.environ[name] for name in self.permissions.env if name in os.environ},
            **self._environment,
            "CONSORT_PLUGIN_COOKIE": COOKIE,
            "CONSORT_PLUGIN_PROTOCOLS": "1-1",
            "CONSORT_PLUGIN_SOCKET": socket,
            "CONSORT_PLUGIN_DATA": str(self.data),
            "CONSORT_HOST_SOCKET": f"{self._scratch}/host",
            "CONSORT_PLUGIN_TOKEN": token,
        }
        self._process = await asyncio.create_subprocess_exec(
            *self.manifest.argv(),
            cwd=self.manifest.folder,
            env=environment,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
        )
        if memory := self.manifest.limits.get("memory_mib"):
            resource.prlimit(self.process.pid, resource.RLIMIT_AS, (memory << 20, memory << 20))
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers.append(asyncio.create_task(self._log(self.process.stderr)))
        line = await asyncio.wait_for(self.process.stdout.readline(), _START)
        wanted = f"1|1|unix|{socket}|grpc\n"
        assert line.decode() == wanted, f"the handshake is {line!r}, not {wanted!r}; {list(self.logs)}"
        self._readers.append(asyncio.create_task(self._log(self.process.stdout)))
        self._channel = grpc.aio.insecure_channel(f"unix:{socket}", options=_CHANNEL)
        self._stub: Any = PluginServiceStub(self._channel)
        assert await self.health() == 1, "it is not healthy"
        try:
            self.hello = await self._stub.Hello(pb.HelloRequest(mesh_version="0.1.0", protocol=1), timeout=_START)
            config = None if self._config is None else struct_of(dict(self._config))
            request = pb.ConfigureRequest(config=config, permissions=self.permissions)
            await self._stub.Configure(request, timeout=_START)
        except grpc.aio.AioRpcError as error:
            raise from_rpc(error) from None
        said, written = (self.hello.name, self.hello.version), (self.manifest.id, self.manifest.version)
        assert said == written, f"it says that it is {said}, and its manifest {written}"

    async def _log(self, stream: asyncio.StreamReader) -> None:
        with contextlib.suppress(ValueError):  # A line of more than 64 KiB.
            while line := await stream.readline():
                self.logs.append(line.decode(errors="replace").rstrip("\n"))

    async def _clean_up(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        if self._process is not None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            await self._process.wait()
        await asyncio.gather(*self._readers)
        if hasattr(self, "_channel"):
            await self._channel.close(None)
        await self._server.stop(0)
        shutil.rmtree(self._scratch, ignore_errors=True)
