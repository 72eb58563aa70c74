"""The octets of a leased message for its relay: as they are stored, or in 7 bits (RFC 6152 3).

They are read in pieces. Each read proves the lease again, since a message whose lease has lapsed may be gone. Mail of
our own authors is signed in the form in which it is sent, and checked mail from elsewhere is sealed (docs/design.md
"Signing", "Forwarding").
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import NamedTuple

from sqlalchemy import Connection

from restante.v1.checks_pb2 import MessageChecks
from restante_mail.mime import parts
from restante_mail.mime.seven_bit import Conversion, Copy, Header, NotConvertible, Recoder, Survey
from restante_server.db.engine import Database
from restante_server.store import contents
from restante_server.store.contents import Stored
from restante_server.transport.outbound import queue, signatures
from restante_server.transport.outbound.queue import Outbound
from restante_server.transport.outbound.signatures import Form, Method, Signatures
from restante_server.transport.results import results_of
from restante_server.transport.settings import TransportSettings

PIECE_OCTETS = 256 << 10


class Piece(NamedTuple):
    """Octets of the message. `not_converted` is the reason why they are not in 7 bits, although requested."""

    octets: bytes
    not_converted: str = ""


class LeasedMessage:
    """Reads one leased message. Every method raises LeaseLost."""

    def __init__(self, db: Database, settings: TransportSettings, lease_id: int, signatures: Signatures) -> None:
        self._db, self._settings, self._lease_id = db, settings, lease_id
        self._signatures = signatures
        self._has_read = False
        self._transport_id = 0  # this and the next two are known from the first read on
        self._size_octets = 0
        self._method: Method | None = None  # None: neither signed nor sealed

    async def sent(self, seven_bit: bool) -> AsyncIterator[Piece]:
        """The message as it is sent: in 7 bits if requested, signed if it is mail of our own authors, and sealed if it
        is checked mail from elsewhere."""
        read = self.seven_bit if seven_bit else self.pieces
        pieces = read()
        first = await anext(pieces)
        held = [first]
        if self._method is not None:
            form = Form(self._transport_id, seven_bit, self._method.key_ids)
            fields = self._signatures.known(form)
            if fields is None:
                is_short = self._size_octets <= PIECE_OCTETS
                held += [piece async for piece in pieces] if is_short else []
                source = partial(_octets_of, held) if is_short else partial(_octets, read)
                fields = await self._signatures.of(form, self._method.begin, source)
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
            if not self._has_read:
                self._transport_id, self._size_octets = leased.transport_id, stored.size_octets
                self._method, self._has_read = self._method_of(tx, leased), True
            octets = contents.read_range(tx, self._settings.contents, stored, offset, length)
            return octets, stored, leased.trace_field

        return await self._db.read(read)

    def _method_of(self, tx: Connection, leased: Outbound) -> Method | None:
        keys = self._signatures.keys
        if leased.signing_domain:
            return signatures.dkim(keys.of(tx, leased.signing_domain))
        if leased.forwarder and leased.checks:
            checks = results_of(MessageChecks.FromString(leased.checks))
            hostname = self._settings.hostname
            return signatures.arc(keys.of(tx, leased.forwarder), checks, hostname, leased.source)
        return None


async def _octets(read: Callable[[], AsyncIterator[Piece]]) -> AsyncIterator[bytes]:
    async for piece in read():
        yield piece.octets


async def _octets_of(held: Sequence[Piece]) -> AsyncIterator[bytes]:
    yield b"".join(piece.octets for piece in held)
