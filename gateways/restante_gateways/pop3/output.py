"""Answers of any length, written as fast as the client takes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from restante import errors
from restante_gateways.net.bounds import ConnectionLost
from restante_gateways.net.connection import Connection
from restante_gateways.pop3.protocol import DotStuffer


class Output:
    """The client's end of a connection, for commands."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def write(self, octets: bytes) -> None:
        """Queues octets."""
        self._connection.write(octets)

    def write_all(self, pieces: Iterable[bytes]) -> None:
        """Queues a short answer."""
        for piece in pieces:
            self._connection.write(piece)

    async def stream(self, pieces: Iterable[bytes]) -> None:
        """Writes a long answer. Raises ConnectionLost."""
        for piece in pieces:
            self._connection.write(piece)
            await asyncio.sleep(0)  # a listing of a great maildrop must not hold up the others
            if self._connection.write_paused:
                await self._connection.drain()

    async def stream_message(self, octets: AsyncIterator[bytes], stuffer: DotStuffer) -> None:
        """Writes the rest of a message and its end. Raises ConnectionLost, also where the rest cannot be read.

        POP3 has no word for a message that breaks off. Only a lost connection keeps the client from taking half of it
        for the whole.
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
