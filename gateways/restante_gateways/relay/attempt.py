"""One delivery attempt: from a lease and the servers of its destination to an outcome for each recipient."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from restante.v1.transport_pb2 import OutboundLease, ReadOutboundRequest, ReadOutboundResponse
from restante_gateways.core.retry import repeated
from restante_gateways.net.resolver import LookupFailed, LoopsBack, NoSuchDomain, TakesNoMail
from restante_gateways.relay.commands import Parcel, needs_seven_bit
from restante_gateways.relay.configured import sending_domain
from restante_gateways.relay.connection import Connection
from restante_gateways.relay.outcomes import Outcome, deferred, failed, worse
from restante_gateways.relay.pool import Pool, Room
from restante_gateways.relay.routes import BadLiteral, Hop, NoFamily, NoServer, NotAllowed, Router
from restante_gateways.relay.tls.destination import Forbidden
from restante_gateways.relay.transaction import Unreachable

UNROUTABLE = (LookupFailed, NoSuchDomain, TakesNoMail, LoopsBack, NotAllowed, NoServer, NoFamily, Forbidden, BadLiteral)
CONVERTED_OCTETS = 3  # of an octet, at most, in 7 bits


class Ending(Exception):
    """The process is draining and this attempt has not begun, so the lease must be returned."""


class Reader(Protocol):
    """Reads leased messages; `restante.link.CoreLink` implements it."""

    def read_outbound(self, request: ReadOutboundRequest) -> AsyncIterator[ReadOutboundResponse]:
        """TransportService.ReadOutbound."""
        ...


class Attempts:
    """Makes attempts, with the router, the connection pool and the memory limit that all of them share."""

    def __init__(self, router: Router, pool: Pool, room: Room, reader: Reader, ending: Callable[[], bool]) -> None:
        self._router, self._pool, self._room, self._reader, self._ending = router, pool, room, reader, ending

    async def make(self, lease: OutboundLease) -> dict[int, Outcome]:
        """Try the servers of the destination in order, until one has answered for a recipient; return all outcomes.

        Raises Ending, and LeaseLost or another RestanteError when the message cannot be read.
        """
        ids = [item.recipient_id for item in lease.recipients]
        last: Outcome | None = None
        try:
            sender, optional = sending_domain(lease.reverse_path), lease.tls_optional
            async for hop in self._router.hops(lease.destination, sender, tls_optional=optional):
                try:
                    return await self._at(hop, lease)
                except Unreachable as unreachable:
                    last = worse(last, unreachable.outcome)
        except UNROUTABLE as error:
            last = worse(last, _unroutable(error, lease.destination))
        return dict.fromkeys(ids, last or deferred("4.4.1", f"no mail server of {lease.destination} could be reached"))

    async def _at(self, hop: Hop, lease: OutboundLease) -> dict[int, Outcome]:
        """Send the message to one server. Raises Unreachable, Ending and RestanteError."""
        async with self._pool.place(hop) as slots:
            began = asyncio.get_running_loop().time()
            try:
                outcomes, answered = await self._to(hop, lease)
            except Unreachable:
                slots.failed(began)
                raise
            if answered:
                slots.succeeded()
            else:
                slots.failed(began)
            return outcomes

    async def _to(self, hop: Hop, lease: OutboundLease) -> tuple[dict[int, Outcome], bool]:
        """The outcomes, and whether the connection outlived the attempt. Raises Unreachable, Ending, RestanteError."""
        while True:
            if self._ending():
                raise Ending
            async with self._pool.connection(hop) as connection:
                reused = connection.transactions > 0
                try:
                    return await self._over(connection, lease), connection.is_open
                except Unreachable:
                    if not reused:
                        raise
                    # The server closed the idle connection, which does not mean that it is unreachable.

    async def _over(self, connection: Connection, lease: OutboundLease) -> dict[int, Outcome]:
        async with self._room.taken(lease.size_octets):
            parcel = await self._parcel(lease)
            if not needs_seven_bit(parcel, connection.offer):
                return await connection.transact(parcel, lease.recipients)
        del parcel
        async with self._room.taken(CONVERTED_OCTETS * lease.size_octets):
            parcel = await self._parcel(lease, seven_bit=True)
            return await connection.transact(parcel, lease.recipients)

    async def _parcel(self, lease: OutboundLease, *, seven_bit: bool = False) -> Parcel:
        request = ReadOutboundRequest(lease_id=lease.lease_id, seven_bit=seven_bit)
        content, not_converted = await repeated(lambda: self._read(request))
        return Parcel.of(lease.reverse_path, lease.options, content, not_converted)

    async def _read(self, request: ReadOutboundRequest) -> tuple[bytes, str]:
        """The octets of a leased message, whole, and the reason why they are not in 7 bits."""
        content, not_converted = bytearray(), ""
        async for piece in self._reader.read_outbound(request):
            content += piece.octets
            not_converted = not_converted or piece.not_converted
        return bytes(content), not_converted


def _unroutable(error: Exception, destination: str) -> Outcome:
    """The outcome of a failed route lookup (RFC 3463 3.5, RFC 7505 4.2)."""
    match error:
        case NoSuchDomain():
            return failed("5.1.2", f"the domain {destination} does not exist")
        case TakesNoMail():
            return failed("5.1.10", f"the domain {destination} accepts no mail (null MX)")
        case LoopsBack():
            return failed("5.4.6", f"mail for {destination} would loop back to this server")
        case NotAllowed():
            return failed(
                "5.4.4",
                (
                    f"the mail servers of {destination} have only addresses that this relay must not use "
                    "(private networks)"
                ),
            )
        case NoServer():
            return failed("5.4.4", f"the mail servers of {destination} have no address in the DNS")
        case NoFamily():
            return deferred(
                "4.4.4", f"the mail servers of {destination} have no address of a family that this relay may use"
            )
        case Forbidden():
            return deferred("4.7.5", str(error))
        case BadLiteral():
            return failed("5.1.2", f"{destination} is not a valid address literal")
        case _:
            return deferred("4.4.3", str(error))
