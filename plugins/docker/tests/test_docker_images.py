"""Images of a fake engine: pulled, built, looked at and removed; and the patterns that grant them."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from docker_calls import Caller
from engine.patterns import image_fits, matches, reference
from fake_engine import ALPINE, DIGEST, Answered, FakeEngine, lines


def test_an_image_is_pulled_with_progress(engine: FakeEngine, caller: Caller) -> None:
    done = caller.outcome("pull", image="alpine:3.20", platform="linux/arm64")
    found = engine.images[ALPINE]["Id"]
    assert done.output == {"image": ALPINE, "id": found, "digest": DIGEST, "updated": True}
    assert done.actions == [f"pulled image {ALPINE}"]
    fractions = [fraction for fraction, _ in done.progress]
    assert fractions == sorted(fractions)
    assert done.progress[-1] == (1.0, "2 of 2 layers, 4.0 of 4.0 MiB")
    asked = next(each for each in engine.asked if each.path == "/images/create")
    assert asked.query == {"fromImage": ALPINE, "platform": "linux/arm64"}
    assert "x-registry-auth" not in asked.headers
    kept = {"status": f"Status: Image is up to date for {ALPINE}"}
    engine.troubles["POST /images/create"] = lambda _: Answered(raw=lines({"status": f"Digest: {DIGEST}"}, kept))
    again = caller.outcome("pull", image="alpine:3.20")
    assert (again.output["updated"], again.output["digest"], again.actions) == (False, DIGEST, [])


def test_a_registry_is_shown_who_pulls(engine: FakeEngine, caller: Caller) -> None:
    caller.config["images"] = ["ghcr.io/secret/*"]
    error = caller.refused("pull", image="ghcr.io/secret/app")
    assert (error.code.name, "pull access denied" in error.message) == ("NOT_FOUND", True)
    caller.config["registries"] = {"ghcr.io": {"username": "robot"}}
    assert caller("pull", image="ghcr.io/secret/app")["updated"] is True
    shown = json.loads(base64.urlsafe_b64decode(engine.asked[-2].headers["x-registry-auth"]))
    assert shown == {"username": "robot", "password": "hunter2", "serveraddress": "ghcr.io"}


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("manifest for alpine:9 not found: manifest unknown", "NOT_FOUND"),
        ("denied: requested access to the resource is denied", "PERMISSION_DENIED"),
        ("dial tcp: lookup registry-1.docker.io: i/o timeout", "UNAVAILABLE"),
        ("no space left on device", "FAILED_PRECONDITION"),
    ],
)
def test_a_pull_that_fails_on_its_way_says_why(engine: FakeEngine, caller: Caller, said: str, code: str) -> None:
    begun = {"status": "Pulling fs layer", "id": "a1"}
    failure = {"errorDetail": {"message": said}, "error": said}
    engine.troubles["POST /images/create"] = lambda _: Answered(raw=lines(begun, failure))
    error = caller.refused("pull", image="alpine:3.20")
    assert (error.code.name, error.message) == (code, f"{ALPINE} cannot be pulled: {said}")


def test_images_are_listed_looked_at_and_removed(engine: FakeEngine, caller: Caller) -> None:
    engine.image(ALPINE, Cmd=["sh"], Env=["SECRET=x"], ExposedPorts={"80/tcp": {}}, Labels={"a": "b"})
    engine.image("docker.io/library/other:1")
    names = [each["tags"][0] for each in caller("images")["images"]]
    assert names == ["docker.io/library/other:1", ALPINE]
    assert caller("images", limit=1)["truncated"] is True
    assert [each["tags"] for each in caller("images", name=ALPINE)["images"]] == [[ALPINE]]
    found = caller("image", image="alpine:3.20")
    assert (found["command"], found["ports"], found["labels"]) == (["sh"], ["80/tcp"], {"a": "b"})
    assert "SECRET" not in json.dumps(found)
    assert caller.code("image", image="none") == ("NOT_FOUND", "NO_IMAGE")
    assert caller.code("remove_image", image="other:1") == ("PERMISSION_DENIED", "NOT_GRANTED")
    engine.container("c", {})
    assert caller.code("remove_image", image="alpine:3.20") == ("FAILED_PRECONDITION", "ENGINE_REFUSED")
    removed = caller("remove_image", image="alpine:3.20", force=True)
    assert removed["untagged"] == [ALPINE]
    assert caller("remove_image", image="alpine:3.20") == {"untagged": [], "deleted": []}


@pytest.fixture
def folder(caller: Caller, tmp_path: Path) -> Path:
    """What is built."""
    found = tmp_path / "app"
    for name, content in {
        "Dockerfile": "FROM alpine:3.20\nCOPY . /app\nRUN true\n",
        ".dockerignore": "# what is not wanted\n*.log\nsecret\n**/cache\n!keep.log\nDockerfile\n",
        "main.py": "print()",
        "a.log": "x",
        "keep.log": "x",
        "secret/key": "x",
        "lib/cache/x": "x",
        "lib/code.py": "x",
    }.items():
        (found / name).parent.mkdir(parents=True, exist_ok=True)
        (found / name).write_text(content, encoding="utf-8")
    (found / "link").symlink_to("/etc/passwd")
    os.mkfifo(found / "pipe")
    caller.config["builds"] = ["team/*"]
    caller.granted.fs_read.append(str(found))
    return found


def test_a_folder_is_built_without_what_it_ignores(engine: FakeEngine, caller: Caller, folder: Path) -> None:
    done = caller.outcome("build", folder=str(folder), tag="team/app:1", arguments={"A": "b"}, labels={"l": "m"})
    found = engine.images["docker.io/team/app:1"]["Id"]
    assert (done.output["image"], done.output["id"]) == ("docker.io/team/app:1", found)
    assert done.output["log"].startswith("Step 1/3 : FROM alpine:3.20\nStep 2/3")
    assert engine.archives == [[".dockerignore", "Dockerfile", "keep.log", "lib", "lib/code.py", "link", "main.py"]]
    steps = [(0.0, "FROM alpine:3.20"), (pytest.approx(1 / 3), "COPY . /app"), (pytest.approx(2 / 3), "RUN true")]
    assert done.progress == steps
    assert ("info", "Step 3/3 : RUN true") in done.logs
    assert done.actions == [f"built image docker.io/team/app:1 from {folder}"]
    query = engine.asked[-1].query
    assert (query["networkmode"], json.loads(query["buildargs"])) == ("none", {"A": "b"})
    labels = json.loads(query["labels"])
    assert (labels["l"], labels["dev.consort.owner"]) == ("m", "consort")
    assert list(caller.data.iterdir()) == []


def test_builds_that_are_not_granted_or_fail(engine: FakeEngine, caller: Caller, folder: Path) -> None:
    values: dict[str, Any] = {"folder": str(folder), "tag": "team/app"}
    assert 'builds: ["alpine"]' in caller.refused("build", **{**values, "tag": "alpine"}).message
    assert 'fs_read = ["/etc"]' in caller.refused("build", **{**values, "folder": "/etc"}).message
    (folder / "linked").symlink_to("Dockerfile")
    (folder / "way").symlink_to("lib")
    (folder / "lib/Dockerfile").write_text("FROM alpine\n", encoding="utf-8")
    for dockerfile in (
        "none",
        "../app/Dockerfile",
        "x/../../app/Dockerfile",
        "lib/./Dockerfile",
        "linked",
        "way/Dockerfile",
    ):
        assert caller.code("build", **values, dockerfile=dockerfile)[0] in ("NOT_FOUND", "INVALID_ARGUMENT")
    assert caller.outcome("build", **values, _dry=True).would == [
        f"build image docker.io/team/app:latest from {folder}"
    ]
    caller.config["context_mib"] = 1
    with (folder / "large").open("wb") as file:
        file.truncate(2 << 20)
    assert caller.code("build", **values) == ("RESOURCE_EXHAUSTED", "CONTEXT_TOO_LARGE")
    assert engine.archives == []
    (folder / "large").unlink()
    (folder / "Dockerfile").write_text("FROM alpine:3.20\nRUN false\n", encoding="utf-8")
    error = caller.refused("build", **values)
    assert (error.code.name, error.reason) == ("FAILED_PRECONDITION", "BUILD_FAILED")
    assert "non-zero code: 1; before that: Step 1/2 : FROM alpine:3.20 Step 2/2 : RUN false" in error.message


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("FROM alpine:3.20\nRUN true", ""),
        ("from --platform=linux/amd64 alpine AS base\nFROM BASE\nCOPY --from=base /a /b\nCOPY --from=0 /a /b", ""),
        ("ARG V=3.20 I=alpine\nFROM ${I}:$V\nFROM scratch\nARG X\nRUN echo $X", ""),
        ("ARG I=debian\nFROM $I", ""),  # The caller says that it is alpine.
        ("FROM debian", 'images: ["debian"]'),
        ("FROM alpine\nFROM ghcr.io/a/b:1 AS x", 'images: ["ghcr.io/a/b:1"]'),
        ("FROM alpine\nCOPY --chown=1 --from=debian /a /b", 'images: ["debian"]'),
        ("FROM alpine\nRUN --mount=type=bind,from=debian,target=/x true", 'images: ["debian"]'),
        ("FR\\\n# a comment\n\nOM debian", 'images: ["debian"]'),
        ("FROM alpine\nRUN a \\ \nFROM debian", ""),
        ("FROM alpine\nRUN a \\\\\nFROM debian", 'images: ["debian"]'),
        ("# escape=`\nFROM alpine\nRUN a \\\nFROM debian", "DOCKERFILE_UNCLEAR"),
        ("# syntax=evil/frontend\nFROM alpine", "DOCKERFILE_UNCLEAR"),
        ("FROM $UNKNOWN", "DOCKERFILE_UNCLEAR"),
        ("FROM ${I:-debian}", "DOCKERFILE_UNCLEAR"),
        ("FROM alpine AS a b", "DOCKERFILE_UNCLEAR"),
        ("ARG A\nARG I\nFROM $I", ""),
        ('ARG J="alpine"-evil\nFROM $J', "DOCKERFILE_UNCLEAR"),
        ('FROM alpine\nCOPY --from=alpine"-evil" /a /b', "DOCKERFILE_UNCLEAR"),
        ('FROM alpine\nCOPY --fr"om"=evil /a /b', "DOCKERFILE_UNCLEAR"),
        ("FROM alpine\nRUN <<EOF\nFROM alpine AS evil\nEOF\nFROM evil", "DOCKERFILE_UNCLEAR"),
        ("FROM alpine\nONBUILD COPY\t--chown=1\t--from=debian /a /b", 'images: ["debian"]'),
        ('FROM alpine\nRUN echo --from=nobody "$HOME"\n\n# end', ""),
        ("FROM alpine\nCOPY --from=$I /a /b", "DOCKERFILE_UNCLEAR"),
        ("\ufeffFROM debian", 'images: ["debian"]'),
        ("FROM later\nFROM alpine AS later", 'images: ["later"]'),
        ("FROM Alpine", "DOCKERFILE_UNCLEAR"),
    ],
)
def test_images_of_a_dockerfile_are_held(caller: Caller, folder: Path, text: str, refused: str) -> None:
    (folder / "Dockerfile").write_text(text, encoding="utf-8")
    values: dict[str, Any] = {"folder": str(folder), "tag": "team/app", "arguments": {"I": "alpine"}, "_dry": True}
    if not refused:
        assert caller.outcome("build", **values).would
        return
    error = caller.refused("build", **values)
    assert refused == error.reason or error.message.endswith(f"`{refused}`")
    caller.config["images"] = ["*"]
    assert caller.outcome("build", **values).would


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("alpine:3.20", ALPINE),
        ("docker.io/alpine", "docker.io/library/alpine:latest"),
        ("index.docker.io/library/alpine", "docker.io/library/alpine:latest"),
        ("team/app:1", "docker.io/team/app:1"),
        ("ghcr.io/team/app", "ghcr.io/team/app:latest"),
        ("localhost:5000/app:x", "localhost:5000/app:x"),
        (f"alpine:3.20@{DIGEST}", f"docker.io/library/alpine@{DIGEST}"),
        ("Alpine", None),
        ("Team/app", None),
        ("../app", None),
        ("a..b/../app", None),
        ("alpine:", None),
        ("alpine@sha256:abc", None),
        ("a" * 256, None),
        ("", None),
    ],
)
def test_names_of_images_are_made_whole(name: str, whole: str | None) -> None:
    assert reference(name) == whole


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("alpine", "alpine:3.20", True),
        ("alpine", f"alpine@{DIGEST}", True),
        ("alpine", "alpine2", False),
        ("alpine", "ghcr.io/library/alpine", False),
        ("alpine:3.*", "alpine:3.20", True),
        ("alpine:3.*", "alpine", False),
        # What has the tag of a granted image, and the digest of another one, is that other one.
        ("alpine:3.*", f"alpine:3.20@{DIGEST}", False),
        ("team/*", "team/app:1", True),
        ("team/*", "ghcr.io/team/app", False),
        ("ghcr.io/team/*", "ghcr.io/team/a/b:1", True),
        ("ghcr.io/team/*", "ghcr.io.evil.com/team/a", False),
        ("ghcr.io/team/*:1", "ghcr.io/team/a:2", False),
        ("localhost:5000/*", "localhost:5000/app", True),
        ("*", "ghcr.io/any/thing:1", True),
        ("docker.io/library/*", "alpine", True),
        ("docker.io/library/*", "team/app", False),
    ],
)
def test_patterns_grant_images(pattern: str, name: str, fits: bool) -> None:
    whole = reference(name)
    assert whole is not None
    assert image_fits(whole, ["none", pattern]) is fits


def test_patterns_of_paths_stay_between_slashes() -> None:
    assert matches("/srv/a", "/srv/*")
    assert not matches("/srv/a/b", "/srv/*")
    assert matches("/srv/a/b", "/srv/**")
    assert matches("lib/cache", "**/cache")
    assert matches("cache", "**/cache")
    assert not matches("/srv/a\n", "/srv/?")
