"""Finding messages: the rows tell what they can, the rest is looked up inside the messages, a bounded step at a time.

A step is one short read. Who searches goes on behind the key that a step ended at, so no snapshot is held over a long
scan; large contents, which lie in files, are looked into after the snapshot (`Large.matches`).
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, FromClause, and_, collate, func, or_, select

from restante_server.db.schema import listing, message
from restante_server.store import contents
from restante_server.store.conditions import Bounds, Conditions, Truth
from restante_server.store.contents import Place, Stored
from restante_server.store.examine import Examined
from restante_server.store.restriction import Restriction
from restante_server.store.rows import fetch
from restante_server.store.runs import join_from

CANDIDATES: Final = 2_048  # rows of one step that are looked into
STEP_OCTETS: Final = 8 << 20  # of contents looked into in one step
BATCH: Final = 128  # contents in memory at a time

Key = tuple[int | str, ...]


class By(NamedTuple):
    """One key of an order."""

    column: ColumnElement[Any]
    descending: bool = False


BY_UID: Final = (By(message.c.uid),)  # unique within a folder
SORTED_BY: Final[dict[str, ColumnElement[Any]]] = {
    "received_at": message.c.received_at,
    "sent_at": func.coalesce(listing.c.sent_at, message.c.received_at),
    "size_octets": message.c.size_octets,
    "subject": listing.c.sort_subject_key,
    "from": listing.c.sort_from_key,
    "uid": message.c.uid,
}
_OF_LISTING: Final = frozenset(("sent_at", "subject", "from"))
_TEXTS: Final = frozenset(("subject", "from"))


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for, where (`folder_id` None: the whole mailbox), and in which order."""

    mailbox_id: int
    folder_id: int | None
    restriction: Restriction
    sort: tuple[tuple[str, bool], ...] = ()  # (name in SORTED_BY, descending); ties by UID, then message id


@dataclass(frozen=True, slots=True)
class Large:
    """A message that matches if a look into its file says so."""

    row: Sequence[Any]  # truth columns
    truth: Truth
    head: bytes
    structure: bytes
    path: Path

    def matches(self) -> bool:
        """Reads the file, so off the event loop. False when the message has gone, file and all."""
        try:
            with open(self.path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                return self.truth(self.row, Examined(self.head, mapped, self.structure).holds)
        except FileNotFoundError:
            return False


@dataclass(slots=True)
class Step:
    """What one read found, in order: rows as the driver made them, since a search may find all of a folder.

    A hit holds `width` columns of its key, then message id and change number. Those in `large`, by position, are still
    to be confirmed.
    """

    width: int
    hits: list[Sequence[Any]] = field(default_factory=list)
    large: dict[int, Large] = field(default_factory=dict)
    after: Key | None = None  # where the next step begins; None: all has been seen

    def key(self, hit: Sequence[Any]) -> Key:
        """Where in the order a hit stands."""
        return tuple(hit[: self.width])


def uids(tx: Connection, directory: Path, query: Query, after: Key | None) -> Step:
    """The next step of a search of one folder, in UID order."""
    return _step(tx, directory, query, BY_UID, after, None)


def page(tx: Connection, directory: Path, query: Query, after: Key | None, most: int) -> Step:
    """The next step of a query, in its order; at most `most` hits."""
    return _step(tx, directory, query, _order(tx, query), after, most)


def _order(tx: Connection, query: Query) -> tuple[By, ...]:
    """Keys that leave no ties. Texts go by code point on every database."""
    keys: list[By] = []
    for name, descending in query.sort:
        column = SORTED_BY[name]
        if name in _TEXTS and tx.dialect.name == "postgresql":
            column = collate(column, "C")
        keys.append(By(column, descending))
    return (*keys, By(message.c.uid), By(message.c.message_id))


def _step(
    tx: Connection, directory: Path, query: Query, order: tuple[By, ...], after: Key | None, most: int | None
) -> Step:
    made = Conditions(tx, query.mailbox_id)
    bounds = made.compile(query.restriction)
    needs_listing = made.needs_listing or any(name in _OF_LISTING for name, _ in query.sort)
    columns: list[ColumnElement[Any]] = [*(by.column for by in order), message.c.message_id, message.c.change_number]
    limit = most
    if not bounds.exact:
        columns += [bounds.lower, message.c.content_id, message.c.head, *made.columns]
        limit = CANDIDATES
    statement = (
        select(*columns)
        .select_from(_source(needs_listing))
        .where(*_place(query), bounds.upper, *([_behind(order, after)] if after is not None else []))
        .order_by(*(by.column.desc() if by.descending else by.column for by in order))
        .limit(limit)
    )
    rows = fetch(tx.execute(statement, made.parameters))
    width = len(order)
    if not bounds.exact:
        return _look_inside(tx, directory, rows, width, bounds, most)
    step = Step(width, list(rows))
    if limit is not None and len(rows) == limit:
        step.after = step.key(rows[-1])
    return step


def _source(needs_listing: bool) -> FromClause:
    if not needs_listing:
        return message
    same = and_(listing.c.mailbox_id == message.c.mailbox_id, listing.c.message_id == message.c.message_id)
    return join_from(message, listing, same)


def _place(query: Query) -> list[ColumnElement[bool]]:
    place = message.c.folder_id.is_not(None) if query.folder_id is None else message.c.folder_id == query.folder_id
    return [message.c.mailbox_id == query.mailbox_id, place]


def _behind(order: tuple[By, ...], key: Key) -> ColumnElement[bool]:
    """The rows that come after this key: greater in its first column, or equal there and greater in the next..."""
    alternatives: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for by, value in zip(order, key, strict=True):
        further = by.column < value if by.descending else by.column > value
        alternatives.append(and_(*equal, further))
        equal.append(by.column == value)
    return or_(*alternatives)


def _look_inside(
    tx: Connection, directory: Path, rows: Sequence[Sequence[Any]], width: int, bounds: Bounds, most: int | None
) -> Step:
    """Which candidates match; ends early when it has enough, or has looked through enough."""
    truth = bounds.truth
    assert truth is not None
    step, octets = Step(width), 0
    sure, content, head, first_column = width + 2, width + 3, width + 4, width + 5
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        loaded = contents.load(tx, [row[content] for row in some if not row[sure]], octets=True)
        for row in some:
            if not row[sure]:
                stored = loaded.get(row[content])
                octets += stored.size_octets if stored is not None and stored.place is Place.DATABASE else 0
                found = _judge(directory, stored, row[head], row[first_column:], truth)
                if found is False:
                    continue
                if found is not True:
                    step.large[len(step.hits)] = found
            step.hits.append(row)
            if most is not None and len(step.hits) >= most:
                step.after = step.key(row)
                return step
        if octets >= STEP_OCTETS and start + BATCH < len(rows):
            step.after = step.key(some[-1])
            return step
    step.after = step.key(rows[-1]) if len(rows) == CANDIDATES else None
    return step


def _judge(directory: Path, stored: Stored | None, head: bytes, row: Sequence[Any], truth: Truth) -> bool | Large:
    if stored is None:
        return False
    if stored.place is Place.FILE:
        return Large(row, truth, bytes(head), bytes(stored.structure), directory / str(stored.file_name))
    return truth(row, Examined(bytes(head), bytes(stored.octets or b""), stored.structure).holds)
