"""Change numbers, change events, and the changes since a change number (docs/design.md "Change numbers").

Every operation that changes a mailbox takes one number from the mailbox's counter, in its transaction. Messages and
folders keep the number of their last change; removals leave tombstones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, or_, select, update

from restante.errors import CursorInvalid, FolderNotFound, MailboxNotFound, ResultTooLarge
from restante_mail.idset import EMPTY, IdSet
from restante_server.db import prepared
from restante_server.db.effects import Topic, events, peek
from restante_server.db.schema import folder, mailbox, message, store, tombstone
from restante_server.directory.rights import Place
from restante_server.store.gathered import Gathered, columns
from restante_server.store.runs import JsonRows, encode_rows, join_from

MOST_CHANGED = 50_000  # messages in one FolderDelta
MOST_ANSWERED = 5_000  # messages in the changes that a response carries
MOST_NOTED = 256  # messages in a FolderDelta that the event carries to watchers
MOST_VANISHED = 50_000  # runs of removed UIDs in one FolderDelta: below 1 MiB in a response, and
MOST_VANISHED_OCTETS = 256 << 10  # of the packed removals that are read for it
REMOVALS_AT_ONCE = 256  # tombstones in one read, and
REMOVAL_OCTETS_AT_ONCE = 256 << 10  # of their packed sets: the read ends with the tombstone that reaches this
HIGHEST = (1 << 63) - 1  # of ids and change numbers
FolderKey = tuple[int, int]  # mailbox and folder


class Removal(IntEnum):
    """The reason why messages left a folder."""

    SOFT = 1  # deleted, recoverable
    HARD = 2  # removed permanently
    MOVED = 3  # to target_folder_id
    FOLDER = 4  # the folder was deleted with them


@dataclass(slots=True)
class Touched:
    """The changes of one operation to one mailbox."""

    change_number: int  # the highest
    folders: dict[int, int] = field(default_factory=dict)  # {folder: its highest change number}
    first: int = 0  # the lowest change number; all numbers between belong to the operation too
    answered: bool = False  # the response already carries the changes; other watchers may be informed later
    deltas: dict[int, FolderDelta] = field(default_factory=dict)  # complete changes of folders, where known


class Tombstone(NamedTuple):
    """One removal: messages that left one folder under one change number."""

    change_number: int
    folder_id: int
    kind: Removal
    target_folder_id: int  # 0 unless moved
    uids: IdSet
    message_ids: IdSet


class FolderDelta(NamedTuple):
    """The changes of a folder above the change number `since`, as columns with one entry a message, UIDs ascending."""

    folder_id: int
    since: int
    change_number: int
    uids: list[int]
    message_ids: list[int]
    flags: list[int]
    keywords: list[str]  # as in message.keywords: "" or " a b "
    change_numbers: list[int]
    vanished: IdSet  # UIDs that left the folder; may include messages that came after `since`
    uid_next: int
    recent_uid: int

    def then(self, later: FolderDelta) -> FolderDelta | None:
        """This delta and a later one merged; None when changes between them are in neither."""
        if later.since > self.change_number:
            return None
        cells = zip(self.uids, self.message_ids, self.flags, self.keywords, self.change_numbers, strict=True)
        rows = {row[0]: row for row in cells if row[0] not in later.vanished}
        cells = zip(later.uids, later.message_ids, later.flags, later.keywords, later.change_numbers, strict=True)
        rows.update((row[0], row) for row in cells)
        uids, message_ids, flags, keywords, numbers = _columns([rows[uid] for uid in sorted(rows)])
        return later._replace(
            since=min(self.since, later.since),
            uids=uids,
            message_ids=message_ids,
            flags=flags,
            keywords=keywords,
            change_numbers=numbers,
            vanished=self.vanished.union(later.vanished),
        )

    def pieces(self, most: int, keyword_octets: int) -> Iterator[FolderDelta]:
        """Split the delta into pieces of about `keyword_octets` of different keyword sets.

        A piece has at most `most` messages and runs of vanished UIDs. Yields at least one piece. Vanished UIDs come
        first.
        """
        runs = self.vanished.ranges()
        while len(runs) > most:
            yield self._piece(slice(0, 0), IdSet(runs[:most]))
            runs = runs[most:]
        room = most - len(runs)
        start = end = octets = 0
        known: set[str] = set()
        while True:
            while end < len(self.uids) and end - start < room and octets < keyword_octets:
                if (named := self.keywords[end]) not in known:
                    known.add(named)
                    octets += len(named)
                end += 1
            yield self._piece(slice(start, end), IdSet(runs))
            runs, room = (), most
            start, octets = end, 0
            known.clear()
            if end == len(self.uids):
                return

    def _piece(self, part: slice, vanished: IdSet) -> FolderDelta:
        return self._replace(
            uids=self.uids[part],
            message_ids=self.message_ids[part],
            flags=self.flags[part],
            keywords=self.keywords[part],
            change_numbers=self.change_numbers[part],
            vanished=vanished,
        )


class FolderState(NamedTuple):
    """The numbers of a folder that tell what has changed."""

    change_number: int
    uid_next: int
    recent_uid: int
    message_count: int
    history_from: int  # of the mailbox: all tombstones above this change number are kept


CHANGED: Topic[dict[int, Touched]] = Topic("mailbox changed", dict)
"""The event of a change: {mailbox id: the changes of one operation to it}."""


_next_number = (
    update(mailbox)
    .where(mailbox.c.mailbox_id == bindparam("mailbox"))
    .values(change_number=mailbox.c.change_number + 1)
    .returning(mailbox.c.change_number)
)
_folder_facts = (
    select(
        folder.c.change_number,
        folder.c.uid_next,
        folder.c.recent_uid,
        folder.c.message_count,
        mailbox.c.history_from,
    )
    .join_from(folder, mailbox, mailbox.c.mailbox_id == folder.c.mailbox_id)
    .where(folder.c.mailbox_id == bindparam("mailbox"), folder.c.folder_id == bindparam("folder"))
)
_changed_rows = (
    select(message.c.uid, message.c.message_id, message.c.flags, message.c.keywords, message.c.change_number)
    .where(
        message.c.mailbox_id == bindparam("mailbox"),
        message.c.folder_id == bindparam("folder"),
        message.c.change_number > bindparam("since"),
    )
    .order_by(message.c.uid)
    .limit(bindparam("most"))
    .subquery("changed")
)
_changed = select(*(Gathered(column) for column in _changed_rows.c))
_vanished = (
    select(tombstone.c.change_number, tombstone.c.uids)
    .where(
        tombstone.c.mailbox_id == bindparam("mailbox"),
        tombstone.c.change_number > bindparam("since"),
        tombstone.c.folder_id == bindparam("folder"),
    )
    .order_by(tombstone.c.change_number)
    .limit(bindparam("most"))
)
_tombstones = (
    select(
        tombstone.c.change_number,
        tombstone.c.folder_id,
        tombstone.c.kind,
        tombstone.c.target_folder_id,
        tombstone.c.uids,
        tombstone.c.message_ids,
    )
    .where(
        tombstone.c.mailbox_id == bindparam("mailbox"),
        tombstone.c.change_number.between(bindparam("number"), bindparam("until")),
        or_(tombstone.c.change_number > bindparam("number"), tombstone.c.folder_id > bindparam("after")),
    )
    .order_by(tombstone.c.change_number, tombstone.c.folder_id)
    .limit(bindparam("most"))
)
_tombstones_of_folder = _tombstones.where(tombstone.c.folder_id == bindparam("folder"))
_history_from = select(mailbox.c.history_from).where(mailbox.c.mailbox_id == bindparam("mailbox"))
_write_tombstones = insert(tombstone)
# Reads across mailboxes to find those that have work; changes none.
_old = (
    select(tombstone.c.mailbox_id)
    .where(tombstone.c.created_at < bindparam("before"))
    .distinct()
    .limit(bindparam("most"))
    .execution_options(across_mailboxes=True)
)
_newest_old = select(func.max(tombstone.c.change_number)).where(
    tombstone.c.mailbox_id == bindparam("mailbox"), tombstone.c.created_at < bindparam("before")
)
_forget = delete(tombstone).where(
    tombstone.c.mailbox_id == bindparam("mailbox"), tombstone.c.change_number <= bindparam("newest")
)
_raise_history = (
    update(mailbox)
    .where(mailbox.c.mailbox_id == bindparam("mailbox"), mailbox.c.history_from < bindparam("newest"))
    .values(history_from=bindparam("newest"))
)
_epoch = select(store.c.epoch)
_places = JsonRows("places")
_of_folders = select(folder.c.mailbox_id, folder.c.folder_id, folder.c.change_number).select_from(
    join_from(
        _places.rows,
        folder,
        and_(folder.c.mailbox_id == _places.item(0), folder.c.folder_id == _places.item(1)),
    )
)


def next_number(tx: Connection, place: Place) -> int:
    """Raise the mailbox's change number by one, return it, and add it to the CHANGED event.

    Raises MailboxNotFound.
    """
    row = prepared.first(tx, _next_number, {"mailbox": place.mailbox_id})
    if row is None:
        raise MailboxNotFound(mailbox_id=place.mailbox_id)
    touch(tx, place, row[0])
    return int(row[0])


def touch(tx: Connection, place: Place, change_number: int, *folder_ids: int) -> None:
    """Add to the CHANGED event that this operation gave the mailbox and these folders a change number.

    The caller writes the number to the folders' rows.
    """
    _touch(events(tx, CHANGED), place, change_number, folder_ids)


def touch_folders(tx: Connection, folders: Iterable[tuple[Place, int]]) -> None:
    """`touch` for each of many folders: their places and change numbers."""
    touched = events(tx, CHANGED)
    for place, change_number in folders:
        _touch(touched, place, change_number, (place.folder_id,))


def _touch(touched: dict[int, Touched], place: Place, change_number: int, folder_ids: Iterable[int]) -> None:
    known = touched.get(place.mailbox_id)
    if known is None:
        known = touched[place.mailbox_id] = Touched(change_number, first=change_number)
    else:
        known.first = min(known.first, change_number)
        known.change_number = max(known.change_number, change_number)
    for folder_id in folder_ids:
        known.folders[folder_id] = max(change_number, known.folders.get(folder_id, 0))
        known.deltas.pop(folder_id, None)  # the delta is no longer complete


def note_deltas(tx: Connection, deltas: Iterable[tuple[Place, FolderDelta]]) -> None:
    """Add the complete changes of folders above `delta.since` to the event, so that watchers need not read them.

    Call it directly after `touch` of the folders; another `touch` drops the delta. A delta of more than MOST_NOTED
    messages is not kept: watchers then read the changes, in responses of bounded size.
    """
    touched = peek(tx, CHANGED) or {}
    for place, delta in deltas:
        known = touched.get(place.mailbox_id)
        if known is not None and delta.folder_id in known.folders and len(delta.uids) <= MOST_NOTED:
            known.deltas[delta.folder_id] = delta


def response_covers(tx: Connection, place: Place) -> None:
    """Mark in the event that the response carries the changes: other watchers may be informed later."""
    known = (peek(tx, CHANGED) or {}).get(place.mailbox_id)
    if known is not None:
        known.answered = True


def write_tombstones(tx: Connection, place: Place, now: int, tombstones: list[Tombstone]) -> None:
    """Insert tombstones, at most one for each change number and folder."""
    rows = [
        {
            "mailbox_id": place.mailbox_id,
            "change_number": one.change_number,
            "folder_id": one.folder_id,
            "kind": int(one.kind),
            "target_folder_id": one.target_folder_id,
            "uids": one.uids.pack(),
            "message_ids": one.message_ids.pack(),
            "created_at": now,
        }
        for one in tombstones
    ]
    prepared.run_many(tx, _write_tombstones, rows)


def folder_state(tx: Connection, place: Place) -> FolderState:
    """The present numbers of the place's folder. Raises FolderNotFound."""
    facts = prepared.first(tx, _folder_facts, {"mailbox": place.mailbox_id, "folder": place.folder_id})
    if facts is None:
        raise FolderNotFound(folder_id=place.folder_id)
    return FolderState(*facts)


