"""Batches of messages in columns, with sections of their octets, for BatchGetMessages and StreamMessages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from restante.errors import InvalidArgument, TooComplex
from restante.v1 import message_pb2 as v1
from restante.v1.types_pb2 import MessageSummary
from restante_mail.mime.decoders import Decoding
from restante_mail.mime.sections import Kind
from restante_server.api.services import convert, part_trees
from restante_server.directory.rights import Claim, Place
from restante_server.store import contents, decoded, rows
from restante_server.store.contents import Cut, Stored, Wanted
from restante_server.store.selection import Selection

MOST_SECTIONS: Final = 32
SHORT_CELLS: Final = 16  # messages, times sections: what the event loop reads itself
BATCH_OCTETS: Final = 192 << 10  # estimated octets of a batch, so that the response stays below 256 KiB
ROWS_AT_ONCE: Final = 512  # with listing columns
PLAIN_ROWS_AT_ONCE: Final = 4_096  # with numbers alone
SECTION_ROWS_AT_ONCE: Final = 128
HEADER_OCTETS: Final = 4 << 10  # estimate for a usual header
PLAIN_OCTETS: Final = 48  # of a row with all its numbers
DECODED_OCTETS: Final = 2 << 20  # encoded octets that are decoded for one batch
UNKNOWN: Final = Cut(b"", 0)  # a cell whose total is to be filled in

_COLUMNS: Final[dict[int, tuple[str, ...]]] = {
    v1.MESSAGE_COLUMN_FLAGS: ("flags", "keywords"),
    v1.MESSAGE_COLUMN_CHANGE_NUMBER: ("change_number",),
    v1.MESSAGE_COLUMN_RECEIVED_AT: ("received_at", "received_offset_minutes"),
    v1.MESSAGE_COLUMN_SIZE: ("size_octets",),
    v1.MESSAGE_COLUMN_ENVELOPE: ("envelope",),
    v1.MESSAGE_COLUMN_BODY_STRUCTURE: ("body_structure",),
    v1.MESSAGE_COLUMN_BODY: ("body",),
    v1.MESSAGE_COLUMN_SUMMARY: ("summary",),
    v1.MESSAGE_COLUMN_PREVIEW: ("preview", "attachment_count"),
    v1.MESSAGE_COLUMN_FOLDER: ("folder_id",),
    v1.MESSAGE_COLUMN_PARTS: ("parts",),
}
_SIZED: Final = ("envelope", "body_structure", "body", "summary", "preview")
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
    names: frozenset[str]  # wanted columns
    sections: tuple[Wanted, ...]
    changed_since: int | None

    @classmethod
    def of(
        cls,
        claim: Claim,
        selection: Selection,
        columns: Sequence[int],
        sections: Sequence[v1.Section],
        changed_since: int | None = None,
    ) -> Ask:
        """The Ask of a request's fields. Raises InvalidArgument, TooComplex."""
        if len(sections) > MOST_SECTIONS:
            raise TooComplex(limit=MOST_SECTIONS, value=len(sections))
        if any(column not in _COLUMNS for column in columns):
            raise InvalidArgument(field="columns", problem="must be MessageColumn values other than UNSPECIFIED")
        names = frozenset(name for column in columns for name in _COLUMNS[column])
        wanted = (convert.wanted(section, f"sections[{at}]") for at, section in enumerate(sections))
        return cls(claim, selection, names, tuple(wanted), changed_since)

    def among(self, selection: Selection) -> Ask:
        """The same columns of other messages of the mailbox."""
        return replace(self, claim=self.claim.at(selection.folder_id or 0), selection=selection)

    @property
    def is_short(self) -> bool:
        """Whether reading takes few rows, by index, and no decoding."""
        return (
            len(self.selection.ids) * max(1, len(self.sections)) <= SHORT_CELLS
            and "parts" not in self.names
            and all(wanted.decoding is Decoding.NONE for wanted in self.sections)
        )

    @property
    def stored_names(self) -> frozenset[str]:
        """The columns to read from the store."""
        if self.sections:
            return self.names - {"parts"} | {"content_id", "head", "size_octets"}
        return self.names - {"parts"} | {"content_id"} if "parts" in self.names else self.names

    @property
    def rows_at_once(self) -> int:
        """The number of messages for one read."""
        if self.sections or "parts" in self.names:
            return SECTION_ROWS_AT_ONCE
        return PLAIN_ROWS_AT_ONCE if rows.OF_LISTING.isdisjoint(self.names) else ROWS_AT_ONCE


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

    rows: v1.MessageRows
    count: int
    after: int | None
    rests: list[Rest] = field(default_factory=list)
    decoded_octets: int = 0  # encoded octets that were decoded for its sections


def next_batch(tx: Connection, directory: Path, ask: Ask, after: int) -> Batch:
    """As `read_batch`, for a read of its own: it decides the rights first. Raises as rights.decide."""
    return read_batch(tx, ask.claim.place(tx), directory, ask, after)


