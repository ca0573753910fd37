"""A plugin as a class: its public methods are its operations."""

import inspect
import tomllib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal, TypedDict, TypeVar, Unpack

from consort.plugin._operation import Effect
from consort.plugin.author import Plugin

_Function = TypeVar("_Function", bound=Callable[..., Any])
_OPTIONS = "__consort_operation__"
_MANIFEST = "consort-plugin.toml"


class Options(TypedDict, total=False):
    """What `operation` says about a method; as in `Plugin.operation`."""

    name: str
    effect: Effect | Literal["read", "idempotent_write", "write"]
    description: str
    timeout: float | timedelta | None
    dry_run: bool
    media_type: str


def operation(**options: Unpack[Options]) -> Callable[[_Function], _Function]:
    """Says more about a method of an Adapter than its annotations do: `@operation(effect="read")`."""

    def note(function: _Function) -> _Function:
        setattr(function, _OPTIONS, options)
        return function

    return note


class Adapter:
    """A plugin as a class: each public method of a subclass, async or plain, is an operation, as in `Plugin.operation`.

    `effect` is that of all methods that `operation` says nothing else about. `name`, `version` and `description`, left
    out, are those of the manifest beside the class's file. `config` is the type of the operator's configuration, which
    `configure` gets before the first call if there is such a method. `threads` and `calls` are as in Plugin. The
    process makes one instance, without arguments.
    """

    name: ClassVar[str] = ""
    version: ClassVar[str] = ""
    description: ClassVar[str] = ""
    effect: ClassVar[Effect | Literal["read", "idempotent_write", "write"]] = Effect.WRITE
    config: ClassVar[type | None] = None
    threads: ClassVar[int] = 16
    calls: ClassVar[int] = 256

    @classmethod
    def plugin(cls) -> Plugin:
        """The plugin that it is, with an instance of its own. ValueError and TypeError say what is wrong about it."""
        manifest = cls._manifest()
        found = Plugin(
            cls.name or manifest.get("id", ""),
            version=cls.version or manifest.get("version", ""),
            description=cls.description
            or manifest.get("description", "")
            or (inspect.getdoc(cls) or "").split("\n")[0],
            config=cls.config,
            threads=cls.threads,
            calls=cls.calls,
        )
        adapter = cls()
        for name in cls._methods():
            method = getattr(adapter, name)
            if name == "configure":
                found.on_configure(method)
                continue
            said: Options = getattr(method, _OPTIONS, Options())
            options = Options(effect=cls.effect)
            options.update(said)
            found.operation(**options)(method)
        return found

    @classmethod
    def serve(cls) -> None:
        """Serves until the mesh ends the plugin, and returns. Ends the process with 2 if no mesh started it."""
        cls.plugin().serve()

    @classmethod
    def _methods(cls) -> list[str]:
        """Names of the public methods, those of base classes first, in the order in which they are written."""
        bases = [base for base in reversed(cls.__mro__) if issubclass(base, Adapter) and base is not Adapter]
        names = [name for base in bases for name, member in vars(base).items() if inspect.isfunction(member)]
        return [name for name in dict.fromkeys(names) if not name.startswith("_")]

    @classmethod
    def _manifest(cls) -> dict[str, Any]:
        try:
            text = (Path(inspect.getfile(cls)).resolve().parent / _MANIFEST).read_text(encoding="utf-8")
        except (OSError, TypeError):
            return {}
        return tomllib.loads(text)
