"""Batches of messages in columns, with sections of their octets, for BatchGetMessages and StreamMessages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection

from restante.errors import InvalidArgument, TooComplex
from restante.v1 import message_pb2 as v1
from restante.v1.types_pb2 import MessageSummary
from restante_mail.mime.sections import Kind
from restante_server.api.services import convert
from restante_server.directory.rights import Claim, Place
from restante_server.store import contents, messages, rows
from restante_server.store.contents import Cut, Wanted
from restante_server.store.selection import Selection

MOST_SECTIONS: Final = 32
BATCH_OCTETS: Final = 192 << 10  # estimated octets of a batch, so that the response stays below 256 KiB
ROWS_AT_ONCE: Final = 512  # with listing columns
PLAIN_ROWS_AT_ONCE: Final = 4_096  # with numbers alone
SECTION_ROWS_AT_ONCE: Final = 128
HEADER_OCTETS: Final = 4 << 10  # estimate for a usual header
PLAIN_OCTETS: Final = 48  # of a row with all its numbers

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
        return cls(claim, selection, names, tuple(map(convert.wanted, sections)), changed_since)

    @property
    def rows_at_once(self) -> int:
        """The number of messages for one read."""
        if self.sections:
            return SECTION_ROWS_AT_ONCE
        return PLAIN_ROWS_AT_ONCE if rows.OF_LISTING.isdisjoint(self.names) else ROWS_AT_ONCE


@dataclass(frozen=True, slots=True)
class Rest:
    """The missing octets of a cell that was cut, which belongs to the last message of a batch."""

    message_id: int
    section: int  # position in the request
    done: int  # octets of the cell that were sent
    total: int


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch, the key after which the next begins (None at the end), and the cells that were cut."""

    rows: v1.MessageRows
    count: int
    after: int | None
    rests: list[Rest] = field(default_factory=list)


def next_batch(tx: Connection, directory: Path, ask: Ask, after: int) -> Batch:
    """As `read_batch`, for a read of its own: it decides the rights first. Raises as rights.decide."""
    return read_batch(tx, ask.claim.place(tx), directory, ask, after)


def read_batch(tx: Connection, place: Place, directory: Path, ask: Ask, after: int) -> Batch:
    """The next batch of messages with keys above `after`. It may be empty before the end."""
    stored = frozenset(("content_id", "head", "size_octets")) if ask.sections else frozenset[str]()
    page = rows.page(
        tx,
        place,
        ask.selection,
        ask.names | stored,
        after=after,
        most=ask.rows_at_once,
        changed_since=ask.changed_since,
    )
    count = _fitting(page.columns, ask, len(page))
    columns = page.columns if count == len(page) else {name: cells[:count] for name, cells in page.columns.items()}
    end = page.after
    if count < len(page):
        end = columns["uid" if ask.selection.folder_id is not None else "message_id"][-1]
    if not ask.sections:
        return Batch(message_rows(columns, ask.names), count, end)
    cells, rests = _sections(tx, directory, ask.sections, columns)
    if len(cells[0]) < count:  # the estimate was too low
        count = len(cells[0])
        end = columns["uid" if ask.selection.folder_id is not None else "message_id"][count - 1] if count else end
        columns = {name: values[:count] for name, values in columns.items()}
    made = message_rows(columns, ask.names)
    for column in cells:
        made.sections.add(octets=[cell.octets for cell in column], total_octets=[cell.total for cell in column])
    return Batch(made, count, end, rests)


def read_rest(tx: Connection, directory: Path, ask: Ask, rest: Rest, limit: int) -> bytes:
    """The next octets of a cell, also of a message that was removed meanwhile.

    Raises as rights.decide, and MessageNotFound once the message's rows are erased.
    """
    place = ask.claim.at(0).place(tx)
    content_id, head = messages.content_of(tx, place, rest.message_id, removed=True)
    wanted = ask.sections[rest.section]
    following = wanted._replace(offset=wanted.offset + rest.done, length=rest.total - rest.done)
    stored = contents.load(tx, [content_id])[content_id]
    return contents.cut(tx, directory, stored, head, following, limit).octets


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


def _fitting(columns: dict[str, list[Any]], ask: Ask, count: int) -> int:
    """The number of messages that fit one batch, at least one."""
    sized = [columns[name] for name in _SIZED if name in ask.names]
    if not sized and not ask.sections:
        return min(count, BATCH_OCTETS // PLAIN_OCTETS)
    expected = [_expectation(wanted) for wanted in ask.sections]
    sizes = columns["size_octets"] if expected else ()
    octets = 0
    for at in range(count):
        octets += PLAIN_OCTETS + sum(len(cells[at]) for cells in sized)
        octets += sum(expect(sizes[at]) for expect in expected)
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


def _sections(
    tx: Connection, directory: Path, sections: Sequence[Wanted], columns: dict[str, list[Any]]
) -> tuple[list[list[Cut]], list[Rest]]:
    """A column of cells for each section, for as many messages as fit, and the missing octets of the last message."""
    found = contents.load(tx, columns["content_id"], octets=True)
    cells: list[list[Cut]] = [[] for _ in sections]
    rests: list[Rest] = []
    room = BATCH_OCTETS
    for message_id, content_id, head in zip(columns["message_id"], columns["content_id"], columns["head"], strict=True):
        for at, wanted in enumerate(sections):
            cell = contents.cut(tx, directory, found[content_id], bytes(head), wanted, max(room, 0))
            cells[at].append(cell)
            room -= len(cell.octets)
            if len(cell.octets) < cell.total:
                rests.append(Rest(message_id, at, len(cell.octets), cell.total))
        if rests or room <= 0:
            break
    return cells, rests
