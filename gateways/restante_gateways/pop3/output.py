"""Output of responses of any length, at the client's pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from restante import errors
from restante_gateways.net.bounds import ConnectionLost
from restante_gateways.net.connection import Connection
from restante_gateways.pop3.protocol import DotStuffer


class Output:
    """The output of a connection, for commands."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def write(self, octets: bytes) -> None:
        """Queue octets."""
        self._connection.write(octets)

    def write_all(self, pieces: Iterable[bytes]) -> None:
        """Queue a short response."""
        for piece in pieces:
            self._connection.write(piece)

    async def stream(self, pieces: Iterable[bytes]) -> None:
        """Write a long response. Raises ConnectionLost."""
        for piece in pieces:
            self._connection.write(piece)
            await asyncio.sleep(0)  # the listing of a large maildrop must not delay other sessions
            if self._connection.write_paused:
                await self._connection.drain()

    async def stream_message(self, octets: AsyncIterator[bytes], stuffer: DotStuffer) -> None:
        """Write the rest of a message and its end. Raises ConnectionLost, also if the rest cannot be read.

        POP3 has no response for an incomplete message. Only aborting the connection keeps the client from accepting it
        as complete.
        """
        try:
            async for piece in octets:
                self._connection.write(stuffer.feed(piece))
                if self._connection.write_paused:
                    await self._connection.drain()
        except errors.RestanteError:
            self._connection.abort()
            raise ConnectionLost from None
        self._connection.write(stuffer.finish())
