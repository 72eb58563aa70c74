"""Copying sets of messages to any folder, and moving them within their mailbox.

The messages of a set get ascending UIDs in the order of their old keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Insert,
    Select,
    Update,
    and_,
    bindparam,
    exists,
    insert,
    select,
    type_coerce,
    update,
)
from sqlalchemy.sql.selectable import NamedFromClause

from restante.errors import MessageNotFound
from restante_mail.idset import EMPTY, IdSet
from restante_server.db import prepared
from restante_server.db.schema import listing, mailbox, message
from restante_server.directory import rights
from restante_server.directory.rights import Place
from restante_server.store import changes, folders, keywords, rows
from restante_server.store.changes import Removal, Tombstone
from restante_server.store.folders import HIGHEST_UID, Reserved, Tally
from restante_server.store.mailboxes import check_quota
from restante_server.store.runs import JsonRows, among, encode_rows, join_from
from restante_server.store.selection import FLAG_DELETED, FLAG_SEEN, Kind, Listed, Selection, chosen, key_of


@dataclass(frozen=True, slots=True)
class Transferred:
    """The n-th message of `source` got the n-th of `target_uids`, and the n-th of `target_ids` if it was copied."""

    source: Listed
    target_uids: IdSet
    target_ids: IdSet  # new message ids; EMPTY for a move within the mailbox, which keeps the ids
    uid_validity: int
    change_number: int | None  # of the target's mailbox; None when no message was copied or moved
    left: Listed = Listed()  # messages that stay because they had changed after if_change_number
    source_change_number: int | None = None  # of the mailbox that the messages left for another


@dataclass(frozen=True, slots=True)
class Found:
    """The messages of a selection in columns, in the order of their keys."""

    by_uid: bool  # the keys are UIDs; else they are message ids
    message_ids: Sequence[int]
    folder_ids: Sequence[int]
    uids: Sequence[int]
    flags: Sequence[int]
    sizes: Sequence[int]

    def __len__(self) -> int:
        return len(self.message_ids)

    @property
    def keys(self) -> Sequence[int]:
        """UIDs, or message ids when the selection has those."""
        return self.uids if self.by_uid else self.message_ids

    @property
    def listed(self) -> Listed:
        """The messages without their facts."""
        return Listed(self.message_ids, self.uids)

    @property
    def ids(self) -> IdSet:
        """The keys as a set."""
        return IdSet.from_ascending(self.keys)

    def by_folder(self) -> dict[int, Found]:
        """The messages of each folder."""
        if len(set(self.folder_ids)) <= 1:
            return {self.folder_ids[0]: self} if self.message_ids else {}
        positions: dict[int, list[int]] = {}
        for at, folder_id in enumerate(self.folder_ids):
            positions.setdefault(folder_id, []).append(at)
        return {folder_id: self._at(some) for folder_id, some in positions.items()}

    def where(self, holds: Callable[[int], object]) -> Found:
        """The messages whose folder id satisfies a condition."""
        return self._at([at for at, folder_id in enumerate(self.folder_ids) if holds(folder_id)])

    def _at(self, positions: Sequence[int]) -> Found:
        columns = (self.message_ids, self.folder_ids, self.uids, self.flags, self.sizes)
        return Found(self.by_uid, *([column[at] for at in positions] for column in columns))

    def tally(self) -> Tally:
        """The sums over all these messages, for the counters of folders."""
        seen = sum([flags & FLAG_SEEN for flags in self.flags])
        deleted = sum([flags & FLAG_DELETED for flags in self.flags]) // FLAG_DELETED
        return Tally(len(self), len(self) - seen, deleted, sum(self.sizes))


class Shift(NamedTuple):
    """A run of keys, and the amounts added to each key to get the new UID and message id."""

    first: int
    last: int
    to_uid: int
    to_message_id: int


_take = (
    update(mailbox)
    .where(mailbox.c.mailbox_id == bindparam("mailbox"))
    .values(
        next_message_id=mailbox.c.next_message_id + bindparam("count"),
        used_octets=mailbox.c.used_octets + bindparam("octets"),
        message_count=mailbox.c.message_count + bindparam("count"),
    )
    .returning(mailbox.c.next_message_id, mailbox.c.quota_octets, mailbox.c.used_octets)
)

_copies = (
    message.c.mailbox_id == bindparam("mailbox"),
    message.c.message_id.between(bindparam("first"), bindparam("last")),
)
_keywords = select(message.c.keywords).where(*_copies, message.c.keywords != "").distinct()
_spell = (
    update(message).where(*_copies, message.c.keywords == bindparam("stored")).values(keywords=bindparam("spelled"))
)


def find(tx: Connection, place: Place, selection: Selection, if_change_number: int | None = None) -> Found:
    """The messages of a selection that exist, without those whose change number is above `if_change_number`."""
    kind = selection.kind
    if not selection.ids:
        return Found(kind.by_uid, (), (), (), (), ())
    where = selection.parameters(place.mailbox_id)
    if if_change_number is not None:
        where["limit"] = if_change_number
    found = prepared.rows(tx, _find(kind, if_change_number is not None), where)
    return Found(kind.by_uid, *rows.columns_of(found, 5))


def copy(
    tx: Connection,
    place: Place,
    selection: Selection,
    target: Place,
    expected: int | None = None,
    *,
    if_change_number: int | None = None,
) -> Transferred:
    """Copy the messages that exist to `target`, a folder of this or another mailbox, keeping flags, keywords and
    received time. RFC 9051 6.4.7.

    The copies take ids, UIDs, room and a change number of the target's mailbox, and share the contents. The transaction
    has locked both mailboxes, so that no content can lose its last holder meanwhile. A message whose change number is
    above `if_change_number` is not copied. With `expected`, raises MessageNotFound unless exactly so many exist. Raises
    FolderNotFound, QuotaExceeded, LimitExceeded (UIDs, keywords); the caller's savepoint undoes the writes.
    """
    found, left = require(tx, place, selection, expected, if_change_number)
    return copy_found(tx, place, selection, found, target, left)


def copy_found(
    tx: Connection, place: Place, selection: Selection, found: Found, target: Place, left: Listed
) -> Transferred:
    """Copy the messages `found` of `selection`, without those in `left`. See `copy`."""
    if not found:
        return _nothing(tx, target, left)
    tally = found.tally()
    number = changes.next_number(tx, target)
    given = {"mailbox": target.mailbox_id, "count": tally.messages, "octets": tally.octets}
    next_message_id, quota_octets, used_octets = prepared.rows(tx, _take, given)[0]
    check_quota(quota_octets, used_octets - tally.octets, tally.octets)
    reserved = folders.reserve_uids(tx, target, number, tally)
    shifts = _shifts(found.ids, reserved.uid, next_message_id - tally.messages)
    where: dict[str, object] = {"mailbox": place.mailbox_id, "into": target.mailbox_id, "shifts": encode_rows(shifts)}
    if selection.folder_id is not None:
        where["folder"] = selection.folder_id
    by_uid = selection.kind.by_uid
    if target.mailbox_id != place.mailbox_id:  # else the copies have the listings of their contents already
        prepared.run(tx, _copy_listings(by_uid), where)
    prepared.run(tx, _copy_messages(by_uid), where | {"target": target.folder_id, "number": number})
    copies = IdSet(((next_message_id - tally.messages, next_message_id - 1),))
    if target.mailbox_id != place.mailbox_id:
        _respell(tx, target, copies)
    return Transferred(found.listed, _given(reserved), copies, reserved.uid_validity, number, left)


def _respell(tx: Connection, target: Place, copies: IdSet) -> None:
    """Give copies from another mailbox their keywords in the spelling of this one."""
    where = {"mailbox": target.mailbox_id, "first": copies.first, "last": copies.last}
    for (stored,) in prepared.rows(tx, _keywords, where):
        spelled = keywords.column(keywords.spell(tx, target, keywords.names(stored)))
        if spelled != stored:
            prepared.run(tx, _spell, where | {"stored": stored, "spelled": spelled})


def move(
    tx: Connection,
    place: Place,
    selection: Selection,
    target: Place,
    now: int,
    expected: int | None = None,
    *,
    if_change_number: int | None = None,
) -> Transferred:
    """Move the messages that exist to another folder of the mailbox, keeping ids, flags and received time. RFC 6851 3.

    A message whose change number is above `if_change_number` stays in its folder. With `expected`, raises
    MessageNotFound unless exactly so many exist. Raises FolderNotFound, LimitExceeded (UIDs).
    """
    found, left = require(tx, place, selection, expected, if_change_number)
    if not found:
        return _nothing(tx, target, left)
    number = changes.next_number(tx, place)
    return replace(move_found(tx, place, selection, found, target, number, now), left=left)


def move_found(
    tx: Connection, place: Place, selection: Selection, found: Found, target: Place, number: int, now: int
) -> Transferred:
    """Move the messages `found` of `selection`, under the change number that the caller has taken."""
    reserved = folders.reserve_uids(tx, target, number, found.tally())
    shifts = _shifts(found.ids, reserved.uid, 0)
    where = {"mailbox": place.mailbox_id, "target": target.folder_id, "number": number}
    if selection.folder_id is not None:
        where["folder"] = selection.folder_id
    single = len(shifts) == 1
    by_run = shifts[0]._asdict() if single else {"shifts": encode_rows(shifts)}
    by_run.pop("to_message_id", None)
    prepared.run(tx, _move(selection.kind.by_uid, single), where | by_run)
    leave(tx, place, found, number, now, Removal.MOVED, target.folder_id)
    return Transferred(found.listed, _given(reserved), EMPTY, reserved.uid_validity, number)


def leave(tx: Connection, place: Place, found: Found, number: int, now: int, kind: Removal, target: int = 0) -> None:
    """Subtract messages from the counters of their folders and write tombstones."""
    tombstones = []
    by_folder = found.by_folder()
    places = rights.across(place, by_folder)
    for folder_id, gone in by_folder.items():
        # The order of message ids in a folder may differ from the order of UIDs.
        uids, message_ids = IdSet.from_ascending(sorted(gone.uids)), IdSet.from_ascending(sorted(gone.message_ids))
        tombstones.append(Tombstone(number, folder_id, kind, target, uids, message_ids))
        folders.adjust(tx, places[folder_id], number, gone.tally().negative())
    changes.write_tombstones(tx, place, now, tombstones)


def require(
    tx: Connection, place: Place, selection: Selection, expected: int | None, if_change_number: int | None
) -> tuple[Found, Listed]:
    """The messages of a selection that exist, and apart those that have changed after `if_change_number`.

    With `expected`, raises MessageNotFound unless exactly so many exist. Raises FolderNotFound.
    """
    if selection.folder_id is not None:
        rights.within(tx, place, selection.folder_id)
    found = find(tx, place, selection, if_change_number)
    left = rows.changed_after(tx, place, selection, if_change_number)
    if expected is not None and len(found) + len(left.message_ids) != expected:
        raise MessageNotFound
    return found, left


def _nothing(tx: Connection, target: Place, left: Listed) -> Transferred:
    """The result when no message is copied or moved."""
    return Transferred(Listed(), EMPTY, EMPTY, folders.get(tx, target).uid_validity, None, left)


def _given(reserved: Reserved) -> IdSet:
    return IdSet(((reserved.uid, reserved.uid + reserved.length - 1),))


def _shifts(keys: IdSet, first_uid: int, first_message_id: int) -> list[Shift]:
    shifts: list[Shift] = []
    done = 0
    for first, last in keys.ranges():
        shifts.append(Shift(first, last, first_uid + done - first, first_message_id + done - first))
        done += last - first + 1
    return shifts


@cache
def _find(kind: Kind, conditional: bool) -> Select[*tuple[Any, ...]]:
    source, condition = chosen(kind)
    columns = message.c
    statement = (
        select(columns.message_id, columns.folder_id, columns.uid, columns.flags, columns.size_octets)
        .select_from(source)
        .where(condition)
        .order_by(key_of(kind))
    )
    return statement.where(columns.change_number <= bindparam("limit")) if conditional else statement


def _source(
    by_uid: bool, table: NamedFromClause[Any] = message
) -> tuple[JsonRows, ColumnElement[bool], ColumnElement[int]]:
    """(the runs of the parameter `shifts`, the join condition that selects their messages, the key column)."""
    runs = JsonRows("shifts")
    key = table.c.uid if by_uid else table.c.message_id
    place = table.c.folder_id == bindparam("folder") if by_uid else table.c.folder_id.is_not(None)
    within = and_(table.c.mailbox_id == bindparam("mailbox"), place, key.between(runs.item(0), runs.item(1)))
    return runs, within, key


@cache
def _copy_messages(by_uid: bool) -> Insert:
    runs, within, key = _source(by_uid)
    columns = message.c
    values: dict[str, ColumnElement[Any]] = {column.name: column for column in columns}
    values |= {
        "mailbox_id": type_coerce(bindparam("into"), BigInteger),
        "message_id": key + runs.item(3),
        "uid": key + runs.item(2),
        "folder_id": type_coerce(bindparam("target"), BigInteger),
        "change_number": type_coerce(bindparam("number"), BigInteger),
    }
    chosen = select(*values.values()).select_from(join_from(runs.rows, message, within))
    return insert(message).from_select(list(values), chosen)


@cache
def _copy_listings(by_uid: bool) -> Insert:
    """Copies into another mailbox the listings that it does not have."""
    runs, within, _ = _source(by_uid)
    there = listing.alias("there")
    values: dict[str, ColumnElement[Any]] = {column.name: column for column in listing.c}
    values["mailbox_id"] = type_coerce(bindparam("into"), BigInteger)
    chosen = select(*values.values()).where(
        listing.c.mailbox_id == bindparam("mailbox"),
        among(listing.c.content_id, select(message.c.content_id).select_from(join_from(runs.rows, message, within))),
        ~exists().where(there.c.mailbox_id == bindparam("into"), there.c.content_id == listing.c.content_id),
    )
    return insert(listing).from_select(list(values), chosen)


@cache
def _move(by_uid: bool, single: bool) -> Update:
    there: dict[str, ColumnElement[Any]] = {"folder_id": bindparam("target"), "change_number": bindparam("number")}
    key: ColumnElement[int]
    if single:
        key = message.c.uid if by_uid else message.c.message_id
        place = message.c.folder_id == bindparam("folder") if by_uid else message.c.folder_id.is_not(None)
        within = and_(
            message.c.mailbox_id == bindparam("mailbox"), place, key.between(bindparam("first"), bindparam("last"))
        )
        return update(message).where(within).values(uid=key + bindparam("to_uid"), **there)
    among = message.alias("among")
    runs, within, key = _source(by_uid, among)
    # The limit, which no set reaches, keeps SQLite from merging the subquery into the UPDATE with a worse join order.
    found = (
        select(among.c.mailbox_id, among.c.message_id, (key + runs.item(2)).label("place"))
        .select_from(join_from(runs.rows, among, within))
        .limit(HIGHEST_UID)
        .subquery("found")
    )
    same = and_(message.c.mailbox_id == found.c.mailbox_id, message.c.message_id == found.c.message_id)
    return update(message).where(same).values(uid=found.c.place, **there)
