"""The checked-in types are those of the protos."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import generate


def test_generating_again_changes_nothing(tmp_path: Path) -> None:
    generate.generate(tmp_path)
    fresh = {path.relative_to(tmp_path): path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.py*")}
    kept = {
        path.relative_to(generate.TARGET): path.read_text(encoding="utf-8")
        for path in generate.TARGET.rglob("*.py*")
        if "__pycache__" not in path.parts
    }
    assert sorted(fresh) == sorted(kept)
    stale = [str(path) for path in fresh if fresh[path] != kept[path]]
    assert stale == [], "run: python python/generate.py"
