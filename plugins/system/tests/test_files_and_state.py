"""Files, watches and the machine's state in the plugin `system`."""

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from consort import RpcError
from consort.plugin.testing import PluginProcess
from system_calls import Caller


@pytest.fixture
def place(tmp_path: Path) -> Path:
    place = tmp_path / "granted"
    (place / "inner" / "deep").mkdir(parents=True)
    (place / "a.txt").write_text("abc")
    (place / "inner" / "b.txt").write_text("")
    (place / "way-out").symlink_to("/etc/passwd")
    (place / "stays").symlink_to(place / "a.txt")
    return place


@pytest.fixture
def caller(tmp_path: Path, place: Path) -> Caller:
    data = tmp_path / "data"
    data.mkdir()
    return Caller(data, ["files"], fs_read=[str(place)])


def test_files_are_told_within_what_is_granted(caller: Caller, place: Path) -> None:
    found = caller("stat", path=str(place / "a.txt"))
    assert (found["kind"], found["size_bytes"], found["target"]) == ("file", 3, None)
    assert found["modified"] == (place / "a.txt").stat().st_mtime
    assert caller("stat", path=str(place / "stays"))["path"] == str(place / "a.txt")
    assert caller.code("stat", path=str(place / "none")) == ("NOT_FOUND", "NO_FILE")
    for path in ("/etc/passwd", "/none", str(place / "way-out"), f"{place}/../secret", f"{place}-not"):
        assert caller.code("stat", path=path) == ("PERMISSION_DENIED", "NOT_GRANTED"), path
    assert caller.code("stat", path="a.txt")[0] == "INVALID_ARGUMENT"


def test_folders_are_listed_with_a_limit(caller: Caller, place: Path) -> None:
    names = [each["path"].removeprefix(f"{place}/") for each in caller("list", path=str(place))["entries"]]
    assert names == ["a.txt", "inner", "stays", "way-out"]
    deep = caller("list", path=str(place), depth=3)["entries"]
    assert [each["path"].removeprefix(f"{place}/") for each in deep][1:4] == ["inner", "inner/b.txt", "inner/deep"]
    links = {each["path"].removeprefix(f"{place}/"): each["target"] for each in deep if each["kind"] == "link"}
    assert links["way-out"] == "/etc/passwd"
    cut = caller("list", path=str(place), limit=2)
    assert (len(cut["entries"]), cut["truncated"]) == (2, True)
    assert caller.code("list", path=str(place / "a.txt"))[0] == "FAILED_PRECONDITION"


def test_a_change_is_seen_and_none_is_missed(caller: Caller, place: Path) -> None:
    nothing = caller("watch", path=str(place), seconds=0)
    assert nothing["changes"] == []
    threading.Timer(0.2, (place / "inner" / "new.txt").write_text, ("x",)).start()
    seen = caller("watch", path=str(place), seconds=10)
    assert seen["changes"] == [{"path": str(place / "inner" / "new.txt"), "change": "created"}]
    (place / "a.txt").write_text("longer")
    (place / "inner" / "b.txt").unlink()
    later = caller("watch", path=str(place), seconds=10, since=seen["since"])
    assert {(Path(each["path"]).name, each["change"]) for each in later["changes"]} == {
        ("a.txt", "changed"),
        ("b.txt", "deleted"),
    }
    assert caller.code("watch", path=str(place), since="nonsense") == ("FAILED_PRECONDITION", "LOOK_FORGOTTEN")
    assert caller.code("watch", path="/etc") == ("PERMISSION_DENIED", "NOT_GRANTED")


def test_the_machine_tells_how_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEEN", "yes")
    monkeypatch.setenv("HIDDEN", "no")
    caller = Caller(tmp_path, ["machine"], env=["SEEN", "ABSENT"])
    assert caller("environment") == {"SEEN": "yes"}
    found = caller("machine")
    assert found["memory_bytes"] == psutil.virtual_memory().total
    assert found["processors"] == os.cpu_count()
    assert found["uptime_s"] > 0
    assert len(found["load"]) == 3
    assert found["disks"][0]["path"] == str(tmp_path)
    assert 0 < found["disks"][0]["free_bytes"] <= found["disks"][0]["total_bytes"]


async def _told(folder: Path) -> tuple[list[str], Any, str]:
    async with PluginProcess(folder) as plugin:
        names = [operation.name for operation in plugin.hello.operations if operation.dry_run]
        machine = await plugin.invoke("machine")
        with pytest.raises(RpcError, match="not granted") as caught:
            await plugin.invoke("run", {"program": "/bin/sh"})
        return names, machine.output, caught.value.code.name


def test_its_process_grants_only_what_the_manifest_says() -> None:
    names, machine, code = asyncio.run(_told(Path(__file__).resolve().parent.parent))
    assert names == ["stop_process", "start", "run", "stop", "shell_open", "shell_send", "shell_close"]
    assert machine["processors"] == os.cpu_count()
    assert code == "PERMISSION_DENIED"
