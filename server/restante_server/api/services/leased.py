"""The octets of a leased message for its relay: as they are stored, or in 7 bits (RFC 6152 3).

They are read in pieces. Each read proves the lease again, since a message whose lease has lapsed may be gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection

from restante_mail.mime import parts
from restante_mail.mime.seven_bit import Conversion, Copy, Header, NotConvertible, Recoder, Survey
from restante_server.db.engine import Database
from restante_server.store import contents
from restante_server.store.contents import Stored
from restante_server.transport.outbound import queue

PIECE_OCTETS = 256 << 10


class Piece(NamedTuple):
    """Octets of the message. `not_converted` is the reason why they are not in 7 bits, although requested."""

    octets: bytes
    not_converted: str = ""


class LeasedMessage:
    """Reads one leased message. Every method raises LeaseLost."""

    def __init__(self, db: Database, directory: Path, lease_id: int) -> None:
        self._db, self._directory, self._lease_id = db, directory, lease_id

    async def pieces(self) -> AsyncIterator[Piece]:
        """The message as it is stored, under the field of this hop."""
        first, stored, trace_field = await self._read(0, PIECE_OCTETS)
        yield Piece(trace_field + first)
        async for octets in self._range(len(first), stored.size_octets):
            yield Piece(octets)

    async def seven_bit(self) -> AsyncIterator[Piece]:
        """The message in 7 bits; as it is stored, if it has no conversion."""
        _, stored, trace_field = await self._read(0, 0)
        survey = Survey(parts.decode(stored.structure))
        async for octets in self._range(0, stored.size_octets):
            await asyncio.to_thread(survey.feed, octets)
        try:
            steps = survey.conversion()
        except NotConvertible as error:
            yield Piece(trace_field, not_converted=str(error))
            steps = [Copy(0, stored.size_octets)]
        else:
            yield Piece(trace_field)
        async for octets in self._converted(steps):
            yield Piece(octets)

    async def _converted(self, steps: Conversion) -> AsyncIterator[bytes]:
        for step in steps:
            if isinstance(step, Copy):
                async for octets in self._range(step.start, step.end):
                    yield octets
            elif isinstance(step, Header):
                yield step.apply(b"".join([octets async for octets in self._range(step.start, step.end)]))
            else:
                recoder = Recoder(step)
                async for octets in self._range(step.start, step.end):
                    yield await asyncio.to_thread(recoder.feed, octets)
                yield recoder.finish()

    async def _range(self, start: int, end: int) -> AsyncIterator[bytes]:
        """The stored octets [start, end)."""
        while start < end:
            octets, _, _ = await self._read(start, min(PIECE_OCTETS, end - start))
            yield octets
            start += len(octets)

    async def _read(self, offset: int, length: int) -> tuple[bytes, Stored, bytes]:
        """Octets of the content, the content, and the field of this hop."""

        def read(tx: Connection) -> tuple[bytes, Stored, bytes]:
            trace_field, content_id = queue.outbound(tx, self._lease_id)
            stored = contents.load(tx, [content_id])[content_id]
            return contents.read_range(tx, self._directory, stored, offset, length), stored, trace_field

        return await self._db.read(read)
