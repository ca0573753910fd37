"""A plugin: the operations that a process offers."""

import re
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, TypeVar

from consort._gen.plugin.v1 import plugin_service_pb2 as pb
from consort._schema import schema_of
from consort.plugin import _embedded, _hiding
from consort.plugin._desk import Desk
from consort.plugin._operation import Effect, Operation, operation_of, struct_of
from consort.plugin._reading import Reader, reader
from consort.plugin._serve import serve
from consort.plugin.host import Host

_Function = TypeVar("_Function", bound=Callable[..., Any])
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
_VERSION = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
_MOST_OPERATIONS = 1000
_MOST_THREADS = 1024
_MOST_CALLS = 10_000


class Plugin:
    """A plugin: decorate functions with `operation`, then `serve`.

    `name` is the id in its manifest: 1 to 63 of a-z, 0-9 and '-', from a letter on. `version` is semantic,
    `description` a sentence. `config` is the type of the operator's configuration, a dataclass or a TypedDict;
    calls have it as `call.config`. Plain functions run in at most `threads` threads, and at most `calls` calls are done
    at once. ValueError and TypeError name what is wrong about any of them.
    """

    def __init__(
        self,
        name: str,
        *,
        version: str,
        description: str = "",
        config: type | None = None,
        threads: int = 16,
        calls: int = 256,
    ) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"name: {name!r} is malformed; use 1 to 63 of a-z, 0-9 and '-', from a letter on")
        if not _VERSION.fullmatch(version):
            raise ValueError(f"version: {version!r} is not semantic; write for example 0.1.0")
        if not 1 <= threads <= _MOST_THREADS:
            raise ValueError(f"threads: {threads} is out of range; give 1 to {_MOST_THREADS}")
        if not 1 <= calls <= _MOST_CALLS:
            raise ValueError(f"calls: {calls} is out of range; give 1 to {_MOST_CALLS}")
        self.name = name
        self.version = version
        self.description = description
        self.operations: dict[str, Operation] = {}
        self._threads = threads
        self._calls = calls
        self._on_configure: Callable[..., Any] | None = None
        self._config_schema: dict[str, Any] | None = None
        self._read_config: Reader | None = None
        if config is not None:
            self._config_schema = schema_of(config, "config")
            if self._config_schema.get("type") != "object":
                raise TypeError(f"config: {config!r} is no object; give a dataclass or a TypedDict")
            self._read_config = reader(config)

    def operation(
        self,
        name: str = "",
        *,
        effect: Effect | Literal["read", "idempotent_write", "write"] = Effect.WRITE,
        description: str = "",
        timeout: float | timedelta | None = None,
        dry_run: bool = False,
        media_type: str = "",
    ) -> Callable[[_Function], _Function]:
        """Makes an operation of the decorated function, and returns the function unchanged.

        Its annotations become the JSON Schemas of input and output; `Annotated[int, "how many", Limits(minimum=1)]`
        says more about a parameter, and so does the docstring's section `Args`. A parameter of type Call gets the
        call. The function is async, or plain: then it runs in a thread. It returns what JSON can say, dataclasses, or
        bytes, or it is a generator that yields bytes, of `media_type`, and goes on when the receiver has room. Left
        out, `name` is the function's, and `description` its docstring. `effect` says what a repeated call does,
        `timeout` in seconds how long a call may take if its caller says nothing, `dry_run` that the function looks at
        `call.dry_run`. TypeError names a parameter without a schema, ValueError what else is wrong.
        """
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout

        def register(function: _Function) -> _Function:
            operation = operation_of(
                function,
                name=name,
                description=description,
                effect=effect,
                timeout=seconds,
                dry_run=dry_run,
                media_type=media_type,
            )
            if operation.name in self.operations:
                raise ValueError(f"operation: '{operation.name}' is there twice; give each its own name")
            if len(self.operations) >= _MOST_OPERATIONS:
                raise ValueError(f"operation: '{operation.name}' is one too many; {_MOST_OPERATIONS} is the most")
            self.operations[operation.name] = operation
            return function

        return register

    def on_configure(self, function: _Function) -> _Function:
        """Calls the decorated function, plain or async, with the configuration before the first call.

        What it raises ends the plugin's start: let it raise PluginError INVALID_ARGUMENT with the `field`.
        """
        self._on_configure = function
        return function

    def serve(self) -> None:
        """Serves until the mesh ends the plugin, and returns. Ends the process with 2 if no mesh started it.

        Within `consort-pyhost` that process serves, and only the functions are done here. On Linux no program that the
        plugin starts can read its memory or environment, and no debugger of the same user can.
        """
        _hiding.hide()
        if process := _embedded.native():
            _embedded.serve(self, process)
            return
        serve(self.name, self.hello(), self.desk)

    def hello(self) -> pb.HelloResponse:
        """Who the plugin is, as it tells the mesh. ValueError if it has no operations."""
        if not self.operations:
            raise ValueError("operations: none; decorate a function with @plugin.operation()")
        return pb.HelloResponse(
            name=self.name,
            version=self.version,
            description=self.description,
            operations=[operation.to_proto() for operation in self.operations.values()],
            config_schema=None if self._config_schema is None else struct_of(self._config_schema),
            sdk=f"python {_sdk_version()}",
        )

    def desk(self, host: Host) -> Desk:
        """What does its calls; made on the event loop."""
        return Desk(
            self.name,
            self.operations,
            self._read_config,
            self._on_configure,
            threads=self._threads,
            calls=self._calls,
            host=host,
        )


def _sdk_version() -> str:
    try:
        return version("consort-sdk")
    except PackageNotFoundError:
        return "unknown"
