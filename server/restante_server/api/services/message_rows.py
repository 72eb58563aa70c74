"""Batches of messages in columns, with sections of their octets, for BatchGetMessages and StreamMessages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from restante.v1 import message_pb2 as v1
from restante.v1.checks_pb2 import MessageChecks
from restante.v1.types_pb2 import MessageSummary
from restante_mail.mime.decoders import Decoding
from restante_server.api.services import convert, part_trees
from restante_server.api.services.message_shapes import SIZED, Shape
from restante_server.db.prepared import Row
from restante_server.directory.rights import Claim, Place
from restante_server.store import contents, decoded, rows
from restante_server.store.contents import Cut, Loaded, Stored, Wanted
from restante_server.store.selection import Selection

SHORT_CELLS: Final = 16  # messages, times sections: what the event loop reads itself
BATCH_OCTETS: Final = 192 << 10  # estimated octets of a batch, so that the response stays below 256 KiB
ROWS_AT_ONCE: Final = 512  # with listing columns or sections
PLAIN_ROWS_AT_ONCE: Final = 4_096  # with numbers alone
FIRST_ROWS_AT_ONCE: Final = 128  # with sections, before a batch has shown how many fit
TREES_AT_ONCE: Final = 128
READ_OCTETS: Final = 1 << 20  # of contents that are read for the sections of one batch
PLAIN_OCTETS: Final = 48  # of a row with all its numbers
DECODED_OCTETS: Final = 2 << 20  # encoded octets that are decoded for one batch
UNKNOWN: Final = Cut(b"", 0)  # a cell whose total is to be filled in

# The field of MessageRows for each column of the store that needs no conversion.
_FIELDS: Final = {
    "message_id": "message_ids",
    "uid": "uids",
    "folder_id": "folder_ids",
    "flags": "flags",
    "change_number": "change_numbers",
    "received_offset_minutes": "received_offset_minutes",
    "size_octets": "size_octets",
    "envelope": "envelopes",
    "body_structure": "body_structures",
    "body": "bodies",
    "preview": "previews",
    "attachment_count": "attachment_counts",
    "parts": "parts",
}


@dataclass(frozen=True, slots=True)
class Ask:
    """The wanted messages, columns and sections of a request."""

    claim: Claim
    selection: Selection
    shape: Shape
    changed_since: int | None = None

    @property
    def sections(self) -> tuple[Wanted, ...]:
        """The wanted sections."""
        return self.shape.sections

    def among(self, selection: Selection) -> Ask:
        """The same columns of other messages of the mailbox."""
        return replace(self, claim=self.claim.at(selection.folder_id or 0), selection=selection)

    @property
    def is_short(self) -> bool:
        """Whether reading takes few rows, by index, and no decoding."""
        shape = self.shape
        return (
            len(self.selection.ids) * max(1, len(shape.sections)) <= SHORT_CELLS
            and "parts" not in shape.names
            and not shape.decodes
        )

    def rows_at_once(self, last_count: int | None = None) -> int:
        """The number of messages for one read, of which the batch before had `last_count`.

        With sections it is little more than fits, since PostgreSQL sends the contents of all of them.
        """
        names = self.shape.names
        if "parts" in names:
            return TREES_AT_ONCE
        if self.shape.sections:
            return min(ROWS_AT_ONCE, FIRST_ROWS_AT_ONCE if last_count is None else last_count + last_count // 4 + 16)
        return PLAIN_ROWS_AT_ONCE if rows.OF_LISTING.isdisjoint(names) else ROWS_AT_ONCE


@dataclass(frozen=True, slots=True)
class Rest:
    """The missing octets of a cell that was cut, which belongs to the last message of a batch."""

    message_id: int
    section: int  # position in the request
    done: int  # octets of the cell that were sent
    total: int | None  # None: a decoded section, whose length takes reading more


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, the key after which the next begins (None at the end), and the cells that were cut."""

    response: v1.StreamMessagesResponse  # has the rows, which would otherwise be copied into it
    count: int
    after: int | None
    rests: Sequence[Rest] = ()
    decoded_octets: int = 0  # encoded octets that were decoded for its sections

    @property
    def rows(self) -> v1.MessageRows:
        return self.response.rows


