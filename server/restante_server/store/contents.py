"""Contents: the octets that messages name, in the database or in files (docs/design.md "Contents").

A content is written once and never changed. The transaction that names a content inserts its row, and the octets of a
small one. The octets of a large one go to a file, which is written and fsynced before that transaction.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from enum import Enum, IntEnum
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, FromClause, bindparam, delete, insert, select, tuple_, update

from restante.errors import StoreBusy
from restante_mail.header.fields import header_fields
from restante_mail.mime.decoders import Decoding
from restante_mail.mime.parts import root_offsets
from restante_mail.mime.sections import Kind, begins_with_head, stored_section
from restante_server.db import prepared
from restante_server.db.numbered import insert_numbered
from restante_server.db.schema import content, content_octets, content_pin, listing
from restante_server.store.runs import JsonRows, encode_rows, join_from

AT_ONCE = 256  # ids in one list


class Location(IntEnum):
    """The place of a content's octets."""

    DATABASE = 1
    FILE = 2


class ContentState(IntEnum):
    """Whether a content has its octets. The octets of a dead content are being removed."""

    LIVE = 1
    DEAD = 2


class Stored(NamedTuple):
    """One content in the store. `octets` is None unless the content is in the database and was loaded with octets."""

    content_id: int
    size_octets: int
    place: Location
    file_name: str | None
    structure: bytes  # parts.encode
    octets: bytes | None = None

    @classmethod
    def of(cls, row: Sequence[Any]) -> Stored:
        """From a row of the columns `STORED`, with or without octets."""
        content_id, size_octets, place, *others = row
        return cls(content_id, size_octets, _LOCATIONS[place], *others)


class NewContent(NamedTuple):
    """A content about to be inserted: `octets` for the database, or the name of a file that is durable already."""

    size_octets: int
    digest: bytes  # SHA-256
    structure: bytes
    octets: bytes | None
    file_name: str | None


_LOCATIONS = {location.value: location for location in Location}
STORED: Final = (
    content.c.content_id,
    content.c.size_octets,
    content.c.place,
    content.c.file_name,
    content.c.structure,
    content_octets.c.octets,
)


class Loaded(Enum):
    """The part of their contents that a statement on messages loads."""

    NOTHING = "nothing"
    STORED = "the columns of `Stored`"
    OCTETS = "the octets alone; None if they are in a file"


def with_octets(source: FromClause, content_id: ColumnElement[int] = content.c.content_id) -> FromClause:
    """The FROM clause, which has `content_id`, together with the octets in the database."""
    return source.outerjoin(content_octets, content_id == content_octets.c.content_id)


_wanted = JsonRows("ids")
_found = join_from(_wanted.rows, content, content.c.content_id == _wanted.item(0))
_rows = select(*STORED[:-1]).select_from(_found)
_rows_with_octets = select(*STORED).select_from(with_octets(_found))
_octets = select(content_octets.c.octets).where(content_octets.c.content_id == bindparam("id"))
_insert_octets = insert(content_octets)
_state = select(content.c.state).where(content.c.content_id == bindparam("id")).with_for_update()


def insert_many(tx: Connection, new: Sequence[NewContent], now: int) -> list[int]:
    """Insert contents; returns their ids in order."""
    if not new:
        return []
    rows = [
        {
            "digest": item.digest,
            "size_octets": item.size_octets,
            "place": Location.FILE if item.octets is None else Location.DATABASE,
            "file_name": item.file_name,
            "state": ContentState.LIVE,
            "structure": item.structure,
            "created_at": now,
        }
        for item in new
    ]
    ids = insert_numbered(tx, content.c.content_id, rows)
    small = [
        {"content_id": content_id, "octets": item.octets}
        for content_id, item in zip(ids, new, strict=True)
        if item.octets is not None
    ]
    prepared.run_many(tx, _insert_octets, small)
    return ids


def pin(tx: Connection, content_id: int, pin_id: int, expires_at: int) -> None:
    """Keep a content that nothing names, until `expires_at` (microseconds)."""
    tx.execute(insert(content_pin).values(content_id=content_id, pin_id=pin_id, expires_at=expires_at))


def unpin(tx: Connection, content_id: int, pin_id: int) -> None:
    """Remove a pin."""
    tx.execute(delete(content_pin).where(content_pin.c.content_id == content_id, content_pin.c.pin_id == pin_id))


def require_live(tx: Connection, content_id: int) -> None:
    """Lock a content that is about to be named, and check that it is live.

    Raises StoreBusy when it is not: its last holder has just been removed, and the client must send the octets again.
    """
    row = prepared.first(tx, _state, {"id": content_id})
    if row is None or row[0] != ContentState.LIVE:
        raise StoreBusy("The upload lapsed before the message was stored; upload it again.")


def load(tx: Connection, content_ids: Iterable[int], *, octets: bool = False) -> dict[int, Stored]:
    """Contents by id; with `octets`, those in the database have their octets."""
    statement = _rows_with_octets if octets else _rows
    found: dict[int, Stored] = {}
    ids = iter(dict.fromkeys(content_ids))
    while some := list(islice(ids, AT_ONCE)):
        for row in prepared.rows(tx, statement, {"ids": encode_rows((content_id,) for content_id in some)}):
            found[row[0]] = Stored.of(row)
    return found


