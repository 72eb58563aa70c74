"""A Connection in the shape of an asyncio transport, for libraries that are written for one."""

from __future__ import annotations

import asyncio

from restante_gateways.net.bounds import Interruption
from restante_gateways.net.connection import Connection


class TransportClosed(Interruption):
    """The library has closed its transport: the session reads no more."""


class ConnectionTransport(asyncio.WriteTransport):
    """The sending half: octets written here go the way of `Connection.write`, with its bounds, TLS and timers.

    The client's octets are not passed to a protocol. The session reads them from the connection, because only there
    STARTTLS drops what came in clear, and deadlines and draining end a wait.
    """

    def __init__(self, connection: Connection) -> None:
        client, local = connection.peer.client, connection.peer.local
        super().__init__({"peername": (client.host, client.port), "sockname": (local.host, local.port)})
        self._connection = connection
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queues octets for the client; never waits."""
        self._connection.write(bytes(data))

    def can_write_eof(self) -> bool:
        """False: the connection ends its direction itself, when the session is over."""
        return False

    def is_closing(self) -> bool:
        """Whether it is closed, or the connection lost."""
        return self._closing or self._connection.lost

    def close(self) -> None:
        """Ends the session at its next read. Octets written before are still sent."""
        self._closing = True
        self._connection.interrupt(TransportClosed())

    def abort(self) -> None:
        """Cuts the connection."""
        self._closing = True
        self._connection.abort()
