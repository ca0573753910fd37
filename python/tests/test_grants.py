"""What plugins are held to by themselves."""

from pathlib import Path
from typing import Any

import pytest

from consort._gen.plugin.v1.plugin_service_pb2 import Permissions
from consort.plugin import Call, Plugin, PluginError, grants, patterns
from consort.plugin.testing import invoke

plugin = Plugin("granted", version="0.1.0")


@plugin.operation(effect="read")
def look(call: Call, what: str, value: str) -> Any:
    """One of the questions."""
    if what == "need":
        return grants.need(call, value, field="value")
    if what == "environment":
        return grants.environment(call, {value: "x"})
    return str(getattr(grants, what)(call, value))


def asked(tmp_path: Path, what: str, value: str, **granted: Any) -> Any:
    """An answer, or the code, reason, field and message of the refusal."""
    try:
        call = {"what": what, "value": value}
        return invoke(plugin, "look", call, permissions=Permissions(**granted), data=tmp_path).output
    except PluginError as error:
        return error.code.name, error.reason, "".join(error.violations), error.message


def test_capabilities(tmp_path: Path) -> None:
    assert asked(tmp_path, "need", "mouse", capabilities=["mouse"]) is None
    assert asked(tmp_path, "has", "mouse") == "False"
    told = "'mouse' is not granted; its manifest would say `capabilities = [\"mouse\"]`"
    assert asked(tmp_path, "need", "mouse") == ("PERMISSION_DENIED", "NOT_GRANTED", "value", told)


def test_programs_and_folders(tmp_path: Path) -> None:
    link = tmp_path / "tool"
    link.symlink_to("/bin/sh")
    (tmp_path / "text").write_text("x", encoding="utf-8")
    assert asked(tmp_path, "program", "sh", exec=["*"]).endswith("/sh")
    for value, code in {str(link): "PERMISSION_DENIED", "none-such": "NOT_FOUND", "./sh": "INVALID_ARGUMENT"}.items():
        assert asked(tmp_path, "program", value, exec=[str(tmp_path)])[0] == code, value
    assert asked(tmp_path, "program", str(tmp_path / "text"), exec=[str(tmp_path)])[:2] == ("NOT_FOUND", "NO_PROGRAM")
    assert asked(tmp_path, "folder", "") == str(tmp_path)
    assert asked(tmp_path, "folder", "/etc")[1:3] == ("NOT_GRANTED", "cwd")
    assert asked(tmp_path, "folder", "/etc/passwd", fs_read=["/etc"])[1] == "NO_FOLDER"
    assert asked(tmp_path, "readable", f"{tmp_path}/../../etc", fs_read=["/tmp/none"])[1] == "NOT_GRANTED"  # noqa: S108
    assert asked(tmp_path, "readable", "etc")[0] == "INVALID_ARGUMENT"
    assert asked(tmp_path, "writable", str(tmp_path / "new")) == str(tmp_path / "new")
    assert asked(tmp_path, "writable", "/etc/passwd", fs_read=["/etc"])[3].endswith('`fs_write = ["/etc/passwd"]`')


def test_environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEN", "yes")
    monkeypatch.setenv("CONSORT_PLUGIN_TOKEN", "secret")
    found = asked(tmp_path, "environment", "A", env=["SEEN", "NONE"])
    assert (set(found), found["SEEN"], found["A"]) == ({"PATH", "LANG", "TERM", "SEEN", "A"}, "yes", "x")
    for name in ("LD_PRELOAD", "CONSORT_X", "", "A=B", "A\0"):
        assert asked(tmp_path, "environment", name)[0] == "INVALID_ARGUMENT"


def test_patterns() -> None:
    found = patterns.first(patterns.compiled(["z", "b(x)?$"], exact=False), "a\nab\nz")
    assert found == patterns.Match(1, 3, 4, [""])
    assert patterns.first(patterns.compiled(["b$"], exact=True), "ab") is None
    with pytest.raises(PluginError) as caught:
        patterns.compiled(["a", "("], exact=False)
    assert list(caught.value.violations) == ["patterns[1]"]
    with pytest.raises(PluginError, match=r"longer than 1 s"):
        patterns.first(patterns.compiled(["(a|aa)+(a|aa)+[0-9]"], exact=False), "a" * 60)
