"""Containers of a fake engine: their lives, what they write, and what they may have."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from consort._gen.plugin.v1.plugin_service_pb2 import Permissions
from consort.plugin.testing import PluginProcess
from docker_calls import OWN, Caller
from fake_engine import ALPINE, FakeEngine, frame

FOLDER = Path(__file__).resolve().parent.parent


def test_a_container_lives(engine: FakeEngine, caller: Caller) -> None:
    engine.image(ALPINE)
    done = caller.outcome("run", image="alpine:3.20", command=["echo", "hi"], name="job", env={"A": "b"}, _key="k1")
    made = done.output["container"]
    assert (done.output["created"], made["state"], made["exit_code"]) == (True, "running", None)
    assert made["name"].startswith("consort-job-")
    assert done.actions == [f"ran {ALPINE} echo hi as container {made['name']} ({made['id'][:12]})"]
    listed = caller("containers")
    assert [(each["name"], each["state"]) for each in listed["containers"]] == [(made["name"], "running")]
    assert caller("wait", container=made["name"]) == {"exit_code": 3, "error": ""}
    stopped = caller.outcome("stop", container=made["id"][:64])
    assert (stopped.output["state"], stopped.output["exit_code"]) == ("exited", 137)
    assert stopped.actions == [f"stopped container {made['name']} ({made['id'][:12]})"]
    assert caller.outcome("stop", container=made["id"]).actions == []
    assert caller("start", container=made["id"])["state"] == "running"
    assert caller.outcome("start", container=made["id"]).actions == []
    assert caller("restart", container=made["id"])["state"] == "running"
    assert caller.code("remove", container=made["id"]) == ("FAILED_PRECONDITION", "ENGINE_REFUSED")
    assert caller.outcome("kill", container=made["id"]).actions[0].startswith("sent SIGKILL")
    assert caller.code("kill", container=made["id"])[0] == "FAILED_PRECONDITION"
    assert caller("remove", container=made["id"]) is True
    assert caller("remove", container=made["id"]) is False
    assert caller.code("container", container=made["id"]) == ("NOT_FOUND", "ENGINE_REFUSED")


def test_running_again_finds_the_first_container(engine: FakeEngine, caller: Caller) -> None:
    engine.image(ALPINE)
    first = caller("run", image="alpine:3.20", _key="k1")
    again = caller.outcome("run", image="alpine:3.20", _key="k1")
    assert again.output == {"created": False, "container": first["container"]}
    assert again.actions == []
    # One that has ended is not started again: it was done.
    caller("stop", container=first["container"]["id"])
    assert caller("run", image="alpine:3.20", _key="k1")["container"]["state"] == "exited"
    # One that was made, but not started, is.
    engine.containers[first["container"]["id"]]["State"].update(Status="created")
    assert caller("run", image="alpine:3.20", _key="k1")["container"]["state"] == "running"
    assert caller("run", image="alpine:3.20", _key="k2")["created"] is True
    assert len(engine.containers) == 2


def test_another_container_of_the_same_name_is_not_taken(engine: FakeEngine, caller: Caller) -> None:
    engine.image(ALPINE)
    name = caller("run", image="alpine:3.20", _key="k1")["container"]["name"]
    for each in engine.containers.values():
        each["Config"]["Labels"] = {**OWN}
    assert caller.code("run", image="alpine:3.20", _key="k1")[0] == "ALREADY_EXISTS"
    for each in engine.containers.values():
        each["Config"]["Labels"] = {}
    error = caller.refused("run", image="alpine:3.20", _key="k1")
    assert f'containers: ["{name}"]' in error.message


def test_a_container_has_little_of_the_machine(engine: FakeEngine, caller: Caller) -> None:
    engine.image(ALPINE)
    caller("run", image="alpine:3.20", scratch=["/tmp"], isolation={"writable": False})  # noqa: S108
    sent = next(each for each in engine.asked if each.path == "/containers/create").value
    host = sent["HostConfig"]
    assert host["Privileged"] is False
    assert (host["CapDrop"], host["CapAdd"], host["SecurityOpt"]) == (["ALL"], [], ["no-new-privileges:true"])
    assert (host["NetworkMode"], host["PidMode"], host["IpcMode"]) == ("none", "", "private")
    assert (host["Mounts"], host["PortBindings"], host["ReadonlyRootfs"]) == ([], {}, True)
    assert (host["Memory"], host["MemorySwap"]) == (512 << 20, 512 << 20)
    assert (host["NanoCpus"], host["PidsLimit"]) == (1_000_000_000, 256)
    assert host["LogConfig"]["Config"]["max-size"] == "10m"
    assert sent["Labels"]["dev.consort.owner"] == "consort"


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"image": "debian"}, 'images: ["debian"]'),
        ({"image": "evil.example.com/alpine"}, 'images: ["evil.example.com/alpine"]'),
        ({"image": "sha256:" + "a" * 64}, 'images: ["*"]'),
        ({"image": "a" * 12}, 'images: ["*"]'),
        ({"mounts": [{"source": "/etc", "target": "/x"}]}, 'mounts: ["/etc:ro"]'),
        ({"mounts": [{"source": "/srv/app/inner", "target": "/x"}]}, 'mounts: ["/srv/app/inner:ro"]'),
        ({"mounts": [{"source": "/srv/data", "target": "/x", "read_only": False}]}, 'mounts: ["/srv/data"]'),
        ({"mounts": [{"volume": "theirs", "target": "/x"}]}, 'volumes: ["theirs"]'),
        ({"isolation": {"privileged": True}}, "privileged: true"),
        ({"isolation": {"host_pid": True}}, "host_pid: true"),
        ({"isolation": {"network": "host"}}, "host_network: true"),
        ({"isolation": {"network": "bridge"}}, 'networks: ["bridge"]'),
        ({"isolation": {"add_capabilities": ["CAP_SYS_ADMIN"]}}, 'add_capabilities: ["SYS_ADMIN"]'),
        ({"isolation": {"add_capabilities": ["all"]}}, 'add_capabilities: ["ALL"]'),
        ({"ports": [{"container": 80, "host": 80, "address": "0.0.0.0"}]}, 'ports: ["0.0.0.0:80"]'),  # noqa: S104
        ({"memory_mib": 1024}, "memory_mib: 1024"),
        ({"cpus": 2.0}, "cpus: 2.0"),
        ({"processes": 1000}, "processes: 1000"),
    ],
)
def test_what_is_not_granted_names_the_line(
    engine: FakeEngine, caller: Caller, values: dict[str, Any], line: str
) -> None:
    engine.image(ALPINE)
    engine.volumes["theirs"] = {"Name": "theirs", "Labels": {}}
    caller.config["mounts"] = ["/srv/app", "/srv/data:ro", "/srv/many/*"]
    error = caller.refused("run", **{"image": "alpine:3.20", **values})
    assert (error.code.name, error.reason) == ("PERMISSION_DENIED", "NOT_GRANTED")
    assert error.message.endswith(f"the plugin's configuration would say `{line}`")
    assert engine.containers == {}


def test_what_is_granted_is_given(engine: FakeEngine, caller: Caller) -> None:
    engine.image(ALPINE)
    granted: dict[str, Any] = {"privileged": True, "host_pid": True, "add_capabilities": ["NET_ADMIN"]}
    granted |= {"mounts": ["/srv/app", "/srv/many/*"], "networks": ["bri*"], "ports": ["127.0.0.1:80*"]}
    caller.config |= granted
    caller("create_volume", name="cache")
    caller(
        "run",
        image="alpine:3.20",
        name="web",
        mounts=[
            {"source": "/srv/app", "target": "/app", "read_only": False},
            {"source": "/srv/many/one", "target": "/one"},
            {"volume": "cache", "target": "/cache", "read_only": False},
        ],
        ports=[{"container": 80, "host": 8080}],
        isolation={"privileged": True, "host_pid": True, "network": "bridge", "add_capabilities": ["cap_net_admin"]},
    )
    sent = next(each for each in engine.asked if each.path == "/containers/create").value
    host = sent["HostConfig"]
    assert (host["Privileged"], host["PidMode"], host["CapAdd"]) == (True, "host", ["NET_ADMIN"])
    assert host["Mounts"] == [
        {"Target": "/app", "ReadOnly": False, "Type": "bind", "Source": "/srv/app"},
        {"Target": "/one", "ReadOnly": True, "Type": "bind", "Source": "/srv/many/one"},
        {"Target": "/cache", "ReadOnly": False, "Type": "volume", "Source": "cache"},
    ]
    assert host["PortBindings"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"image": "UPPER"}, "image"),
        ({"image": "../containers/json"}, "image"),
        ({"image": "a//b"}, "image"),
        ({"image": "alpine:3.20?x=1"}, "image"),
        ({"mounts": [{"source": "/srv/app/../../etc", "target": "/x"}]}, "mounts[0].source"),
        ({"mounts": [{"source": "srv", "target": "/x"}]}, "mounts[0].source"),
        ({"mounts": [{"target": "/x"}]}, "mounts[0]"),
        ({"mounts": [{"volume": "../x", "target": "/x"}]}, "mounts[0].volume"),
        ({"mounts": [{"source": "/srv", "target": "x"}]}, "mounts[0].target"),
        ({"isolation": {"network": "container:abc"}}, "isolation.network"),
        ({"env": {"A=B": "c"}}, "env"),
        ({"labels": {"dev.consort.owner": "other"}}, "labels"),
        ({"ports": [{"container": 80, "host": 8080}]}, "ports"),
        ({"name": "-x"}, "name"),
    ],
)
def test_bad_input_is_named(engine: FakeEngine, caller: Caller, values: dict[str, Any], field: str) -> None:
    engine.image(ALPINE)
    caller.config["ports"] = ["*"]
    error = caller.refused("run", **{"image": "alpine:3.20", **values})
    assert (error.code.name, list(error.violations)) == ("INVALID_ARGUMENT", [field])
    assert engine.containers == {}


def test_the_hosts_network_is_not_had_by_its_id(engine: FakeEngine, caller: Caller) -> None:
    engine.image(ALPINE)
    caller.config["networks"] = ["*"]
    host = next(each["Id"] for each in engine.networks.values() if each["Name"] == "host")
    error = caller.refused("run", image="alpine:3.20", isolation={"network": host})
    assert "host_network: true" in error.message


def test_images_that_are_not_there_programs_that_are_none_and_too_many(engine: FakeEngine, caller: Caller) -> None:
    error = caller.refused("run", image="alpine:3.20")
    assert (error.code.name, error.reason) == ("NOT_FOUND", "NO_IMAGE")
    assert error.message.endswith("pull it first")
    engine.image(ALPINE)
    error = caller.refused("run", image="alpine:3.20", command=["no-such-program"])
    assert (error.code.name, error.reason) == ("INVALID_ARGUMENT", "NOT_STARTED")
    assert "executable file not found" in error.message
    assert engine.containers == {}
    caller.config["most_containers"] = 1
    caller("run", image="alpine:3.20")
    assert caller.code("run", image="alpine:3.20") == ("RESOURCE_EXHAUSTED", "TOO_MANY_CONTAINERS")


def test_what_others_made_is_not_touched(engine: FakeEngine, caller: Caller) -> None:
    theirs = engine.container("theirs", {})
    mine = engine.container("mine", OWN)
    assert [each["name"] for each in caller("containers")["containers"]] == ["mine"]
    calls: list[tuple[str, dict[str, Any]]] = [("container", {}), ("start", {}), ("stop", {}), ("restart", {})]
    calls += [("kill", {}), ("wait", {}), ("remove", {"force": True}), ("logs", {}), ("stats", {})]
    calls += [("exec", {"command": ["id"]})]
    for operation, values in calls:
        for name in ("theirs", theirs):
            error = caller.refused(operation, container=name, **values)
            assert (error.code.name, error.reason) == ("PERMISSION_DENIED", "NOT_GRANTED"), operation
            assert 'containers: ["theirs"]' in error.message
    assert engine.containers.keys() == {theirs, mine}
    assert all(each.method == "GET" for each in engine.asked)
    caller.config["containers"] = ["the*"]
    assert [each["name"] for each in caller("containers")["containers"]] == ["mine", "theirs"]
    assert caller("remove", container="theirs", force=True) is True
    caller.config = {**caller.config, "owner": "another", "containers": []}
    assert caller("containers")["containers"] == []


def test_what_it_writes_is_read(engine: FakeEngine, caller: Caller) -> None:
    engine.container("c", OWN)
    found = caller("logs", container="c", lines=5, since=12.5)
    assert found == {"stdout": "one\ntwo\n", "stderr": "wrong\n", "truncated": False, "ended": False}
    query = engine.asked[-2].query
    assert (query["tail"], query["since"], query["follow"]) == ("5", "12.500000000", "false")
    caller.config["output_kib"] = 1
    engine.logs = [frame(1, "é" * 3000), frame(1, "end")]
    found = caller("logs", container="c")
    assert (found["stdout"][-4:], found["stdout"][0], found["truncated"]) == ("éend", "é", True)
    assert 1022 <= len(found["stdout"].encode()) <= 1024
    engine.container("t", OWN, Tty=True)
    engine.logs = [b"\x01\x02 as it is \r\n"]
    assert caller("logs", container="t")["stdout"] == "\x01\x02 as it is \r\n"


def test_programs_in_a_container_yield_their_code(engine: FakeEngine, caller: Caller) -> None:
    engine.container("c", OWN)
    done = caller.outcome("exec", container="c", command=["ls", "-l"], env={"A": "b"}, user="nobody", workdir="/x")
    assert done.output == {"exit_code": 7, "stdout": "one\ntwo\n", "stderr": "wrong\n", "truncated": False}
    assert done.actions[0].startswith("ran ls -l in container c (")
    asked = next(iter(engine.execs.values()))["Asked"]
    assert (asked["Cmd"], asked["Env"], asked["User"], asked["Privileged"]) == (["ls", "-l"], ["A=b"], "nobody", False)
    engine.container("p", OWN)
    next(each for each in engine.containers.values() if each["Name"] == "/p")["HostConfig"] = {"Privileged": True}
    assert "privileged: true" in caller.refused("exec", container="p", command=["id"]).message


def test_stats_are_one_look(engine: FakeEngine, caller: Caller) -> None:
    engine.container("c", OWN)
    assert caller("stats", container="c") == {
        "cpu_percent": 20.0,
        "memory_bytes": 16 << 20,
        "memory_limit_bytes": 512 << 20,
        "processes": 3,
        "received_bytes": 11,
        "sent_bytes": 22,
        "read_bytes": 4096,
        "written_bytes": 8192,
    }
    engine.container("over", OWN, "exited")
    assert caller.code("stats", container="over") == ("FAILED_PRECONDITION", "NOT_RUNNING")


def test_a_dry_run_changes_nothing(engine: FakeEngine, caller: Caller) -> None:
    engine.container("c", OWN)
    engine.volumes["v"] = {"Name": "v", "Labels": OWN}
    engine.network("n", {"Labels": OWN})
    calls: dict[str, dict[str, Any]] = {
        "run": {"image": "alpine:3.20", "command": ["true"]},
        "start": {"container": "c"},
        "stop": {"container": "c"},
        "restart": {"container": "c"},
        "kill": {"container": "c"},
        "remove": {"container": "c"},
        "exec": {"container": "c", "command": ["id"]},
        "pull": {"image": "alpine:3.20"},
        "remove_image": {"image": "alpine:3.20"},
        "create_volume": {"name": "w"},
        "remove_volume": {"volume": "v"},
        "create_network": {"name": "m"},
        "remove_network": {"network": "n"},
    }
    for operation, values in calls.items():
        outcome = caller.outcome(operation, **values, _dry=True)
        assert len(outcome.would) == 1, operation
        assert outcome.actions == []
    assert all(each.method == "GET" for each in engine.asked)
    assert caller.refused("run", image="debian", _dry=True).reason == "NOT_GRANTED"


def test_each_capability_is_granted_by_itself(engine: FakeEngine, caller: Caller) -> None:
    engine.container("c", OWN)
    calls: dict[str, list[tuple[str, dict[str, Any]]]] = {
        "inspect": [("version", {}), ("info", {}), ("images", {}), ("image", {"image": "alpine"}), ("volumes", {})],
        "images": [("pull", {"image": "alpine"}), ("remove_image", {"image": "alpine"})],
        "build": [("build", {"folder": "/srv", "tag": "app"})],
        "containers": [("run", {"image": "alpine"}), ("stop", {"container": "c"}), ("remove", {"container": "c"})],
        "exec": [("exec", {"container": "c", "command": ["id"]})],
        "volumes": [("create_volume", {"name": "v"}), ("remove_volume", {"volume": "v"})],
        "networks": [("create_network", {"name": "n"}), ("remove_network", {"network": "n"})],
    }
    socket = str(engine.path)
    for capability, all_of_them in calls.items():
        others = [each for each in calls if each != capability]
        caller.granted = Permissions(capabilities=others, fs_write=[socket])
        for operation, values in all_of_them:
            error = caller.refused(operation, **values)
            assert error.message.endswith(f'`capabilities = ["{capability}"]`'), operation
    caller.granted = Permissions(capabilities=["inspect"])
    assert caller.refused("info").message.endswith(f'`fs_write = ["{socket}"]`')
    assert engine.asked == []


def test_volumes_and_networks(engine: FakeEngine, caller: Caller) -> None:
    engine.volumes["theirs"] = {"Name": "theirs", "Driver": "local", "Labels": None}
    assert caller.outcome("create_volume", name="cache", labels={"a": "b"}).actions == ["created volume cache"]
    assert caller.outcome("create_volume", name="cache").actions == []
    assert [(each["name"], each["labels"]["a"]) for each in caller("volumes")["volumes"]] == [("cache", "b")]
    assert caller.code("create_volume", name="theirs") == ("PERMISSION_DENIED", "NOT_GRANTED")
    assert caller.code("remove_volume", volume="theirs") == ("PERMISSION_DENIED", "NOT_GRANTED")
    engine.volumes["used"] = {"Name": "used", "Labels": OWN}
    assert caller.code("remove_volume", volume="used") == ("FAILED_PRECONDITION", "ENGINE_REFUSED")
    assert [caller("remove_volume", volume="cache") for _ in range(2)] == [True, False]
    made = caller.outcome("create_network", name="inner")
    assert (made.output["internal"], made.actions) == (True, ["created network inner, internal"])
    assert caller.outcome("create_network", name="inner").actions == []
    assert 'networks: ["outer"]' in caller.refused("create_network", name="outer", internal=False).message
    caller.config["networks"] = ["outer"]
    assert caller("create_network", name="outer", internal=False)["internal"] is False
    assert caller.code("create_network", name="outer", internal=True)[0] == "ALREADY_EXISTS"
    assert caller.code("create_network", name="bridge")[0] == "INVALID_ARGUMENT"
    assert [each["name"] for each in caller("networks")["networks"]] == ["inner", "outer"]
    engine.image(ALPINE)
    caller("run", image="alpine:3.20", name="db", isolation={"network": "inner"})
    sent = next(each for each in engine.asked if each.path == "/containers/create").value
    assert sent["NetworkingConfig"] == {"EndpointsConfig": {"inner": {"Aliases": ["db"]}}}
    assert [caller("remove_network", network="inner") for _ in range(2)] == [True, False]


def test_the_process_runs_a_container(engine: FakeEngine, tmp_path: Path) -> None:
    manifest = (FOLDER / "consort-plugin.toml").read_text()
    manifest = manifest.replace('["inspect"]', '["inspect", "containers", "exec"]')
    manifest = (
        manifest.replace("# fs_write", "fs_write")
        .replace("/var/run/docker.sock", str(engine.path))
        .replace('"main.py"', f'"{FOLDER}/main.py"')
    )
    (tmp_path / "consort-plugin.toml").write_text(manifest)
    engine.image(ALPINE)

    async def lives() -> None:
        config = {"host": f"unix://{engine.path}", "images": ["alpine:3.*"]}
        async with PluginProcess(tmp_path, config=config) as process:
            run = await process.invoke("run", {"image": "alpine:3.20"}, idempotency_key="k")
            name = run.output["container"]["name"]
            again = await process.invoke("run", {"image": "alpine:3.20"}, idempotency_key="k")
            assert again.output == {**run.output, "created": False}
            done = await process.invoke("exec", {"container": name, "command": ["id"]})
            assert done.output["exit_code"] == 7

    asyncio.run(lives())
