"""The octets of one section that do not fit into one answer: read piece by piece, as stored or decoded."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from restante_mail.mime.decoders import Decoding
from restante_server.api.engine.call import Call
from restante_server.directory.rights import Claim
from restante_server.store import contents, messages
from restante_server.store.contents import Cut, Wanted
from restante_server.store.decoded import DecodedSection

PIECE_OCTETS = 256 << 10  # of one response


@dataclass(frozen=True, slots=True)
class Source:
    """A section of a message. `removed` also reads a message that was removed meanwhile."""

    claim: Claim
    message_id: int
    wanted: Wanted
    removed: bool = False

    def behind(self, octets: int, total: int) -> Source:
        """The range of `total` octets without its first octets."""
        following = self.wanted._replace(offset=self.wanted.offset + octets, length=total - octets)
        return replace(self, wanted=following)


async def decoded_total(call: Call, source: Source) -> int:
    """The length of a decoded range, from decoding the part up to the range's end. Raises MessageNotFound."""
    total = 0
    async for octets in _decoded(call, source):
        total += len(octets)
    return total


async def pieces(call: Call, source: Source) -> AsyncIterator[bytes]:
    """The octets of a range of known length, in pieces that fit a response. No read is open between two pieces.

    Raises MessageNotFound.
    """
    if source.wanted.decoding is Decoding.NONE:
        async for octets in _as_stored(call, source):
            yield octets
        return
    async for octets in _decoded(call, source):
        for at in range(0, len(octets), PIECE_OCTETS):
            yield octets[at : at + PIECE_OCTETS]


async def _decoded(call: Call, source: Source) -> AsyncIterator[bytes]:
    reading = DecodedSection(
        call.core.contents.directory, source.claim, source.message_id, source.wanted, removed=source.removed
    )
    while not reading.ended:
        if octets := await call.read(partial(reading.step, position=reading.position)):
            yield octets


async def _as_stored(call: Call, source: Source) -> AsyncIterator[bytes]:
    while source.wanted.length:
        found = await call.read(partial(cut, directory=call.core.contents.directory, source=source, limit=PIECE_OCTETS))
        if not found.octets:
            return
        yield found.octets
        source = source.behind(len(found.octets), source.wanted.length)


def cut(tx: Connection, directory: Path, source: Source, limit: int) -> Cut:
    """At most `limit` octets of a section as stored. Raises MessageNotFound."""
    content_id, head = messages.content_of(tx, source.claim.place(tx), source.message_id, removed=source.removed)
    stored = contents.load(tx, [content_id])[content_id]
    return contents.cut(tx, directory, stored, head, source.wanted, limit)
