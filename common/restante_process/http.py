"""A small HTTP/1.1 server for health and metrics: fixed pages, GET and HEAD, one request a connection, all bounded.

h11 parses the requests. The server is for an address that only operators reach; it is no web server.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import h11

from restante_process import sockets

log = logging.getLogger(__name__)

TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Page:
    """One response."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = TEXT


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of one server."""

    request_octets: int = 8_192  # of a request's head
    seconds: float = 10.0  # for a whole connection
    connections: int = 64  # at a time; a further one gets 503 at once
    discarded_octets: int = 65_536  # read after a response, so that a client that is still sending gets it


Pages = Mapping[str, Callable[[], Awaitable[Page]]]
"""{path: function that makes the page}. It has the connection's time; an exception gives a 500 and a log line."""


class HttpServer:
    """Serves `pages` from `start` until `stop`."""

    def __init__(self, pages: Pages, bounds: Bounds | None = None) -> None:
        self._pages, self._bounds = pages, bounds or Bounds()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen; with port 0 on any free port, which `port` then holds. Raises CannotListen."""
        try:
            self._server = await asyncio.start_server(self._accepted, host, port, limit=self._bounds.request_octets)
        except OSError as error:
            problem = f"health: cannot listen on {sockets.shown((host, port))}: {sockets.why(error)}"
            raise sockets.CannotListen(error.errno, problem) from None
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop open connections. A second call does nothing."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await server.wait_closed()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name="http connection")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._bounds.seconds):
                await self._answer(reader, writer)
        except (TimeoutError, ConnectionError):
            pass  # the client has disconnected or takes too long
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=self._bounds.request_octets)
        request = None
        if len(self._connections) > self._bounds.connections:
            page = _error(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")
        else:
            try:
                request = await _request(http, reader)
                if request is None:
                    return
                page = await self._page(request)
            except h11.RemoteProtocolError as error:
                page = _error(HTTPStatus(error.error_status_hint), "the request is not valid HTTP/1.1")
        body = b"" if request is not None and request.method == b"HEAD" else page.body
        writer.write((http.send(_response(page)) or b"") + body)
        writer.write_eof()
        await writer.drain()
        await self._discard(reader)

    async def _page(self, request: h11.Request) -> Page:
        path = request.target.split(b"?", 1)[0].decode("ascii", "replace")
        make = self._pages.get(path)
        if make is None:
            return _error(HTTPStatus.NOT_FOUND, "the pages are " + ", ".join(sorted(self._pages)))
        if request.method not in (b"GET", b"HEAD"):
            return _error(HTTPStatus.METHOD_NOT_ALLOWED, "the pages answer only GET and HEAD")
        try:
            return await make()
        except Exception:
            log.exception("making the page %s failed", path)
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR, "making the page failed; the log has the reason")

    async def _discard(self, reader: asyncio.StreamReader) -> None:
        left = self._bounds.discarded_octets
        while left > 0 and (more := await reader.read(left)):
            left -= len(more)


async def _request(http: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """The head of the request; None when the client disconnected before it. Raises h11.RemoteProtocolError."""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(4_096))
        elif isinstance(event, h11.Request):
            return event
        else:
            return None


def _error(status: HTTPStatus, reason: str) -> Page:
    return Page(f"{status.phrase.lower()}: {reason}\n".encode(), status)


def _response(page: Page) -> h11.Response:
    headers = [
        ("Content-Type", page.content_type),
        ("Content-Length", str(len(page.body))),
        ("Connection", "close"),
        ("Cache-Control", "no-store"),
    ]
    if page.status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append(("Allow", "GET, HEAD"))  # RFC 9110 15.5.6
    return h11.Response(status_code=page.status, reason=page.status.phrase.encode(), headers=headers)


class UnusableAnswer(OSError):
    """The response is not HTTP/1.1, or is larger than the limit."""


async def fetch(host: str, port: int, path: str, *, seconds: float, max_octets: int = 8 << 20) -> Page:
    """GET a page of an HttpServer. Raises OSError, UnusableAnswer among them, and TimeoutError."""
    http = h11.Connection(h11.CLIENT)
    request = h11.Request(method="GET", target=path, headers=[("Host", host), ("Connection", "close")])
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
            return await _received(http, reader, max_octets)
        except h11.RemoteProtocolError as error:
            raise UnusableAnswer(f"{host}:{port} does not speak HTTP: {error}") from None
        finally:
            writer.close()


async def _received(http: h11.Connection, reader: asyncio.StreamReader, max_octets: int) -> Page:
    body, head = bytearray(), None
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await reader.read(65_536))
        elif isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > max_octets:
                raise UnusableAnswer(f"the response is longer than {max_octets} octets")
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            kind = next((value.decode("latin-1") for name, value in head.headers if name == b"content-type"), TEXT)
            return Page(bytes(body), HTTPStatus(head.status_code), kind)
