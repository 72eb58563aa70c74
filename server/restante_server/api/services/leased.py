"""The octets of a leased message for its relay: as they are stored, or in 7 bits (RFC 6152 3).

They are read in pieces. Each read proves the lease again, since a message whose lease has lapsed may be gone. Mail of
our own authors is signed in the form in which it is sent (docs/design.md "Signing").
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection

from restante_mail.authentication.dkim.signing_keys import SigningKey
from restante_mail.mime import parts
from restante_mail.mime.seven_bit import Conversion, Copy, Header, NotConvertible, Recoder, Survey
from restante_server.db.engine import Database
from restante_server.store import contents
from restante_server.store.contents import Stored
from restante_server.transport.outbound import queue
from restante_server.transport.outbound.signatures import Form, Signatures

PIECE_OCTETS = 256 << 10


class Piece(NamedTuple):
    """Octets of the message. `not_converted` is the reason why they are not in 7 bits, although requested."""

    octets: bytes
    not_converted: str = ""


class LeasedMessage:
    """Reads one leased message. Every method raises LeaseLost."""

    def __init__(self, db: Database, directory: Path, lease_id: int, signatures: Signatures) -> None:
        self._db, self._directory, self._lease_id = db, directory, lease_id
        self._signatures = signatures
        self._transport_id = 0  # this and the next two are known from the first read on
        self._size_octets = 0
        self._keys: dict[int, SigningKey] | None = None

    async def sent(self, seven_bit: bool) -> AsyncIterator[Piece]:
        """The message as it is sent: signed if it is mail of our own authors, and in 7 bits if requested."""
        read = self.seven_bit if seven_bit else self.pieces
        pieces = read()
        first = await anext(pieces)
        held = [first]
        if self._keys:
            form = Form(self._transport_id, seven_bit, tuple(self._keys))
            fields = self._signatures.known(form)
            if fields is None:
                is_short = self._size_octets <= PIECE_OCTETS
                held += [piece async for piece in pieces] if is_short else []
                source = partial(_octets_of, held) if is_short else partial(_octets, read)
                fields = await self._signatures.of(form, self._keys.values(), source)
            yield Piece(fields, first.not_converted)
            held[0] = first._replace(not_converted="")
        for piece in held:
            yield piece
        async for piece in pieces:
            yield piece

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
            leased = queue.outbound(tx, self._lease_id)
            stored = contents.load(tx, [leased.content_id])[leased.content_id]
            if self._keys is None:
                self._transport_id, self._size_octets = leased.transport_id, stored.size_octets
                domain = leased.signing_domain
                self._keys = self._signatures.keys.of(tx, domain) if domain else {}
            return contents.read_range(tx, self._directory, stored, offset, length), stored, leased.trace_field

        return await self._db.read(read)


async def _octets(read: Callable[[], AsyncIterator[Piece]]) -> AsyncIterator[bytes]:
    async for piece in read():
        yield piece.octets


async def _octets_of(held: Sequence[Piece]) -> AsyncIterator[bytes]:
    yield b"".join(piece.octets for piece in held)
