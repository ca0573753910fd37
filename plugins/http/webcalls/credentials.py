"""Secrets that headers name: `Bearer ${secret:api-token}` becomes what the mesh has under that name."""

import json
import re
from collections.abc import Mapping
from urllib.parse import quote

from consort.plugin import Call, PluginError
from consort.plugin.web import Place, matches

_REFERENCE = re.compile(r"\$\{secret:([A-Za-z0-9_.-]{1,100})\}")
# What a service says in these is for its own client to keep.
_PRIVATE = {"set-cookie", "set-cookie2", "authorization", "proxy-authorization", "authentication-info"}
_STARS = "***"


def named(secrets: Mapping[str, list[str]], place: Place, headers: Mapping[str, str]) -> list[str]:
    """The names of the secrets in headers. PERMISSION_DENIED if one of them may not be sent to the place."""
    found: dict[str, None] = {}
    for header, value in headers.items():
        for name in _REFERENCE.findall(value):
            if not _may_go(secrets.get(name, []), place):
                problem = f"the configuration's `secrets` do not let '{name}' go to {place.scheme}://{place.shown}"
                raise PluginError("PERMISSION_DENIED", problem, field=f"headers.{header}", reason="SECRET_NOT_GRANTED")
            found[name] = None
        if "${secret:" in _REFERENCE.sub("", value):
            problem = "has a reference that is none; write ${secret:name}"
            raise PluginError("INVALID_ARGUMENT", problem, field=f"headers.{header}")
    return list(found)


def filled(call: Call, names: list[str], headers: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The headers with the secrets in them, and the secrets' values."""
    values = {name: str(call.host.get_secret(name)).strip() for name in names}
    whole = {header: _REFERENCE.sub(lambda found: values[found[1]], value) for header, value in headers.items()}
    return whole, list(values.values())


def hidden(text: str, values: list[str]) -> str:
    """A text in which no secret is to be read, as it is, or as JSON or a URL writes it."""
    for value in values:
        for written in {value, json.dumps(value)[1:-1], quote(value, safe="")}:
            if written:
                text = text.replace(written, _STARS)
    return text


def shown(headers: Mapping[str, str], values: list[str]) -> dict[str, str]:
    """Headers of an answer, without what is secret in them."""
    return {name: _STARS if name in _PRIVATE else hidden(value, values) for name, value in headers.items()}


def _may_go(entries: list[str], place: Place) -> bool:
    clear = "http://"
    if place.scheme == "http":
        entries = [entry.removeprefix(clear) for entry in entries if entry.startswith(clear)]
    else:
        entries = [entry for entry in entries if not entry.startswith(clear)]
    return matches(entries, place.host, place.port)