def folder_changes(tx: Connection, place: Place, since: int, *, most: int = MOST_CHANGED) -> FolderDelta:
    """Everything that changed in the place's folder above the change number `since`.

    Raises FolderNotFound, CursorInvalid when tombstones since then have been removed, ResultTooLarge when more than
    `most` messages changed, or too many were removed.
    """
    folder_id = place.folder_id
    where = {"mailbox": place.mailbox_id, "folder": folder_id, "since": since}
    present = folder_state(tx, place)
    gathered: Sequence[Any] = [None] * len(_changed_rows.c)
    vanished = EMPTY
    if present.change_number > since:  # else the folder has no changes, and the age of `since` does not matter
        if since < present.history_from:
            raise CursorInvalid
        (gathered,) = prepared.rows(tx, _changed, where | {"most": most + 1})
        vanished, more = removed_uids(tx, place, since, MOST_CHANGED, MOST_VANISHED_OCTETS)
        if more is not None or len(vanished.ranges()) > MOST_VANISHED:
            raise ResultTooLarge(rpc="FolderService/OpenFolder")
    found = columns(gathered)
    if len(found[0]) > most:
        raise ResultTooLarge(rpc="FolderService/OpenFolder")
    return delta_of(folder_id, since, present, found, vanished)


def delta_of(
    folder_id: int, since: int, present: FolderState, columns: Sequence[list[Any]], vanished: IdSet
) -> FolderDelta:
    """The delta of a folder in its present state. `columns`: UIDs, message ids, flags, keywords, change numbers."""
    uids, message_ids, flags, keywords, numbers = columns
    return FolderDelta(
        folder_id=folder_id,
        since=since,
        change_number=present.change_number,
        uids=uids,
        message_ids=message_ids,
        flags=flags,
        keywords=keywords,
        change_numbers=numbers,
        vanished=vanished,
        uid_next=present.uid_next,
        recent_uid=present.recent_uid,
    )


