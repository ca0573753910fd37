"""Asks a service, with its credentials for its own host only."""

from collections.abc import Mapping

from builds.settings import Settings
from consort.plugin import Call, PluginError
from consort.plugin.web import Answer, Reach, Request, Tries, Web, is_public, place_of

_AGENT = "consort-ci/0.1"


class Site:
    """The service at a base URL. What it is asked may be repeated, but for POST."""

    def __init__(self, call: Call, settings: Settings, url: str, headers: Mapping[str, str]) -> None:
        self.url = url.rstrip("/")
        self._call = call
        self._settings = settings
        self._headers = headers
        self._web = self._to(None)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Asks for a path below the base URL. PluginError if the answer is of the classes 4xx and 5xx."""
        whole = {**self._headers, **(headers or {})}
        return self._web.ask(Request(method, self.url + path, whole, body, repeatable=method != "POST"))

    def follow(self, answer: Answer) -> Answer:
        """Gets what an answer links to, without the service's credentials.

        It is got over TLS if the service speaks it, and from a public address unless the service itself is at another.
        """
        try:
            target = place_of(self.url).linked(answer.headers["location"])
        except ValueError as error:
            raise PluginError("FAILED_PRECONDITION", f"{place_of(self.url).shown} links to what {error}") from None
        if self.url.startswith("https:") and target.scheme != "https":
            raise PluginError("FAILED_PRECONDITION", f"{place_of(self.url).shown} links to a place without TLS")
        web = self._to(Reach() if is_public(answer.address) else None)
        return web.ask(Request("GET", target.url, repeatable=True))

    def _to(self, reach: Reach | None) -> Web:
        settings = self._settings
        tries = Tries(settings.attempts, settings.timeout_s, settings.pause_s)
        return Web(self._call, agent=_AGENT, tries=tries, reach=reach, ca_file=settings.ca_file)
