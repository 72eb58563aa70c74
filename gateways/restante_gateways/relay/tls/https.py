"""One HTTPS request to a web server that others name: permitted addresses only, no redirect, a bounded answer."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import h11

from restante_gateways.net.resolver import LookupFailed, Resolver
from restante_process.addresses import Address, parse_address

PIECE_OCTETS = 16 << 10
FRAMING_OCTETS = 32 << 10  # of an answer, beside its body


class HttpsFailed(Exception):
    """There was no usable answer. The text says why."""

    def __init__(self, reason: str, *, untrusted: bool = False) -> None:
        """`untrusted`: the certificate was refused."""
        super().__init__(reason)
        self.reason, self.untrusted = reason, untrusted


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of one request."""

    seconds: float = 60.0  # in all
    connect_seconds: float = 15.0  # for one address, with the handshake


@dataclass(frozen=True, slots=True)
class Request:
    """A request."""

    method: str
    host: str  # in A-labels
    port: int
    target: str
    fields: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    authority: str = ""  # host and port in the field Host; "": the host


Judge = Callable[[h11.Response], int]
"""The octets to read of the body of a final response, at most; 0: none. Raises HttpsFailed for an unusable response."""


class Https:
    """Asks web servers. It connects to permitted addresses only, checks the certificate and follows no redirects."""

    def __init__(
        self,
        resolver: Resolver,
        allowed: Callable[[Address], bool],
        context: ssl.SSLContext,
        bounds: Bounds = Bounds(),
    ) -> None:
        self._resolver, self._allowed, self._context, self._bounds = resolver, allowed, context, bounds

    async def ask(self, request: Request, judge: Judge) -> bytes:
        """The body of the final response, as much as `judge` wants. Raises HttpsFailed."""
        host = request.host
        try:
            async with asyncio.timeout(self._bounds.seconds):
                reader, writer = await self._connected(host, request.port)
                try:
                    return await _exchange(reader, writer, request, judge)
                except h11.RemoteProtocolError as error:
                    raise HttpsFailed(f"the answer of {host} is not HTTP: {error}") from None
                except OSError:
                    raise HttpsFailed(f"{host} closed the connection") from None
                finally:
                    writer.transport.abort()
        except TimeoutError:
            raise HttpsFailed(f"no whole answer of {host} within {self._bounds.seconds:g} s") from None

    async def _connected(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the first address that accepts one, by the address that was judged. Raises HttpsFailed."""
        try:
            found = await self._resolver.addresses(host)
        except LookupFailed as error:
            raise HttpsFailed(str(error)) from None
        addresses = [address for address in found if self._allowed(parse_address(address))]
        if not addresses:
            raise HttpsFailed(f"{host} has only private addresses" if found else f"{host} has no address in the DNS")
        problem = HttpsFailed(f"{host}: no connection")
        for address in addresses:
            try:
                async with asyncio.timeout(self._bounds.connect_seconds):
                    return await asyncio.open_connection(
                        address, port, ssl=self._context, server_hostname=host, limit=PIECE_OCTETS
                    )
            except ssl.SSLCertVerificationError as error:
                reason = f"the certificate of {host} [{address}] was refused: {error.verify_message}"
                problem = HttpsFailed(reason, untrusted=True)
            except ssl.SSLError as error:
                problem = HttpsFailed(f"{host} [{address}]: TLS failed: {error.reason or 'not TLS'}")
            except TimeoutError:
                problem = HttpsFailed(f"{host} [{address}]: no connection within {self._bounds.connect_seconds:g} s")
            except (OSError, ValueError) as error:  # ValueError: a host name that TLS cannot carry
                problem = HttpsFailed(f"{host} [{address}]: cannot connect: {getattr(error, 'strerror', '') or error}")
        raise problem


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request, judge: Judge
) -> bytes:
    """Raises HttpsFailed, h11.RemoteProtocolError, OSError."""
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=PIECE_OCTETS)
    await _send(http, writer, request)
    host = request.host
    body, received, most = bytearray(), 0, 0
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(PIECE_OCTETS)
            received += len(data)
            if not received:
                raise HttpsFailed(f"{host} closed the connection without an answer")
            if received > most + FRAMING_OCTETS:
                raise HttpsFailed(f"the answer of {host} is too long")
            http.receive_data(data)
        elif isinstance(event, h11.Response):
            most = judge(event)
            if not most:
                return b""
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > most:
                raise HttpsFailed(f"the answer of {host} has more than {most} octets")
        elif isinstance(event, h11.EndOfMessage):
            return bytes(body)
        elif not isinstance(event, h11.InformationalResponse):
            raise HttpsFailed(f"{host} closed the connection")


async def _send(http: h11.Connection, writer: asyncio.StreamWriter, request: Request) -> None:
    fields = [("Host", request.authority or request.host), ("User-Agent", "Restante"), ("Connection", "close")]
    fields += request.fields
    if request.body:
        fields.append(("Content-Length", str(len(request.body))))
    writer.write(http.send(h11.Request(method=request.method, target=request.target, headers=fields)) or b"")
    if request.body:
        writer.write(http.send(h11.Data(data=request.body)) or b"")
    http.send(h11.EndOfMessage())
    try:
        await writer.drain()
    except ConnectionError:
        return  # the server may have answered before it closed; reading tells