def _columns(rows: Sequence[Any]) -> Sequence[Any]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(5)]


def of_folders(places: Iterable[FolderKey]) -> prepared.Lookup:
    """A read of the change numbers of these folders, a dict; folders that do not exist are left out."""
    return prepared.Lookup(_of_folders, {"places": encode_rows(places)}, _by_folder)


def _by_folder(rows: list[tuple[int, int, int]]) -> dict[FolderKey, int]:
    return {(mailbox_id, folder_id): number for mailbox_id, folder_id, number in rows}


def removals(
    tx: Connection, place: Place, since: int, *, after: Tombstone | None = None, until: int = HIGHEST
) -> list[Tombstone]:
    """Some removals above the change number `since` and up to `until`, in order: the first ones, or those that follow
    the tombstone `after`; none at the end.

    They are those of the place's folder, or of its whole mailbox. Raises MailboxNotFound, and CursorInvalid when
    tombstones since then have been removed.
    """
    if since < history_from(tx, place):
        raise CursorInvalid
    number, folder_id = (after.change_number, after.folder_id) if after else (since, HIGHEST)
    where = {"mailbox": place.mailbox_id, "number": number, "after": folder_id, "until": until}
    where |= {"folder": place.folder_id, "most": REMOVALS_AT_ONCE}
    statement = _tombstones_of_folder if place.folder_id else _tombstones
    found, _ = prepared.rows_while(tx, statement, where, _octets_up_to(REMOVAL_OCTETS_AT_ONCE))
    return [
        Tombstone(row[0], row[1], Removal(row[2]), row[3], IdSet.unpack(row[4]), IdSet.unpack(row[5])) for row in found
    ]


