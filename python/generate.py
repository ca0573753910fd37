"""Writes the Python types of `proto/consort` into the SDK: `python python/generate.py [TARGET]`.

The generated modules live in `consort._gen`, so that the SDK owns exactly one top-level name. `google.rpc.Status` is
not generated: googleapis-common-protos registers it, and two registrations of one name clash at import.
"""

import re
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

PROTOS = Path(__file__).resolve().parent.parent / "proto"
TARGET = Path(__file__).resolve().parent / "src" / "consort" / "_gen"


def generate(target: Path = TARGET) -> list[Path]:
    """Generates every module below `target` and returns the files written, sorted.

    Raises RuntimeError if the compiler refuses a proto; its own words are on stderr.
    """
    protos = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / "consort").rglob("*.proto"))
    written = []
    with tempfile.TemporaryDirectory() as scratch:
        out = [f"--{kind}_out={scratch}" for kind in ("python", "pyi", "grpc_python")]
        bundled = str(files("grpc_tools") / "_proto")
        code = protoc.main(["protoc", f"-I{PROTOS}", f"-I{bundled}", *out, *protos])
        if code != 0:
            raise RuntimeError(f"protoc ended with {code} on the files of {PROTOS}")
        root = Path(scratch) / "consort"
        for source in sorted(root.rglob("*.py*")):
            if source.name.endswith("_pb2_grpc.py") and "Servicer" not in source.read_text(encoding="utf-8"):
                continue  # A proto without a service yields a file without content.
            place = target / source.relative_to(root)
            for folder in [target, *(p for p in place.parents if target in p.parents)]:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "__init__.py").write_text("", encoding="utf-8")
            place.write_text(_rehome(source.read_text(encoding="utf-8")), encoding="utf-8")
            written.append(place)
    return written


def _rehome(code: str) -> str:
    """Moves imports of the package `consort` into `consort._gen`."""
    return re.sub(r"^(from|import) consort\.", r"\1 consort._gen.", code, flags=re.MULTILINE)


if __name__ == "__main__":
    for path in generate(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET):
        print(path)
