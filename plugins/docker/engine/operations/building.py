"""Building an image from a folder."""

import json
import tempfile
from typing import Annotated, TypedDict

from consort.plugin import Call, Limits, PluginError, grants
from engine import rules
from engine.context import pack, read
from engine.dockerfile import check
from engine.errors import shortened
from engine.fields import text
from engine.frames import Tail
from engine.messages import failure_in, messages, step_of
from engine.operations._plugin import Image, Labels, Text, engine_of, plugin
from engine.operations.images import MOST_TOLD, PULL_S
from engine.transport import Request

_IN_MEMORY = 8 * 1024 * 1024
_MIB = 1024 * 1024


class Built(TypedDict):
    """The image, and the end of what the build wrote. `truncated` says that it wrote more."""

    image: str
    id: str
    log: str
    truncated: bool


@plugin.operation(effect="idempotent_write", dry_run=True, timeout=PULL_S)
def build(
    call: Call,
    folder: Annotated[str, Limits(minLength=1, maxLength=4096)],
    tag: Image,
    dockerfile: Annotated[str, Limits(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,254}$")] = "Dockerfile",
    arguments: dict[str, Text] | None = None,
    target: Annotated[str, Limits(maxLength=128)] = "",
    labels: Labels | None = None,
) -> Built | None:
    """Builds an image from a folder, and tells its steps. What the Dockerfile says is run by the engine.

    The images that it begins with, or copies from, must be granted.

    Args:
        folder: Absolute path; it must be granted. What its .dockerignore says is left out.
        tag: The image's name, which must be one that builds may give.
        dockerfile: Its path in the folder.
        arguments: Values of the Dockerfile's ARG.
        target: The stage that is built; left out, the last.

    """
    engine = engine_of(call, "build")
    whole = rules.built(call.config, tag)
    place = grants.folder(call, folder, field="folder")
    content = read(place, dockerfile)
    check(call.config, content, arguments or {})
    if call.dry_run:
        call.would(f"build image {whole} from {place}")
        return None
    query = {
        "t": whole,
        "dockerfile": dockerfile,
        "networkmode": call.config.build_network,
        "rm": "true",
        "forcerm": "true",
        "memory": str(call.config.memory_mib * _MIB),
        "memswap": str(call.config.memory_mib * _MIB),
        "buildargs": json.dumps(arguments or {}),
        "labels": json.dumps(rules.labels(call, labels)),
        **({"target": target} if target else {}),
    }
    log, found = Tail(call.config.output_kib * 1024), ""
    with tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(call.data)) as archive:
        size = pack(call, place, dockerfile, content, archive)
        request = Request("POST", "/build", query, file=archive, size=size, patient=True)
        with engine.opened(request, PULL_S) as answer:
            for message in messages(answer.pieces(MOST_TOLD)):
                if said := failure_in(message):
                    end = shortened(log.text()[-400:])
                    problem = f"{whole} cannot be built: {shortened(said)}; before that: {end}"
                    raise PluginError("FAILED_PRECONDITION", problem, reason="BUILD_FAILED")
                found = text(message, "aux", "ID") or found
                written = text(message, "stream")
                log.add(written.encode())
                _tell(call, written)
    if not found:
        raise PluginError("UNAVAILABLE", "the engine ended the build without an image", reason="ENGINE_GARBLED")
    call.did(f"built image {whole} from {place}")
    written = log.text()
    return {"image": whole, "id": found, "log": written, "truncated": bool(log.lost)}


def _tell(call: Call, written: str) -> None:
    for line in written.splitlines():
        if step := step_of(line):
            call.progress(*step)
        if line.strip():
            call.log("info", line)