def next_batch(tx: Connection, directory: Path, ask: Ask, after: int, last_count: int | None = None) -> Batch:
    """As `read_batch`, for a read of its own: it decides the rights first. Raises as rights.decide."""
    return read_batch(tx, ask.claim.place(tx), directory, ask, after, last_count)


def read_batch(
    tx: Connection, place: Place, directory: Path, ask: Ask, after: int, last_count: int | None = None
) -> Batch:
    """The next batch of messages with keys above `after`. It may be empty before the end.

    `last_count` is the number of messages in the batch before.
    """
    shape = ask.shape
    cells = _Cells(tx, directory, shape) if shape.sections else None
    page = rows.page(
        tx,
        place,
        ask.selection,
        shape.stored_names,
        after=after,
        most=ask.rows_at_once(last_count),
        changed_since=ask.changed_since,
        take=cells.take if cells else None,
        loaded=shape.loaded,
    )
    columns, end = page.columns, page.after
    count = _fitting(tx, directory, columns, shape.names, len(page))
    if count < len(page):
        columns = {name: values[:count] for name, values in columns.items()}
        end = columns["uid" if ask.selection.folder_id is not None else "message_id"][-1]
    response = v1.StreamMessagesResponse()
    fill(response.rows, columns, shape.names)
    if cells is None:
        return Batch(response, count, end)
    for octets, totals in cells.columns:
        response.rows.sections.add(octets=octets[:count], total_octets=totals[:count])
    return Batch(response, count, end, cells.rests if count == len(page) else (), cells.decoded_octets)


def message_rows(columns: dict[str, list[Any]], names: Iterable[str]) -> v1.MessageRows:
    """The contract's MessageRows of columns of the store: `names`, message ids and UIDs."""
    made = v1.MessageRows()
    fill(made, columns, names)
    return made


