"""Searching messages in bounded steps: first by their rows, then inside the messages where the rows do not decide.

A step is one short read. It returns the messages that match by their rows and the candidates that must be examined.
The examination (`Step.confirm`) comes after the snapshot, on a worker thread. The next step continues behind the key
at which the last one ended, so no snapshot stays open during a long scan.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from sqlalchemy import ColumnElement, Connection, FromClause, and_, bindparam, collate, func, or_, select

from restante_server.db import prepared
from restante_server.db.schema import folder, listing, mailbox, message
from restante_server.directory.rights import Place
from restante_server.store import contents
from restante_server.store.conditions import Bounds, Conditions, Truth
from restante_server.store.contents import Location, Stored
from restante_server.store.examine import Examined
from restante_server.store.restriction import Restriction
from restante_server.store.rows import SHOWS, fetch
from restante_server.store.runs import join_from

CANDIDATES: Final = 1_024  # most rows of one step that has candidates to examine
STEP_OCTETS: Final = 4 << 20  # a step reads no further batch once it holds this many octets of contents
BATCH: Final = 64  # contents read at a time, each at most as large as the database keeps (64 KiB)

Key = tuple[int | str, ...]


class By(NamedTuple):
    """One sort key."""

    column: ColumnElement[Any]
    descending: bool = False


BY_UID: Final = (By(message.c.uid),)  # unique within a folder
BY_MESSAGE_ID: Final = (By(message.c.message_id),)  # unique within a mailbox
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
    """A restriction and the sort order. The place of a step is its scope."""

    restriction: Restriction
    sort: tuple[tuple[str, bool], ...] = ()  # (name in SORTED_BY, descending); ties by UID, then message id


class Watch(Protocol):
    """Decides whether `Step.confirm` continues. The worker thread calls it."""

    def check(self) -> None:
        """Raise when no caller waits for the result any more; called at every message and every piece of its text."""
        ...

    @property
    def over(self) -> bool:
        """Whether the step ends with this message and leaves the rest to the next step."""
        ...


@dataclass(slots=True)  # not frozen: one is made for each candidate, and frozen costs more than the rest of the work
class Look:
    """A candidate: a message that must be examined to decide whether it matches."""

    row: Sequence[Any]  # truth columns
    truth: Truth
    head: bytes
    structure: bytes
    content: bytes | Path  # its octets, or the file that has them

    def matches(self, check: Callable[[], None]) -> bool:
        """Examine the message; False when its file is gone. Reads files, so call it off the event loop."""
        check()
        if isinstance(self.content, bytes):
            return self.truth(self.row, Examined(self.head, self.content, self.structure, check).holds)
        try:
            with open(self.content, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                return self.truth(self.row, Examined(self.head, mapped, self.structure, check).holds)
        except FileNotFoundError:
            return False


@dataclass(slots=True)
class Step:
    """The hits of one read, in order, as the driver's rows, since a search may find all messages of a folder.

    A hit holds `width` columns of its key, then message id and change number. The hits at the positions in `looks` are
    candidates until `confirm`.
    """

    width: int
    hits: list[Sequence[Any]] = field(default_factory=list)
    looks: dict[int, Look] = field(default_factory=dict)
    after: Key | None = None  # the next step begins behind this key; None: the search is complete

    def confirm(self, watch: Watch, most: int | None = None) -> None:
        """Examine the candidates and drop those that do not match. Reads files, so call it off the event loop.

        Ends early after `most` hits, or after the candidate at which `watch.over` is true; `after` is then set to the
        key of that hit. Lets the exceptions of `watch.check` pass.
        """
        hits, self.hits = self.hits, []
        last = len(hits) - 1
        for position, hit in enumerate(hits):
            look = self.looks.get(position)
            if look is None or look.matches(watch.check):
                self.hits.append(hit)
            if position < last and (len(self.hits) == most or (look is not None and watch.over)):
                self.after = self.key(hit)
                break
        self.looks = {}

    def key(self, hit: Sequence[Any]) -> Key:
        """The sort key of a hit."""
        return tuple(hit[: self.width])


class Horizon(NamedTuple):
    """The state of a place in one snapshot. Later changes and arrivals are above it."""

    change_number: int
    next_key: int  # the next UID of the folder, or the next message id of the mailbox


def horizon(tx: Connection, place: Place) -> Horizon:
    """The horizon of this snapshot. The place exists."""
    where = {"mailbox": place.mailbox_id, "folder": place.folder_id}
    row = prepared.first(tx, _folder_horizon if place.folder_id else _mailbox_horizon, where)
    assert row is not None
    return Horizon(*row)


_folder_horizon = select(folder.c.change_number, folder.c.uid_next).where(
    folder.c.mailbox_id == bindparam("mailbox"), folder.c.folder_id == bindparam("folder")
)
_mailbox_horizon = select(mailbox.c.change_number, mailbox.c.next_message_id).where(
    mailbox.c.mailbox_id == bindparam("mailbox")
)


def matches(tx: Connection, place: Place, directory: Path, query: Query, after: Key | None) -> Step:
    """The next step of a search for all messages that match: of one folder by UID, of the mailbox by message id."""
    return _step(tx, place, directory, query, BY_UID if place.folder_id else BY_MESSAGE_ID, after, None)


def page(tx: Connection, place: Place, directory: Path, query: Query, after: Key | None, most: int) -> Step:
    """The next step of a query, in its order. Has at most `most` hits, unless it has candidates (`Step.confirm`)."""
    return _step(tx, place, directory, query, _order(tx, query), after, most)


def _order(tx: Connection, query: Query) -> tuple[By, ...]:
    """Sort keys that leave no ties. Texts sort by code point on every database."""
    keys: list[By] = []
    for name, descending in query.sort:
        column = SORTED_BY[name]
        if name in _TEXTS and tx.dialect.name == "postgresql":
            column = collate(column, "C")
        keys.append(By(column, descending))
    return (*keys, By(message.c.uid), By(message.c.message_id))


def _step(
    tx: Connection,
    place: Place,
    directory: Path,
    query: Query,
    order: tuple[By, ...],
    after: Key | None,
    most: int | None,
) -> Step:
    made = Conditions(tx, place)
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
        .where(*_scope(place), bounds.upper, *([_behind(order, after)] if after is not None else []))
        .order_by(*(by.column.desc() if by.descending else by.column for by in order))
        .limit(limit)
    )
    rows = fetch(tx.execute(statement, made.parameters))
    width = len(order)
    if not bounds.exact:
        return _to_look_into(tx, directory, rows, width, bounds)
    step = Step(width, list(rows))
    if limit is not None and len(rows) == limit:
        step.after = step.key(rows[-1])
    return step


def _source(needs_listing: bool) -> FromClause:
    if not needs_listing:
        return message
    return join_from(message, listing, SHOWS)


def _scope(place: Place) -> list[ColumnElement[bool]]:
    folder_id = message.c.folder_id
    within = folder_id == place.folder_id if place.folder_id else folder_id.is_not(None)
    return [message.c.mailbox_id == place.mailbox_id, within]


def _behind(order: tuple[By, ...], key: Key) -> ColumnElement[bool]:
    """The condition on rows behind this key, which compares its columns lexicographically."""
    alternatives: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for by, value in zip(order, key, strict=True):
        further = by.column < value if by.descending else by.column > value
        alternatives.append(and_(*equal, further))
        equal.append(by.column == value)
    return or_(*alternatives)


def _to_look_into(tx: Connection, directory: Path, rows: Sequence[Sequence[Any]], width: int, bounds: Bounds) -> Step:
    """The step of these rows, with the contents of its candidates; ends early at STEP_OCTETS."""
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
                if stored is None:
                    continue
                look = Look(
                    row[first_column:], truth, bytes(row[head]), bytes(stored.structure), _content(directory, stored)
                )
                octets += len(look.content) if isinstance(look.content, bytes) else 0
                step.looks[len(step.hits)] = look
            step.hits.append(row)
        if octets >= STEP_OCTETS and start + BATCH < len(rows):
            step.after = step.key(some[-1])
            return step
    step.after = step.key(rows[-1]) if len(rows) == CANDIDATES else None
    return step


def _content(directory: Path, stored: Stored) -> bytes | Path:
    if stored.place is Location.FILE:
        return directory / str(stored.file_name)
    return bytes(stored.octets or b"")