def removed_uids(tx: Connection, place: Place, since: int, most: int, octets: int) -> tuple[IdSet, int | None]:
    """UIDs that left the place's folder above the change number `since`, from at most `most` tombstones.

    The last tombstone is the one that brings the packed sets to `octets`. Also returns the change number up to which
    removals are included; None: all are.
    """
    where = {"mailbox": place.mailbox_id, "folder": place.folder_id, "since": since, "most": most}
    found, more = prepared.rows_while(tx, _vanished, where, _octets_up_to(octets))
    uids = IdSet.from_runs(run for _, packed in found for run in IdSet.unpack(packed).ranges())
    return uids, found[-1][0] if more or len(found) == most else None


def _octets_up_to(limit: int) -> Callable[[Sequence[Any]], bool]:
    """Take rows until their octets reach the limit."""
    taken = 0

    def take(row: Sequence[Any]) -> bool:
        nonlocal taken
        if taken >= limit:
            return False
        taken += sum(len(cell) for cell in row if isinstance(cell, bytes))
        return True

    return take


def history_from(tx: Connection, place: Place) -> int:
    """The change number above which all tombstones are kept. Raises MailboxNotFound."""
    number = tx.execute(_history_from, {"mailbox": place.mailbox_id}).scalar()
    if number is None:
        raise MailboxNotFound(mailbox_id=place.mailbox_id)
    return int(number)


def epoch(tx: Connection) -> int:
    """The store's epoch, raised by a restore."""
    return int(tx.execute(_epoch).scalar_one())


def with_old_history(tx: Connection, before: int, most: int = 100) -> list[int]:
    """Mailboxes that have tombstones made before this time, as arguments for `forget_history`."""
    return list(tx.execute(_old, {"before": before, "most": most}).scalars())


def forget_history(tx: Connection, place: Place, before: int) -> int:
    """Remove the tombstones made before this time and those of lower change numbers; returns their number."""
    newest = tx.execute(_newest_old, {"mailbox": place.mailbox_id, "before": before}).scalar()
    if newest is None:
        return 0
    tx.execute(_raise_history, {"mailbox": place.mailbox_id, "newest": newest})
    return tx.execute(_forget, {"mailbox": place.mailbox_id, "newest": newest}).rowcount
