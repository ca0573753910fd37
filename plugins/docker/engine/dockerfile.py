"""Which images a Dockerfile begins with or copies from, so that they are held against what is granted.

https://docs.docker.com/reference/dockerfile/. What cannot be told for sure is refused: this reads as the engine's own
parser may, and where versions of that one differ, both ways.
"""

import re
from collections.abc import Iterator, Mapping

from consort.plugin import PluginError
from engine.patterns import image_fits, reference
from engine.rules import denied
from engine.settings import Settings

# A backslash at the end of a line goes on; newer parsers take two of them as one that is meant.
_GOES_ON = (re.compile(r"\\[ \t]*$"), re.compile(r"(?:^|[^\\])\\[ \t]*$"))
_DIRECTIVE = re.compile(r"^\s*#\s*(syntax|escape)\s*=", re.IGNORECASE)
_FROM = re.compile(r"(\S+)(?:\s+AS\s+([A-Za-z0-9_.-]+))?", re.IGNORECASE)
_ARGUMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:=(\"[^\"\\]*\"|'[^'\\]*'|[^\s\"'\\]*))?(?:\s+|$)")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_EMPTY = "scratch"
_MOST_FLAGS = 100


def check(settings: Settings, content: bytes, arguments: Mapping[str, str]) -> None:
    """PERMISSION_DENIED for a Dockerfile that takes an image that is not granted.

    INVALID_ARGUMENT for one of which that cannot be told. With `images: ["*"]` nothing is looked at.
    """
    if "*" in settings.images:
        return
    try:
        lines = content.decode("utf-8").replace("\r\n", "\n").removeprefix("\ufeff").split("\n")
    except UnicodeDecodeError:
        raise _unclear("is no UTF-8") from None
    if any(_DIRECTIVE.match(line) for line in lines):
        raise _unclear("has a directive `syntax` or `escape`")
    for goes_on in _GOES_ON:
        for name in _images(list(_instructions(lines, goes_on)), arguments):
            whole = reference(name)
            if whole is None:
                raise _unclear(f"takes {name!r}, which names no image")
            if not image_fits(whole, settings.images):
                raise denied(
                    f"the Dockerfile takes {whole}, which is not granted", f'images: ["{name}"]', field="folder"
                )


def _instructions(lines: list[str], goes_on: re.Pattern[str]) -> Iterator[str]:
    """Lines that belong together as one; comments and empty lines between them are nothing."""
    held = ""
    for line in lines:
        if line.lstrip().startswith("#") or (held and not line.strip()):
            continue
        if goes_on.search(line):
            held += goes_on.sub(lambda found: found.group().rstrip(" \t").removesuffix("\\"), line)
            continue
        yield held + line
        held = ""
    yield held


def _images(instructions: list[str], arguments: Mapping[str, str]) -> Iterator[str]:
    """Names of images that are taken, but for stages of the Dockerfile itself."""
    values: dict[str, str] = {}
    stages: set[str] = {_EMPTY}
    count = 0
    for line in instructions:
        word, flags, rest = _parted(line)
        if word == "ARG" and count == 0:
            values |= _arguments(rest, arguments, values)
        elif word == "FROM":
            found = _FROM.fullmatch(rest)
            if found is None:
                raise _unclear(f"has the line {line.strip()[:100]!r}")
            name = _filled(found[1], values)
            if name.lower() not in stages:
                yield name
            stages |= {str(count), (found[2] or str(count)).lower()}
            count += 1
        else:
            for name in _copied(flags):
                if name.lower() not in stages:
                    yield _filled(name, {})


def _parted(line: str) -> tuple[str, list[str], str]:
    """The instruction, its flags, and the rest; of ONBUILD, those of what it says."""
    if "<<" in line:
        raise _unclear("has a text of several lines (`<<`)")
    words = line.split(None, 1)
    if words and words[0].upper() == "ONBUILD":
        words = words[1].split(None, 1) if len(words) > 1 else []
    if not words:
        return "", [], ""
    flags: list[str] = []
    rest = words[1].strip() if len(words) > 1 else ""
    while rest.startswith("--"):
        if len(flags) >= _MOST_FLAGS:
            raise _unclear(f"has more than {_MOST_FLAGS} flags in a line")
        flag, _, rest = rest.replace("\t", " ").partition(" ")
        flags.append(flag)
        rest = rest.strip()
        if any(sign in flag for sign in "\"'\\"):
            raise _unclear(f"has the flag {flag[:100]!r}")
    return words[0].upper(), flags, rest


def _copied(flags: list[str]) -> Iterator[str]:
    for flag in flags:
        name, _, value = flag.partition("=")
        if name.lower() == "--from":
            yield value
        elif name.lower() == "--mount":
            yield from (each[len("from=") :] for each in value.split(",") if each.lower().startswith("from="))


def _arguments(rest: str, given: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    place = 0
    while place < len(rest):
        each = _ARGUMENT.match(rest, place)
        if each is None:
            raise _unclear(f"has the line 'ARG {rest[:100]}'")
        if each[1] in given:
            found[each[1]] = given[each[1]]
        elif each[2] is not None:
            # Of no use where it has a variable that is not known.
            found[each[1]] = _VARIABLE.sub(
                lambda one: {**values, **found}.get(one[1] or one[2], "$"), each[2].strip("\"'")
            )
        place = each.end()
    return found


def _filled(text: str, values: Mapping[str, str]) -> str:
    """A text with the values of its variables, in their plain form."""
    filled = _VARIABLE.sub(lambda found: values.get(found[1] or found[2], "$"), text)
    if "$" in filled:
        raise _unclear(f"takes {text!r}, whose variables are not all known")
    return filled


def _unclear(what: str) -> PluginError:
    told = f'{what}, so its images cannot be told; the plugin\'s configuration would say `images: ["*"]` to take any'
    return PluginError("INVALID_ARGUMENT", f"the Dockerfile {told}", field="folder", reason="DOCKERFILE_UNCLEAR")