def read_range(tx: Connection, directory: Path, stored: Stored, offset: int, length: int) -> bytes:
    """Octets of a content, fewer than `length` only at its end.

    Raises FileNotFoundError when its file is gone, and OSError when the file is shorter than its row says, so that no
    reader takes a truncated message for the whole message.
    """
    if length <= 0 or offset >= stored.size_octets:
        return b""
    if stored.place is Location.DATABASE:
        whole = stored.octets
        if whole is None:
            (whole,) = prepared.rows(tx, _octets, {"id": stored.content_id})[0]
        return bytes(whole[offset : offset + length])
    with open(directory / str(stored.file_name), "rb", buffering=0) as file:
        wanted = min(length, stored.size_octets - offset)
        octets = os.pread(file.fileno(), wanted, offset)
    if len(octets) < wanted:
        raise OSError(errno.EIO, f"content {stored.content_id} is shorter than its row says")
    return octets


class Wanted(NamedTuple):
    """A section of a message and a range within the section."""

    path: tuple[int, ...] = ()
    kind: Kind = Kind.WHOLE
    fields: tuple[str, ...] = ()  # with Kind.HEADER: only these fields, or all but these
    exclude: bool = False
    offset: int = 0
    length: int | None = None
    decoding: Decoding = Decoding.NONE  # with Kind.WHOLE and a path; `store.decoded` reads such a section


class Cut(NamedTuple):
    """The beginning of a range. `total` is the length of the whole range, -1 when the message has no such part."""

    octets: bytes
    total: int


MISSING = Cut(b"", -1)

Reader = Callable[[bytes, bytes, bytes], bytes]
"""Makes a section of a message's head, the octets of its content, and the stored form of its parts."""


def reader(wanted: Wanted) -> Reader | None:
    """The Reader of a whole section of the message itself, as stored; None for any other, which `cut` reads."""
    if wanted.path or wanted.offset or wanted.length is not None or wanted.decoding is not Decoding.NONE:
        return None
    if wanted.fields or wanted.exclude:
        names, exclude = wanted.fields, wanted.exclude
        return lambda head, octets, structure: header_fields(_header(head, octets, structure), names, exclude)
    return _READERS.get(wanted.kind)


def _whole(head: bytes, octets: bytes, _structure: bytes) -> bytes:
    return head + octets if head else octets


def _header(head: bytes, octets: bytes, structure: bytes) -> bytes:
    start, body_start, _ = root_offsets(structure)
    header = octets[start:body_start]
    return head + header if head else header


def _text(_head: bytes, octets: bytes, structure: bytes) -> bytes:
    _, body_start, body_end = root_offsets(structure)
    return octets[body_start:body_end]


def need_structure(sections: Iterable[Wanted]) -> bool:
    """Whether any Reader of these sections looks at the parts, or `cut` has to read one."""
    return any(reader(wanted) is not _whole for wanted in sections)


_READERS: Final[dict[Kind, Reader]] = {Kind.WHOLE: _whole, Kind.HEADER: _header, Kind.TEXT: _text}


def cut(tx: Connection, directory: Path, stored: Stored, head: bytes, wanted: Wanted, limit: int) -> Cut:
    """At most `limit` octets of the wanted range as stored, for the message that is `head` and the content."""
    if wanted.fields or wanted.exclude:
        header = cut(tx, directory, stored, head, Wanted(wanted.path, wanted.kind), stored.size_octets + len(head))
        if header.total < 0:
            return MISSING
        chosen = header_fields(header.octets, wanted.fields, wanted.exclude)
        whole = chosen[wanted.offset : None if wanted.length is None else wanted.offset + wanted.length]
        return Cut(whole[:limit], len(whole))
    if not wanted.path and wanted.kind is Kind.WHOLE:  # needs no part tree
        start, length = 0, stored.size_octets
    else:
        found = stored_section(stored.structure, wanted.path, wanted.kind)
        if found is None:
            return MISSING
        start, length = found
    if not begins_with_head(wanted.path, wanted.kind):
        head = b""
    total = max(0, len(head) + length - wanted.offset)
    if wanted.length is not None:
        total = min(total, wanted.length)
    octets = head[wanted.offset : wanted.offset + min(total, limit)]
    if rest := min(total, limit) - len(octets):
        start += max(0, wanted.offset - len(head))
        octets += read_range(tx, directory, stored, start, rest)
    return Cut(octets, total)


def mark_dead(tx: Connection, content_ids: Sequence[int]) -> None:
    """Mark contents dead, so that no message can name them, before their files are removed; remove their other rows."""
    tx.execute(update(content).where(content.c.content_id.in_(content_ids)).values(state=ContentState.DEAD))
    tx.execute(delete(content_octets).where(content_octets.c.content_id.in_(content_ids)))
    home = select(content.c.listed_in, content.c.content_id).where(content.c.content_id.in_(content_ids))
    listings = delete(listing).where(tuple_(listing.c.mailbox_id, listing.c.content_id).in_(home))
    tx.execute(listings.execution_options(across_mailboxes=True))  # each lies under the mailbox of a first message


def remove(tx: Connection, content_ids: Sequence[int]) -> None:
    """Remove the rows of dead contents whose octets are gone."""
    tx.execute(delete(content).where(content.c.content_id.in_(content_ids), content.c.state == ContentState.DEAD))
