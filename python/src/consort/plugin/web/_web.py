"""Asks services over HTTP."""

import contextlib
import functools
import http.client
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from consort.plugin.call import Call
from consort.plugin.errors import PluginError
from consort.plugin.web._answer import Answer, BrokenAnswerError, Stream, too_large
from consort.plugin.web._line import Line, dialled
from consort.plugin.web._place import Place, place_of
from consort.plugin.web._reach import Reach, Resolver, resolved, system_resolver
from consort.plugin.web._refusal import Request, Upload, checked, refusal
from consort.plugin.web._tries import LONGEST_PAUSE, Tries, Trouble, tried, unknown

_Result = TypeVar("_Result")
_MOST_ANSWER = 8 * 1024 * 1024
_MOST_ERROR = 64 * 1024
_WEEK = 7 * 86_400.0
_BLOCK = 64 * 1024
_CHUNK = 1024 * 1024
_READS = ("GET", "HEAD")
_REDIRECTS = (301, 302, 303, 307, 308)
# What may go to another place than the one it was meant for.
_HARMLESS = {"accept", "accept-encoding", "accept-language", "user-agent"}


class Web:
    """Asks services on behalf of a call. It waits: use it in plain functions, which have threads.

    `agent` is the User-Agent. With a `reach` requests go nowhere else; without, they go where the URL says, which is
    for URLs that an operator wrote. Up to `redirects` are followed: over TLS if it began so, with headers that might be
    credentials only within one origin, and of methods other than GET and HEAD only 303, and 307 and 308 within one
    origin. An answer has at most `most_bytes`, decoded. `ca_file` has certificates to trust beside the system's, in
    PEM. `hidden` is what must not be in a message. `judge` says what a refusal means. `resolve` looks names up.
    """

    def __init__(
        self,
        call: Call,
        *,
        agent: str,
        tries: Tries | None = None,
        reach: Reach | None = None,
        redirects: int = 0,
        most_bytes: int = _MOST_ANSWER,
        ca_file: str = "",
        hidden: Sequence[str] = (),
        judge: Callable[[Request, str, Answer], Trouble] = refusal,
        resolve: Resolver = system_resolver,
    ) -> None:
        self._call = call
        self._agent = agent
        self._tries = tries or Tries()
        self._reach = reach
        self._redirects = redirects
        self._most_bytes = most_bytes
        self._ca_file = ca_file
        self._hidden = [each for each in hidden if each]
        self._judge = judge
        self._resolve = resolve

    def ask(self, request: Request, *, cut: bool = False) -> Answer:
        """Asks, again where that is safe, and reads the whole answer; with `cut` what is too long is cut.

        PluginError says why there is no answer, or none that is accepted: by its status, with reason SERVICE_REFUSED;
        ABORTED, reason OUTCOME_UNKNOWN, if the request is not repeatable and may have been done.
        """
        first = self._first(request)

        def once(seconds: float) -> Answer:
            until = self._deadline() if request.patient else time.monotonic() + seconds
            with contextlib.closing(self._opened(*first, seconds, until)) as stream:
                most = self._most_bytes
                return self._guarded(request, first[1].shown, lambda: stream.read_some(most) if cut else stream.read())

        return self._tried(once)

    @contextlib.contextmanager
    def opened(self, request: Request) -> Iterator[Stream]:
        """As `ask`, with a body that the block reads in pieces, for as long as the call's deadline lets it.

        Once the block has begun nothing is tried again: PluginError UNAVAILABLE, reason BROKEN_ANSWER, if it breaks.
        """
        first = self._first(request)
        stream = self._tried(lambda seconds: self._opened(*first, seconds, self._deadline()))
        try:
            yield stream
        except (BrokenAnswerError, OSError) as error:
            raise PluginError("UNAVAILABLE", f"{first[1].shown}: {error}", reason="BROKEN_ANSWER") from None
        finally:
            stream.close()

    def download(
        self, request: Request, begun: Callable[[Stream], None] = lambda _stream: None, *, raw: bool = False
    ) -> Iterator[bytes]:
        """The body of a GET in pieces of about 1 MiB, as long as the call's deadline lets it; `begun` gets the head.

        One that breaks goes on where it broke, if the service named what it sends by an ETag; it is not mixed with
        something else that came in its place. With `raw` a body that is encoded stays so. PluginError as `ask`.
        """
        offset, etag, pause = 0, "", self._tries.pause_s
        held = bytearray()
        is_part = not {"range", "if-match"}.isdisjoint(name.lower() for name in request.headers)
        for attempt in range(1, self._tries.attempts + 1):
            headers = {"accept-encoding": "identity", **request.headers}
            if offset:
                headers |= {"range": f"bytes={offset}-", "if-match": etag}
            is_open = False
            try:
                with self.opened(replace(request, headers=headers)) as stream:
                    is_open = True
                    if offset:
                        _check_goes_on(stream, offset, etag)
                    else:
                        begun(stream)
                    is_plain = raw or "content-encoding" not in stream.headers
                    etag = stream.headers.get("etag", etag) if is_plain else ""
                    for piece in stream.pieces(raw=raw):
                        offset += len(piece)
                        if offset > self._most_bytes:
                            raise too_large(self._most_bytes)
                        held += piece
                        if len(held) >= _CHUNK:
                            yield bytes(held)
                            held.clear()
                    break
            except PluginError as error:
                # A weak ETag names what means the same, not the same bytes.
                is_lost = offset > 0 and (is_part or not etag or etag.startswith("W/"))
                if error.reason != "BROKEN_ANSWER" or not is_open or is_lost or attempt == self._tries.attempts:
                    raise
                self._call.log("warn", f"{error.message}; it goes on at {offset} bytes")
            self._call.sleep(random.uniform(pause / 2, pause))
            pause = min(2 * pause, LONGEST_PAUSE)
        if held:
            yield bytes(held)

    def _deadline(self) -> float:
        return time.monotonic() + min(self._call.remaining, _WEEK)

    def _tried(self, once: Callable[[float], _Result]) -> _Result:
        def hidden(seconds: float) -> _Result:
            try:
                return once(seconds)
            except Trouble as trouble:
                message = str(trouble)
                for each in self._hidden:
                    message = message.replace(each, "***")
                trouble.args = (message,)
                raise

        return tried(self._call, self._tries, hidden)

    def _first(self, request: Request) -> tuple[Request, Place]:
        try:
            place = place_of(request.url)
        except ValueError as error:
            raise PluginError("INVALID_ARGUMENT", f"the URL {error}", reason="URL_INVALID") from None
        headers = {"user-agent": self._agent, "accept-encoding": "gzip", **checked(request)}
        return replace(request, headers=headers), place

    def _opened(self, request: Request, place: Place, seconds: float, until: float) -> Stream:
        """An answer that is accepted, after redirects, its head within `seconds` unless the request is patient."""
        soon = until if request.patient else min(until, time.monotonic() + seconds)
        was_done = False
        for _ in range(self._redirects + 1):
            try:
                stream = self._exchanged(request, place, seconds, soon, until)
                try:
                    link = self._link(request, place, stream) if self._redirects else None
                    if link is None:
                        return self._accepted(request, place, stream)
                except BaseException:
                    stream.close()
                    raise
            except (PluginError, Trouble) as error:
                if was_done:
                    raise unknown(str(error)) from None
                raise
            stream.close()
            # 303 says: done, and the rest stands elsewhere.
            was_done = was_done or (request.method != link[0].method and not request.repeatable)
            request, place = link
        message = f"{place.shown}: more than {self._redirects} redirects"
        if was_done:
            raise unknown(message)
        raise Trouble("FAILED_PRECONDITION", message, again=False, reason="TOO_MANY_REDIRECTS")

    def _exchanged(self, request: Request, place: Place, seconds: float, soon: float, until: float) -> Stream:
        """Sends a request to a place, and reads the head of the answer until `soon`."""
        sock, peer = self._connected(place, min(soon, time.monotonic() + seconds))
        line = Line(sock, seconds, soon, self._call.raise_if_cancelled)
        connection = http.client.HTTPConnection(place.host, place.port, blocksize=_BLOCK)
        connection.auto_open = 0
        connection.sock = line

        def exchange() -> http.client.HTTPResponse:
            headers = {"host": place.shown, "connection": "close", **request.headers}
            headers |= request.sign(place) if request.sign else {}
            body: Any = request.body
            if isinstance(body, Upload):
                body.file.seek(0)
                headers["content-length"] = str(body.size)
                body = body.file
            connection.request(request.method, place.path, body, headers)
            return connection.getresponse()

        try:
            response = self._guarded(request, place.shown, exchange)
        except BaseException:
            line.hang_up()
            raise
        line.head_is_over(until)
        return Stream(response, url=place.url, peer=peer, most=self._most_bytes, close=line.hang_up)

    def _connected(self, place: Place, until: float) -> tuple[socket.socket, str]:
        """A socket to an address that was checked, with TLS if the place wants it. Nothing was sent if it fails."""
        try:
            addresses = resolved(place, self._reach, self._resolve, max(0.001, until - time.monotonic()))
            sock = dialled(addresses, place.port, until, self._call.raise_if_cancelled)
            try:
                peer = str(sock.getpeername()[0])
                return (self._encrypted(sock, place, until) if place.scheme == "https" else sock), peer
            except BaseException:
                sock.close()
                raise
        except ssl.SSLCertVerificationError as error:
            message = f"{place.shown}: {error.verify_message}"
            raise Trouble("FAILED_PRECONDITION", message, again=False, reason="NOT_TRUSTED") from None
        except OSError as error:
            message = f"{place.shown} cannot be reached: {error}"
            raise Trouble("UNAVAILABLE", message, again=True, reason="NOT_REACHED") from None

    def _encrypted(self, sock: socket.socket, place: Place, until: float) -> socket.socket:
        sock.settimeout(max(0.001, until - time.monotonic()))
        # A body that ends with its connection must end as TLS says, and not just stop.
        return tls(self._ca_file).wrap_socket(sock, server_hostname=place.host, suppress_ragged_eofs=False)

    def _guarded(self, request: Request, shown: str, work: Callable[[], _Result]) -> _Result:
        """Does what may break once a request has begun to be sent."""
        try:
            return work()
        except (OSError, http.client.HTTPException, BrokenAnswerError) as error:
            said = str(error) if isinstance(error, BrokenAnswerError) else type(error).__name__
            message = f"{shown} did not answer: {said}"
            if not request.repeatable:
                raise unknown(message) from None
            raise Trouble("UNAVAILABLE", message, again=True, reason="BROKEN_ANSWER") from None
        except PluginError as error:  # Nobody waits any more, or the answer is too large.
            if not request.repeatable:
                raise unknown(f"{shown}: {error.message}") from None
            raise

    def _accepted(self, request: Request, place: Place, stream: Stream) -> Stream:
        if stream.status <= request.accept:
            return stream
        answer = Answer(stream.status, stream.headers, b"", stream.url, stream.peer)
        with contextlib.suppress(BrokenAnswerError, OSError, PluginError):  # Its status says enough.
            answer = stream.read_some(_MOST_ERROR)
        raise self._judge(request, place.shown, answer)

    def _link(self, request: Request, place: Place, stream: Stream) -> tuple[Request, Place] | None:
        """What to ask next, and where, if the answer is a redirect that is followed; None if it is none."""
        location = stream.headers.get("location")
        if stream.status not in _REDIRECTS or not location:
            return None
        try:
            target = place.linked(location)
        except ValueError as error:
            raise _astray(request, f"{place.shown} redirects to what {error}") from None
        if place.scheme == "https" and target.scheme != "https":
            raise _astray(request, f"{place.shown} redirects to {target.shown}, without TLS")
        method, body, headers = request.method, request.body, dict(request.headers)
        if method not in _READS:
            if stream.status == 303:
                method, body = "GET", None
                headers = {name: value for name, value in headers.items() if not name.startswith("content-")}
            elif stream.status not in (307, 308) or target.origin != place.origin:
                raise _astray(request, f"{place.shown} redirects a {method} to {target.shown}, which is not followed")
        sign = request.sign
        if target.origin != place.origin:
            sign = None
            headers = {name: value for name, value in headers.items() if name in _HARMLESS}
        return replace(request, method=method, body=body, headers=headers, sign=sign), target


def tls(ca_file: str) -> ssl.SSLContext:
    """What is trusted: the system's certificates, and those of the operator's file."""
    return _context(ca_file, Path(ca_file).stat().st_mtime_ns if ca_file else 0)


@functools.lru_cache(maxsize=8)
def _context(ca_file: str, _changed: int) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    return context


def _check_goes_on(stream: Stream, offset: int, etag: str) -> None:
    range_ = stream.headers.get("content-range", f"bytes {offset}-")
    if stream.status != 206 or not range_.startswith(f"bytes {offset}-") or stream.headers.get("etag", etag) != etag:
        raise PluginError("UNAVAILABLE", "what broke off does not go on where it broke", reason="NOT_RESUMED")


def _astray(request: Request, message: str) -> Trouble:
    if request.method in _READS or request.repeatable:
        return Trouble("FAILED_PRECONDITION", message, again=False, reason="REDIRECT_REFUSED")
    return unknown(message)
