"""Copying sets of messages to any folder, and moving them within their mailbox.

The messages of a set get ascending UIDs in the order of their old keys.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    FromClause,
    Insert,
    Update,
    and_,
    bindparam,
    insert,
    select,
    true,
    type_coerce,
    update,
)
from sqlalchemy.sql.selectable import NamedFromClause

from restante.errors import MessageNotFound
from restante_mail.idset import EMPTY, IdSet
from restante_server.db import prepared
from restante_server.db.schema import mailbox, message
from restante_server.directory import rights
from restante_server.directory.rights import Place
from restante_server.store import changes, folders, keywords, rows
from restante_server.store.changes import Removal, Tombstone
from restante_server.store.folders import HIGHEST_UID, Reserved
from restante_server.store.found import Found, find
from restante_server.store.mailboxes import check_quota
from restante_server.store.runs import JsonRows, encode_rows, join_from
from restante_server.store.selection import Listed, Selection


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
    tally = found.tally
    number = changes.next_number(tx, target)
    given = {"mailbox": target.mailbox_id, "count": tally.messages, "octets": tally.octets}
    next_message_id, quota_octets, used_octets = prepared.rows(tx, _take, given)[0]
    check_quota(quota_octets, used_octets - tally.octets, tally.octets)
    reserved = folders.reserve_uids(tx, target, number, tally)
    shifts = _shifts(found.ids, reserved.uid, next_message_id - tally.messages)
    by_uid, single = selection.kind.by_uid, len(shifts) == 1
    where = _parameters(place, selection, shifts) | {"into": target.mailbox_id}
    prepared.run(tx, _copy_messages(by_uid, single), where | {"target": target.folder_id, "number": number})
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
    reserved = folders.reserve_uids(tx, target, number, found.tally)
    shifts = _shifts(found.ids, reserved.uid, 0)
    where = _parameters(place, selection, shifts) | {"target": target.folder_id, "number": number}
    prepared.run(tx, _move(selection.kind.by_uid, len(shifts) == 1), where)
    leave(tx, place, found, number, now, Removal.MOVED, target.folder_id)
    return Transferred(found.listed, _given(reserved), EMPTY, reserved.uid_validity, number)


def leave(tx: Connection, place: Place, found: Found, number: int, now: int, kind: Removal, target: int = 0) -> None:
    """Subtract messages from the counters of their folders and write tombstones."""
    tombstones = []
    places = rights.across(place, found.folders)
    for folder_id, gone in found.folders.items():
        # The order of message ids in a folder may differ from the order of UIDs.
        uids, message_ids = IdSet.from_ascending(sorted(gone.uids)), IdSet.from_ascending(sorted(gone.message_ids))
        tombstones.append(Tombstone(number, folder_id, kind, target, uids, message_ids))
        folders.adjust(tx, places[folder_id], number, gone.tally.negative())
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


def _parameters(place: Place, selection: Selection, shifts: list[Shift]) -> dict[str, object]:
    """The parameters of `_source`."""
    where: dict[str, object] = {"mailbox": place.mailbox_id}
    if selection.folder_id is not None:
        where["folder"] = selection.folder_id
    return where | (shifts[0]._asdict() if len(shifts) == 1 else {"shifts": encode_rows(shifts)})


class _Source(NamedTuple):
    """The messages of the parameters of `_parameters`, for a statement that gives them new keys."""

    rows: FromClause
    condition: ColumnElement[bool]
    to_uid: ColumnElement[int]
    to_message_id: ColumnElement[int]


def _source(by_uid: bool, single: bool, table: NamedFromClause[Any] = message) -> _Source:
    key = table.c.uid if by_uid else table.c.message_id
    place = table.c.folder_id == bindparam("folder") if by_uid else table.c.folder_id.is_not(None)
    runs = JsonRows("shifts")
    numbers = [bindparam(name, type_=BigInteger) if single else runs.item(at) for at, name in enumerate(Shift._fields)]
    first, last, to_uid, to_message_id = numbers
    within = and_(table.c.mailbox_id == bindparam("mailbox"), place, key.between(first, last))
    if single:
        return _Source(table, within, key + to_uid, key + to_message_id)
    return _Source(join_from(runs.rows, table, within), true(), key + to_uid, key + to_message_id)


@cache
def _copy_messages(by_uid: bool, single: bool) -> Insert:
    source = _source(by_uid, single)
    columns = message.c
    values: dict[str, ColumnElement[Any]] = {column.name: column for column in columns}
    values |= {
        "mailbox_id": type_coerce(bindparam("into"), BigInteger),
        "message_id": source.to_message_id,
        "uid": source.to_uid,
        "folder_id": type_coerce(bindparam("target"), BigInteger),
        "change_number": type_coerce(bindparam("number"), BigInteger),
    }
    chosen = select(*values.values()).select_from(source.rows).where(source.condition)
    return insert(message).from_select(list(values), chosen)


@cache
def _move(by_uid: bool, single: bool) -> Update:
    there: dict[str, ColumnElement[Any]] = {"folder_id": bindparam("target"), "change_number": bindparam("number")}
    if single:
        source = _source(by_uid, single)
        return update(message).where(source.condition).values(uid=source.to_uid, **there)
    other = message.alias("among")
    source = _source(by_uid, single, other)
    # The limit, which no set reaches, keeps SQLite from merging the subquery into the UPDATE with a worse join order.
    found = (
        select(other.c.mailbox_id, other.c.message_id, source.to_uid.label("place"))
        .select_from(source.rows)
        .where(source.condition)
        .limit(HIGHEST_UID)
        .subquery("found")
    )
    same = and_(message.c.mailbox_id == found.c.mailbox_id, message.c.message_id == found.c.message_id)
    return update(message).where(same).values(uid=found.c.place, **there)
