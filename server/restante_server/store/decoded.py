"""Sections without their transfer encoding, and text in UTF-8: read in pieces, in bounded memory.

Offsets count decoded octets. The decoded length of a part is stored nowhere, so a range costs decoding from the part's
beginning to the end of the range.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import Connection

from restante.errors import PartNotFound
from restante_mail.mime import parts
from restante_mail.mime.decoders import Decoding, part_decoder
from restante_mail.mime.sections import find_part
from restante_mail.mime.transfer import TransferDecoder
from restante_server.directory.rights import Claim
from restante_server.store import contents, messages
from restante_server.store.contents import MISSING, Cut, Stored, Wanted

AT_ONCE_OCTETS: Final = 512 << 10  # encoded octets of one cell that `beginning` decodes
STEP_OCTETS: Final = 256 << 10  # encoded octets of a step
PIECE_OCTETS: Final = 64 << 10  # encoded octets decoded at a time


class Range:
    """Takes the octets [offset, offset + length) out of octets that come in pieces."""

    def __init__(self, offset: int, length: int | None) -> None:
        self._offset, self._end = offset, None if length is None else offset + length
        self._passed = 0

    @property
    def complete(self) -> bool:
        """Whether later pieces have nothing of the range."""
        return self._end is not None and self._passed >= self._end

    def take(self, piece: bytes) -> bytes:
        """The octets of the next piece that are in the range."""
        start, self._passed = self._passed, self._passed + len(piece)
        first = max(self._offset - start, 0)
        last = len(piece) if self._end is None else max(self._end - start, 0)
        return piece if not first and last >= len(piece) else piece[first:last]


class Beginning(NamedTuple):
    """The beginning of a range, or None if more encoded octets must be read for its length; `read` of them were."""

    cut: Cut | None
    read: int


def beginning(
    tx: Connection, directory: Path, stored: Stored, wanted: Wanted, limit: int, budget: int = AT_ONCE_OCTETS
) -> Beginning:
    """At most `limit` octets of the wanted range, from at most `budget` encoded octets."""
    part = find_part(parts.decode(stored.structure), wanted.path)
    if part is None:
        return Beginning(MISSING, 0)
    decoder = part_decoder(part, wanted.decoding)
    if decoder is None:
        as_stored = wanted._replace(decoding=Decoding.NONE)
        return Beginning(contents.cut(tx, directory, stored, b"", as_stored, limit), 0)
    window, found, at = Range(wanted.offset, wanted.length), bytearray(), part.body_start
    end = min(part.body_end, part.body_start + budget)
    while at < end and not window.complete:
        raw = contents.read_range(tx, directory, stored, at, min(PIECE_OCTETS, end - at))
        found += window.take(decoder.feed(raw))
        at += len(raw)
    if at == part.body_end:
        found += window.take(decoder.finish())
    elif not window.complete:
        return Beginning(None, at - part.body_start)
    return Beginning(Cut(bytes(found[:limit]), len(found)), at - part.body_start)


class DecodedSection:
    """Reads the wanted range of a message in steps. Each step is a read of its own, and memory is bounded.

    `removed` also reads a message that was removed meanwhile, until its rows are erased.
    """

    def __init__(
        self, directory: Path, claim: Claim, message_id: int, wanted: Wanted, *, removed: bool = False
    ) -> None:
        self._directory, self._claim, self._message_id = directory, claim, message_id
        self._wanted, self._removed = wanted, removed
        self._window = Range(wanted.offset, wanted.length)
        self._decoder: TransferDecoder | None = None
        self._last = b""
        self.position = 0  # encoded octets that were read
        self.ended = False  # no step follows

    def step(self, tx: Connection, position: int) -> bytes:
        """The next octets of the range, perhaps none. `position` is the present one.

        A read may run a second time on a new connection, after its step was done: it then gets the same octets.
        Raises MessageNotFound, PartNotFound.
        """
        if position != self.position or self.ended:
            return self._last
        content_id, _ = messages.content_of(tx, self._claim.place(tx), self._message_id, removed=self._removed)
        stored = contents.load(tx, [content_id])[content_id]
        part = find_part(parts.decode(stored.structure), self._wanted.path)
        if part is None:
            raise PartNotFound(part=".".join(map(str, self._wanted.path)))
        if self._decoder is None and not position:
            self._decoder = part_decoder(part, self._wanted.decoding)
            if self._decoder is None:  # decoded octets are those stored: go to the range at once
                position, self._window = self._wanted.offset, Range(0, self._wanted.length)
        octets = min(STEP_OCTETS, max(part.octets - position, 0))
        raw = contents.read_range(tx, self._directory, stored, part.body_start + position, octets)
        self._last = self._decoded(raw, last=position + len(raw) >= part.octets)
        self.position = position + len(raw)
        self.ended = self._window.complete or self.position >= part.octets
        return self._last

    def _decoded(self, raw: bytes, last: bool) -> bytes:
        """The octets of the range in the next encoded octets of the part."""
        if self._decoder is None:
            return self._window.take(raw)
        found = bytearray()
        for at in range(0, len(raw), PIECE_OCTETS):
            found += self._window.take(self._decoder.feed(raw[at : at + PIECE_OCTETS]))
        if last:
            found += self._window.take(self._decoder.finish())
        return bytes(found)
