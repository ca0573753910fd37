"""Requests to web services, for plugins: bounded, tried again where that is safe, and kept from where they must not go.

    web = Web(call, agent="consort-words/0.1", tries=Tries(attempts=3), reach=Reach(hosts=("api.example.com:443",)))
    found = web.ask(Request("GET", "https://api.example.com/words", repeatable=True)).json()

A name is looked up once for each connection, every address it has is held against the Reach, and the connection goes to
one of these addresses; so a name that changes its mind leads nowhere else. Redirects are followed only as far as the
Web says, and each is held against the same rules.
"""

from consort.plugin.web._answer import Answer, Stream
from consort.plugin.web._place import Place, place_of
from consort.plugin.web._reach import Network, Reach, is_public, matches
from consort.plugin.web._refusal import Request, Upload, refusal, told_wait
from consort.plugin.web._tries import Tries, Trouble, tried, unknown
from consort.plugin.web._web import Web, tls

__all__ = [
    "Answer",
    "Network",
    "Place",
    "Reach",
    "Request",
    "Stream",
    "Tries",
    "Trouble",
    "Upload",
    "Web",
    "is_public",
    "matches",
    "place_of",
    "refusal",
    "tls",
    "told_wait",
    "tried",
    "unknown",
]
