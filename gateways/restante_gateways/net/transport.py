"""An adapter from Connection to asyncio's transport, for libraries written for one."""

from __future__ import annotations

import asyncio

from restante_gateways.net.bounds import Interruption
from restante_gateways.net.connection import Connection


class TransportClosed(Interruption):
    """The library has closed its transport, so the session stops reading."""


class ConnectionTransport(asyncio.WriteTransport):
    """The sending half of a transport. It writes with `Connection.write`, so limits, TLS and timers apply.

    It passes no octets of the client to a protocol. The session reads them from the connection, because only there
    STARTTLS discards octets sent in clear, and deadlines and draining end a wait.
    """

    def __init__(self, connection: Connection) -> None:
        client, local = connection.peer.client, connection.peer.local
        super().__init__({"peername": (client.host, client.port), "sockname": (local.host, local.port)})
        self._connection = connection
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue octets for the client without waiting."""
        self._connection.write(bytes(data))

    def can_write_eof(self) -> bool:
        """False: the connection closes its sending direction itself, at the end of the session."""
        return False

    def is_closing(self) -> bool:
        """Whether the transport is closed or the connection lost."""
        return self._closing or self._connection.lost

    def close(self) -> None:
        """End the session at its next read. Octets written before are still sent."""
        self._closing = True
        self._connection.interrupt(TransportClosed())

    def abort(self) -> None:
        """Abort the connection."""
        self._closing = True
        self._connection.abort()
