"""Plugins as classes, in this process and as the mesh starts them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest

from consort import RpcError
from consort.plugin import Adapter, Call, Effect, Limits, operation
from consort.plugin.testing import PluginProcess, invoke

MANIFEST = """
id = "shelf"
version = "1.2.0"
description = "Keeps things."
command = ["python", "main.py"]
protocol = 1
"""
CODE = """
from consort.plugin import Adapter, operation
class Shelf(Adapter):
    effect = "read"
    def __init__(self) -> None:
        self.things: list[str] = []
    @operation(effect="write")
    async def put(self, thing: str) -> int:
        self.things.append(thing)
        return len(self.things)
    def all(self) -> list[str]:
        return self.things
if __name__ == "__main__":
    Shelf.serve()
"""


@dataclass
class Settings:
    start: int = 1


class Base(Adapter):
    effect = Effect.READ

    def hello(self) -> str:
        """Says hello."""
        return "hello"


class Counter(Base):
    """Counts.

    More of it.
    """

    name, version, config = "counter", "0.1.0", Settings

    def __init__(self) -> None:
        self.count = -1

    async def configure(self, settings: Settings) -> None:
        self.count = settings.start

    @operation(name="add-to", effect="write", timeout=5.0, dry_run=True)
    def add(self, call: Call, n: Annotated[int, Limits(minimum=1)] = 1) -> int:
        """Adds."""
        if call.dry_run:
            call.would(f"add {n}")
        else:
            self.count += n
        return self.count

    async def pieces(self) -> AsyncIterator[bytes]:
        for _ in range(self.count):
            yield b"x"

    def _private(self) -> None:
        raise AssertionError

    @staticmethod
    def helper() -> None:
        raise AssertionError


def test_public_methods_are_operations() -> None:
    plugin = Counter.plugin()
    hello = plugin.hello()
    assert (hello.name, hello.version, hello.description) == ("counter", "0.1.0", "Counts.")
    effects = [(each.name, each.effect) for each in plugin.operations.values()]
    assert effects == [("hello", "read"), ("add-to", "write"), ("pieces", "read")]
    assert invoke(plugin, "add-to", {"n": 2}, config={"start": 5}).output == 7
    assert invoke(Counter.plugin(), "add-to", {"n": 2}, dry_run=True).would == ["add 2"]
    assert invoke(Counter.plugin(), "pieces", config={"start": 3}).data == b"xxx"
    assert invoke(plugin, "hello").output == "hello"


def test_what_is_wrong_about_a_class_is_told() -> None:
    class Odd(Adapter):
        name, version = "odd", "0.1.0"

        def untyped(self, thing: object, *rest: int) -> None: ...

    class Nameless(Adapter):
        def one(self) -> None: ...

    with pytest.raises(TypeError, match=r"untyped\.rest"):
        Odd.plugin()
    with pytest.raises(ValueError, match="name"):
        Nameless.plugin()


async def test_an_adapter_as_a_process(tmp_path: Path) -> None:
    (tmp_path / "consort-plugin.toml").write_text(MANIFEST, encoding="utf-8")
    (tmp_path / "main.py").write_text(CODE, encoding="utf-8")
    async with PluginProcess(tmp_path) as shelf:
        assert shelf.hello.description == "Keeps things."
        assert (await shelf.invoke("put", {"thing": "cup"})).output == 1
        assert (await shelf.invoke("all")).output == ["cup"]
        with pytest.raises(RpcError) as caught:
            await shelf.invoke("put", {"thing": 1})
        assert list(caught.value.violations) == ["thing"]