def fill(into: v1.MessageRows, columns: dict[str, list[Any]], names: Iterable[str]) -> None:
    """Fill an empty MessageRows with columns of the store: `names`, message ids and UIDs."""
    for name in ("message_id", "uid", *names):
        cells = columns[name]
        if name == "keywords":
            sets, table = convert.keyword_columns(cells)
            into.keyword_sets.extend(sets)
            into.keyword_table.extend(table)
        elif name == "received_at":
            into.received_at_seconds.extend([moment // 1_000_000 for moment in cells])
        elif name == "summary":
            into.summaries.extend(map(MessageSummary.FromString, cells))
        elif name == "checks":
            into.checks.extend(map(MessageChecks.FromString, cells))
        else:
            if name in ("uid", "folder_id") and None in cells:
                cells = [number or 0 for number in cells]
            getattr(into, _FIELDS[name]).extend(cells)


def extend(into: v1.MessageRows, more: v1.MessageRows) -> None:
    """Add the messages of another batch with the same columns."""
    if not into.message_ids:
        into.CopyFrom(more)
        return
    offset = len(into.keyword_table)
    into.keyword_sets.extend(position + offset for position in more.keyword_sets)
    for column, cells in zip(into.sections, more.sections, strict=True):
        column.MergeFrom(cells)
    rest = v1.MessageRows()
    rest.CopyFrom(more)
    rest.ClearField("keyword_sets")
    rest.ClearField("sections")
    into.MergeFrom(rest)


def _fitting(tx: Connection, directory: Path, columns: dict[str, list[Any]], names: frozenset[str], count: int) -> int:
    """The number of messages whose columns fit one batch, at least one. Adds the part trees if they are wanted."""
    sized = [columns[name] for name in SIZED if name in names]
    octets = PLAIN_OCTETS * count + sum(sum(map(len, cells)) for cells in sized)
    if "parts" not in names and octets <= BATCH_OCTETS:
        return count
    made: list[v1.MessagePart] = []
    trees = part_trees.trees(tx, directory, columns["content_id"]) if "parts" in names else None
    if trees is not None:
        columns["parts"] = made
    octets = 0
    for at in range(count):
        octets += PLAIN_OCTETS + sum(len(cells[at]) for cells in sized)
        if trees is not None:
            made.append(next(trees))
            octets += made[at].ByteSize()
        if octets > BATCH_OCTETS and at:
            return at
    return count


class _Cells:
    """Reads the cells of the sections, a column for each, for as many messages as fit into a batch.

    A message that does not fit whole is left to the next batch, but for the first one, whose cells are cut.
    """

    def __init__(self, tx: Connection, directory: Path, shape: Shape) -> None:
        self._tx, self._directory = tx, directory
        self._sections, self._readers, self._sized = shape.sections, shape.readers, shape.sized
        self._head, self._width = shape.order.index("head"), len(shape.order)
        self._content_id = shape.order.index("content_id") if shape.loaded is Loaded.OCTETS else None
        self._room, self._read_left = BATCH_OCTETS, READ_OCTETS
        self._count = 0
        self.columns: list[tuple[list[bytes], list[int]]] = [([], []) for _ in shape.sections]  # octets, totals
        self.rests: list[Rest] = []  # the missing octets of the last message
        self.decoded_octets = 0

    def take(self, row: Row) -> bool:
        """Read the cells of the next message; false if the batch ends before it."""
        room = self._room - PLAIN_OCTETS
        if self._sized:
            room -= sum([len(row[at]) for at in self._sized])
        if self._count and (room <= 0 or self._read_left <= 0 or self.rests or self.decoded_octets >= DECODED_OCTETS):
            return False
        cells: Sequence[tuple[bytes, int]] | None = None
        if at_once := self._readers is not None and row[-1] is not None:
            cells = self._whole(row, room)
        if cells is None and not (at_once and self._count):
            cells = self._cut(row, max(room, 0))
        if cells is None:
            return False
        for (octets, totals), (cell, total) in zip(self.columns, cells, strict=True):
            octets.append(cell)
            totals.append(total)
            room -= len(cell)
        self._room = room
        self._read_left -= len(row[-1] or b"")
        self._count += 1
        return True

    def _whole(self, row: Row, room: int) -> list[tuple[bytes, int]] | None:
        """The cells of a message in the database, if its own whole sections are wanted; None if they do not fit."""
        assert self._readers is not None
        head, octets = bytes(row[self._head]), bytes(row[-1])
        structure = bytes(row[-2]) if self._content_id is None else b""
        cells = []
        for reader in self._readers:
            cell = reader(head, octets, structure)
            cells.append((cell, len(cell)))
            room -= len(cell)
        return cells if room >= 0 else None

    def _cut(self, row: Row, room: int) -> list[Cut] | None:
        """The cells of any message. Those that do not fit are cut, but only if it is the first one of the batch."""
        stored, head = self._stored(row), bytes(row[self._head])
        cells: list[Cut] = []
        rests: list[Rest] = []
        for at, section in enumerate(self._sections):
            if section.decoding is Decoding.NONE:
                cell: Cut | None = contents.cut(self._tx, self._directory, stored, head, section, room)
            else:
                cell = self._decoded(stored, section, room)
            if cell is None:
                cell = UNKNOWN
                rests.append(Rest(row[0], at, 0, None))
            elif len(cell.octets) < cell.total:
                if self._count:
                    return None
                rests.append(Rest(row[0], at, len(cell.octets), cell.total))
            cells.append(cell)
            room = max(room - len(cell.octets), 0)
        self.rests = rests
        return cells

    def _stored(self, row: Row) -> Stored:
        if self._content_id is None:
            return Stored.of(row[self._width :])
        content_id = row[self._content_id]
        return contents.load(self._tx, [content_id])[content_id]._replace(octets=row[-1])

    def _decoded(self, stored: Stored, wanted: Wanted, room: int) -> Cut | None:
        """The beginning of a decoded cell; None if its length takes reading more than the batch may."""
        budget = min(decoded.AT_ONCE_OCTETS, max(DECODED_OCTETS - self.decoded_octets, 0))
        cell, read = decoded.beginning(self._tx, self._directory, stored, wanted, room, budget)
        self.decoded_octets += read
        return cell
