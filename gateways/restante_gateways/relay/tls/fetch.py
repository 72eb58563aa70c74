"""Fetching MTA-STS policies over HTTPS (RFC 8461 3.3)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass

import h11

from restante_gateways.net.resolver import LookupFailed, Resolver
from restante_gateways.relay.tls.rules import Fault
from restante_mail.authentication.mta_sts import MAX_POLICY_OCTETS, BadPolicy, StsPolicy, parse_policy
from restante_mail.authentication.tls_result import TlsResult
from restante_process.addresses import Address, parse_address

PATH = "/.well-known/mta-sts.txt"
PIECE_OCTETS = 16 << 10
MAX_RECEIVED_OCTETS = 96 << 10  # of a response with its head and framing


class FetchFailed(Fault):
    """No policy was fetched. `result` and `reason` say why."""


@dataclass(frozen=True, slots=True)
class FetchBounds:
    """The limits of a fetch."""

    seconds: float = 60.0  # RFC 8461 3.3
    connect_seconds: float = 15.0  # for one address, with the handshake
    port: int = 443


class Fetcher:
    """Fetches policies. It connects to permitted addresses only, checks the certificate and follows no redirects."""

    def __init__(
        self,
        resolver: Resolver,
        allowed: Callable[[Address], bool],
        context: ssl.SSLContext,
        bounds: FetchBounds = FetchBounds(),
    ) -> None:
        self._resolver, self._allowed, self._context, self._bounds = resolver, allowed, context, bounds

    async def fetch(self, domain: str) -> StsPolicy:
        """The policy of a domain, in A-labels. Raises FetchFailed."""
        try:
            async with asyncio.timeout(self._bounds.seconds):
                octets = await self._get(f"mta-sts.{domain}")
            return parse_policy(octets)
        except TimeoutError:
            raise _failed(f"no policy within {self._bounds.seconds:g} s") from None
        except BadPolicy as bad:
            raise FetchFailed(TlsResult.STS_POLICY_INVALID, f"the policy is malformed: {bad}") from None

    async def _get(self, host: str) -> bytes:
        reader, writer = await self._connected(host)
        try:
            return await _get(reader, writer, host)
        except h11.RemoteProtocolError as error:
            raise _failed(f"the answer of {host} is not HTTP: {error}") from None
        except OSError:
            raise _failed(f"{host} closed the connection") from None
        finally:
            writer.transport.abort()

    async def _connected(self, host: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the first address that accepts one, by the address that was judged. Raises FetchFailed."""
        try:
            found = await self._resolver.addresses(host)
        except LookupFailed as error:
            raise _failed(str(error)) from None
        addresses = [address for address in found if self._allowed(parse_address(address))]
        if not addresses:
            raise _failed(f"{host} has only private addresses" if found else f"{host} has no address in the DNS")
        problem = _failed(f"{host}: no connection")
        for address in addresses:
            try:
                async with asyncio.timeout(self._bounds.connect_seconds):
                    return await asyncio.open_connection(
                        address, self._bounds.port, ssl=self._context, server_hostname=host, limit=PIECE_OCTETS
                    )
            except ssl.SSLCertVerificationError as error:
                reason = f"the certificate of {host} [{address}] was refused: {error.verify_message}"
                problem = FetchFailed(TlsResult.STS_WEBPKI_INVALID, reason)
            except ssl.SSLError as error:
                problem = _failed(f"{host} [{address}]: TLS failed: {error.reason or 'not TLS'}")
            except TimeoutError:
                problem = _failed(f"{host} [{address}]: no connection within {self._bounds.connect_seconds:g} s")
            except (OSError, ValueError) as error:  # ValueError: a host name that TLS cannot carry
                problem = _failed(f"{host} [{address}]: cannot connect: {getattr(error, 'strerror', '') or error}")
        raise problem


async def _get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> bytes:
    """The body of the response to GET. Raises FetchFailed, h11.RemoteProtocolError, OSError."""
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=PIECE_OCTETS)
    headers = [("Host", host), ("Accept", "text/plain"), ("User-Agent", "Restante"), ("Connection", "close")]
    writer.write(http.send(h11.Request(method="GET", target=PATH, headers=headers)) or b"")
    http.send(h11.EndOfMessage())
    body, received = bytearray(), 0
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            data = await reader.read(PIECE_OCTETS)
            received += len(data)
            if received > MAX_RECEIVED_OCTETS:
                raise _failed(f"the answer of {host} is too long")
            http.receive_data(data)
        elif isinstance(event, h11.Response):
            _judge(event, host)
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_POLICY_OCTETS:
                raise _failed(f"the policy has more than {MAX_POLICY_OCTETS} octets")
        elif isinstance(event, h11.EndOfMessage):
            return bytes(body)
        elif not isinstance(event, h11.InformationalResponse):
            raise _failed(f"{host} closed the connection")


def _judge(response: h11.Response, host: str) -> None:
    """Raises FetchFailed for another status than 200, redirects included, and for another type (RFC 8461 3.3)."""
    if response.status_code != 200:
        raise _failed(f"{host} answered with HTTP status {response.status_code}")
    kinds = [value for name, value in response.headers if name == b"content-type"]
    if len(kinds) != 1 or kinds[0].partition(b";")[0].strip(b" \t").lower() != b"text/plain":
        raise _failed(f"the policy of {host} is not text/plain")


def _failed(reason: str) -> FetchFailed:
    return FetchFailed(TlsResult.STS_POLICY_FETCH_ERROR, reason)
