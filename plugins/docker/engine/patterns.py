"""Patterns of the operator: for names of images, for paths, and for names."""

import functools
import re

_HUB = "docker.io"
_REFERENCE = re.compile(
    r"(?:(?P<host>[a-zA-Z0-9]+(?:[.-]+[a-zA-Z0-9]+)*(?::\d{1,5})?)/)?"
    r"(?P<path>[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


def reference(name: str) -> str | None:
    """The whole name of an image (`alpine` is `docker.io/library/alpine:latest`), None if it is none.

    With a digest the tag is left out, because the engine does not look at it then.
    """
    found = _REFERENCE.fullmatch(name) if len(name) <= 255 else None
    if found is None:
        return None
    host, path = found["host"], found["path"]
    if host and not _is_host(host):
        host, path = None, f"{host}/{path}"
        if path != path.lower():
            return None
    path = _at_hub(path) if host in (None, _HUB, f"index.{_HUB}") else f"{host}/{path}"
    if found["digest"]:
        return f"{path}@{found['digest']}"
    return f"{path}:{found['tag'] or 'latest'}"


def image_fits(name: str, patterns: list[str]) -> bool:
    """Whether one of the patterns allows the whole name of an image. One without a tag allows all tags and digests.

    `*` stands for anything.
    """
    repository = re.split(r"@|:(?=[^/]*$)", name)[0]
    for pattern in patterns:
        if pattern == "*":
            return True
        whole = _whole(pattern)
        has_tag = "@" in whole or ":" in whole.rpartition("/")[2]
        if matches(name if has_tag else repository, whole, across=True):
            return True
    return False


def matches(value: str, pattern: str, *, across: bool = False) -> bool:
    """Whether a value fits: `*` and `?` stand for anything but `/`, unless `across`; `**` for anything."""
    return _compiled(pattern, across).fullmatch(value) is not None


@functools.lru_cache(maxsize=4096)
def _compiled(pattern: str, across: bool) -> re.Pattern[str]:
    words = {"**/": "(?:.*/)?", "**": ".*", "*": ".*" if across else "[^/]*", "?": "." if across else "[^/]"}
    parts = (words.get(part, re.escape(part)) for part in re.split(r"(\*\*/|\*\*|\*|\?)", pattern))
    return re.compile("".join(parts), re.DOTALL)


def _is_host(first: str) -> bool:
    return "." in first or ":" in first or first == "localhost"


def _at_hub(path: str) -> str:
    return f"{_HUB}/{path}" if "/" in path else f"{_HUB}/library/{path}"


def _whole(pattern: str) -> str:
    first, slash, rest = pattern.partition("/")
    if slash and _is_host(first):
        return f"{_HUB}/{rest if '/' in rest else f'library/{rest}'}" if first == _HUB else pattern
    return _at_hub(pattern)