def read_batch(tx: Connection, place: Place, directory: Path, ask: Ask, after: int) -> Batch:
    """The next batch of messages with keys above `after`. It may be empty before the end."""
    page = rows.page(
        tx,
        place,
        ask.selection,
        ask.stored_names,
        after=after,
        most=ask.rows_at_once,
        changed_since=ask.changed_since,
    )
    columns, end = page.columns, page.after
    count = _fitting(tx, directory, columns, ask, len(page))
    if count < len(page):
        columns = {name: cells[:count] for name, cells in columns.items()}
        end = columns["uid" if ask.selection.folder_id is not None else "message_id"][-1]
    if not ask.sections:
        return Batch(message_rows(columns, ask.names), count, end)
    read = _Cells(tx, directory, ask.sections)
    read.read(columns)
    cells = read.columns
    if len(cells[0]) < count:  # the estimate was too low
        count = len(cells[0])
        end = columns["uid" if ask.selection.folder_id is not None else "message_id"][count - 1] if count else end
        columns = {name: values[:count] for name, values in columns.items()}
    made = message_rows(columns, ask.names)
    for column in cells:
        made.sections.add(octets=[cell.octets for cell in column], total_octets=[cell.total for cell in column])
    return Batch(made, count, end, read.rests, read.decoded_octets)


def message_rows(columns: dict[str, list[Any]], names: Iterable[str]) -> v1.MessageRows:
    """The contract's MessageRows of columns of the store: `names`, message ids and UIDs."""
    given: dict[str, Any] = {}
    for name in ("message_id", "uid", *names):
        cells = columns[name]
        if name == "keywords":
            given["keyword_sets"], given["keyword_table"] = convert.keyword_columns(cells)
        elif name == "received_at":
            given["received_at_seconds"] = [moment // 1_000_000 for moment in cells]
        elif name == "summary":
            given["summaries"] = map(MessageSummary.FromString, cells)
        elif name in ("uid", "folder_id"):
            given[_FIELDS[name]] = cells if None not in cells else [number or 0 for number in cells]
        else:
            given[_FIELDS[name]] = cells
    return v1.MessageRows(**given)


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


def _fitting(tx: Connection, directory: Path, columns: dict[str, list[Any]], ask: Ask, count: int) -> int:
    """The number of messages that fit one batch, at least one. Adds the column of part trees if it is wanted."""
    sized = [columns[name] for name in _SIZED if name in ask.names]
    made: list[v1.MessagePart] = []
    trees = part_trees.trees(tx, directory, columns["content_id"]) if "parts" in ask.names else None
    if trees is not None:
        columns["parts"] = made
    elif not sized and not ask.sections:
        return min(count, BATCH_OCTETS // PLAIN_OCTETS)
    expected = [_expectation(wanted) for wanted in ask.sections]
    sizes = columns["size_octets"] if expected else ()
    octets = 0
    for at in range(count):
        octets += PLAIN_OCTETS + sum(len(cells[at]) for cells in sized)
        octets += sum(expect(sizes[at]) for expect in expected)
        if trees is not None:
            made.append(next(trees))
            octets += made[at].ByteSize()
        if octets > BATCH_OCTETS and at:
            return at
    return count


def _expectation(wanted: Wanted) -> Callable[[int], int]:
    """The estimated octets of a section, as a function of the message's size."""
    whole = wanted.kind in (Kind.WHOLE, Kind.TEXT)
    most = (1 << 62) if whole else HEADER_OCTETS
    if wanted.length is not None:
        most = min(most, wanted.length)
    return lambda size: min(size, most)


class _Cells:
    """Reads the cells of the sections, a column for each, for as many messages as fit into a batch."""

    def __init__(self, tx: Connection, directory: Path, sections: Sequence[Wanted]) -> None:
        self._tx, self._directory, self._sections = tx, directory, sections
        self.columns: list[list[Cut]] = [[] for _ in sections]
        self.rests: list[Rest] = []  # the missing octets of the last message
        self.decoded_octets = 0

    def read(self, columns: dict[str, list[Any]]) -> None:
        """Read the cells of these messages, up to the first one that does not fit whole."""
        tx, directory, room = self._tx, self._directory, BATCH_OCTETS
        found = contents.load(tx, columns["content_id"], octets=True)
        wanted = [(at, wanted, wanted.decoding is Decoding.NONE) for at, wanted in enumerate(self._sections)]
        ids = zip(columns["message_id"], columns["content_id"], columns["head"], strict=True)
        for message_id, content_id, head in ids:
            stored = found[content_id]
            for at, section, as_stored in wanted:
                if as_stored:
                    cell: Cut | None = contents.cut(tx, directory, stored, bytes(head), section, max(room, 0))
                else:
                    cell = self._decoded(stored, section, max(room, 0))
                if cell is None:
                    self.columns[at].append(UNKNOWN)
                    self.rests.append(Rest(message_id, at, 0, None))
                    continue
                self.columns[at].append(cell)
                octets = len(cell.octets)
                room -= octets
                if octets < cell.total:
                    self.rests.append(Rest(message_id, at, octets, cell.total))
            if self.rests or room <= 0 or self.decoded_octets >= DECODED_OCTETS:
                return

    def _decoded(self, stored: Stored, wanted: Wanted, room: int) -> Cut | None:
        """The beginning of a decoded cell; None if its length takes reading more than the batch may."""
        budget = min(decoded.AT_ONCE_OCTETS, max(DECODED_OCTETS - self.decoded_octets, 0))
        cell, read = decoded.beginning(self._tx, self._directory, stored, wanted, room, budget)
        self.decoded_octets += read
        return cell
