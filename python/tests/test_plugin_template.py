"""What `consort plugin new --lang python` writes, and what the README shows, works as it stands."""

import asyncio
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import Any

from consort.plugin.testing import PluginProcess

_HERE = Path(__file__).resolve().parent.parent


def copied(target: Path) -> Path:
    """The template with a name filled in."""
    for source in (_HERE / "template-plugin").iterdir():
        if source.is_file():
            text = source.read_text(encoding="utf-8").replace("{{name}}", "greeter")
            (target / source.name).write_text(text, encoding="utf-8")
    return target


async def test_a_new_plugin_serves_and_passes_its_tests(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    async with PluginProcess(folder) as plugin:
        outcome = await plugin.invoke("greet", {"who": "Ada"})
        assert outcome.output == {"text": "Hello, Ada!", "times": 1}
    arguments = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    tests = await asyncio.create_subprocess_exec(*arguments, cwd=folder, stdout=PIPE, stderr=STDOUT)
    said, _ = await tests.communicate()
    assert (tests.returncode, b"2 passed" in said) == (0, True), said.decode()


async def test_the_plugin_of_the_readme(tmp_path: Path) -> None:
    text = (_HERE / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:python|toml)\n(.*?)```", text, re.DOTALL)
    code, manifest, tests = [
        block for block in blocks if ("words" in block and "plugin" in block) or 'id = "words"' in block
    ]
    folder = tmp_path / "plugins" / "words"
    folder.mkdir(parents=True)
    (folder / "main.py").write_text(code, encoding="utf-8")
    (folder / "consort-plugin.toml").write_text(manifest, encoding="utf-8")
    space: dict[str, Any] = {"__name__": "readme"}
    exec(code, space)  # noqa: S102 - it is ours.
    exec(tests.replace("plugins/words", str(folder)), space)  # noqa: S102
    await asyncio.to_thread(space["test_count"])
    await space["test_the_process"]()
