"""Changing flags and keywords of many messages at once, with one UPDATE and one change number; counters stay exact."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from itertools import repeat
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    Update,
    bindparam,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    update,
)

from restante_mail.idset import EMPTY, IdSet
from restante_server.db import prepared
from restante_server.db.schema import message
from restante_server.directory import rights
from restante_server.directory.rights import Place
from restante_server.store import changes, folders, keywords, rows
from restante_server.store.changes import FolderDelta
from restante_server.store.folders import Tally
from restante_server.store.gathered import Gathered, columns
from restante_server.store.messages import ALL_FLAGS
from restante_server.store.selection import FLAG_DELETED, FLAG_SEEN, Kind, Listed, Selection, chosen, members


class FlagChange(IntEnum):
    """The operation on the given flags; the values of restante.v1.FlagOperation."""

    ADD = 1
    REMOVE = 2
    REPLACE = 3


@dataclass(frozen=True, slots=True)
class Updated:
    """The result of an update. `change_number` is None when no flag differed and nothing was written."""

    change_number: int | None
    found: int  # messages that the condition permitted to change, whether or not a flag differed
    left: Listed = Listed()  # messages that stay unchanged because they had changed after if_change_number
    delta: FolderDelta | None = None  # all changes above `changes_since`, if they are known without a further read


class _Rows(NamedTuple):
    """The changed messages of one folder, in columns as they are afterwards, UIDs ascending."""

    uids: list[int]
    message_ids: list[int]
    flags: list[int]
    keywords: list[str]


class _Shape(NamedTuple):
    """The variants of a statement, apart from its values."""

    kind: Kind
    change: FlagChange
    conditional: bool
    gathered: bool  # the statement also gives the messages that differ


def change_flags(
    tx: Connection,
    place: Place,
    selection: Selection,
    change: FlagChange,
    flags: int,
    keyword_names: Sequence[str] = (),
    *,
    if_change_number: int | None = None,
    changes_since: int | None = None,
) -> Updated:
    """Change flags and keywords of the messages that exist.

    With `changes_since`, the change number of the folder that a client knows, the result has the changes above it, if
    the operation made all of them and they may be enough for one answer (changes.MOST_ANSWERED).

    A message whose change number is above `if_change_number` stays unchanged (RFC 7162 3.1.3). Messages in which
    nothing differs keep their change number. Raises FolderNotFound, InvalidArgument, TooComplex, LimitExceeded
    (keywords).
    """
    if selection.folder_id is not None:
        rights.within(tx, place, selection.folder_id)
    if not selection.ids:
        return Updated(None, 0)
    flags &= ALL_FLAGS
    conditional = if_change_number is not None
    left = rows.changed_after(tx, place, selection, if_change_number)
    where = selection.parameters(place.mailbox_id)
    if if_change_number is not None:
        where["limit"] = if_change_number
    before = _state(tx, place, selection, changes_since)
    shape = _Shape(selection.kind, change, conditional, before is not None)
    if keyword_names and change is not FlagChange.REPLACE:
        return _by_keywords(tx, place, shape, where, flags, keyword_names, left, before)
    column = keywords.column(keywords.spell(tx, place, keyword_names)) if keyword_names else ""
    where |= {"bits": flags, "named": column} if change is FlagChange.REPLACE else {"bits": flags}
    found, tallies, rows_after = 0, {}, None
    for folder_id, count, differing, unread, deleted, *gathered in prepared.rows(tx, _difference(shape), where):
        found += count
        if differing:
            tallies[folder_id] = Tally(0, unread, deleted, 0)
            rows_after = _afterwards_of(columns(gathered), change, flags, column) if gathered else None
    if not tallies:
        return Updated(None, found, left)
    number = changes.next_number(tx, place)
    prepared.run(tx, _change(shape), where | {"number": number})
    return _counted(tx, place, number, found, left, tallies, before, rows_after)


def _state(tx: Connection, place: Place, selection: Selection, changes_since: int | None) -> changes.FolderState | None:
    """The numbers of the selection's folder; None unless an operation would make all changes since `changes_since` and
    they may be enough for one answer."""
    if changes_since is None or selection.folder_id is None:
        return None
    before = changes.folder_state(tx, rights.across(place, [selection.folder_id])[selection.folder_id])
    few = min(before.message_count, len(selection.ids)) <= changes.MOST_ANSWERED
    return before if few and before.change_number == changes_since else None


def _afterwards_of(gathered: list[list[Any]], change: FlagChange, flags: int, column: str) -> _Rows:
    uids, message_ids, bits, named = gathered
    if change is FlagChange.ADD:
        return _Rows(uids, message_ids, [each | flags for each in bits], named)
    if change is FlagChange.REMOVE:
        return _Rows(uids, message_ids, [each & ~flags for each in bits], named)
    return _Rows(uids, message_ids, [flags] * len(uids), [column] * len(uids))


def _counted(
    tx: Connection,
    place: Place,
    number: int,
    found: int,
    left: Listed,
    tallies: dict[int, Tally],
    before: changes.FolderState | None,
    changed: _Rows | None,
) -> Updated:
    """Count the changes in their folders, and return the result. `before` and `changed` belong to a single folder."""
    places = rights.across(place, tallies)
    for folder_id, tally in tallies.items():
        folders.adjust(tx, places[folder_id], number, tally)
    if before is None or changed is None:
        return Updated(number, found, left)
    (folder_id,) = tallies
    delta = FolderDelta(
        folder_id=folder_id,
        since=before.change_number,
        change_number=number,
        uids=changed.uids,
        message_ids=changed.message_ids,
        flags=changed.flags,
        keywords=changed.keywords,
        change_numbers=[number] * len(changed.uids),
        vanished=EMPTY,
        uid_next=before.uid_next,
        recent_uid=before.recent_uid,
    )
    return Updated(number, found, left, delta)


def _differs(change: FlagChange) -> ColumnElement[bool]:
    bits: ColumnElement[int] = bindparam("bits")
    here = message.c.flags
    if change is FlagChange.ADD:
        return here.bitwise_and(bits) != bits
    if change is FlagChange.REMOVE:
        return here.bitwise_and(bits) != 0
    return or_(here != bits, message.c.keywords != bindparam("named"))


def _afterwards(change: FlagChange) -> ColumnElement[int]:
    bits: ColumnElement[int] = bindparam("bits")
    if change is FlagChange.ADD:
        return message.c.flags.bitwise_or(bits)
    if change is FlagChange.REMOVE:
        return message.c.flags.bitwise_and(literal(ALL_FLAGS) - bits)
    return bits


def _permitted(conditional: bool) -> list[ColumnElement[bool]]:
    return [message.c.change_number <= bindparam("limit")] if conditional else []


@cache
def _difference(shape: _Shape) -> Select[*tuple[Any, ...]]:
    """For each folder: messages found, messages that differ, and the changes of its unread and deleted counts.

    A gathered one, which is of one folder, then has columns of the messages that differ, as they are before.
    """
    source, condition = chosen(shape.kind)
    before, after = message.c.flags, _afterwards(shape.change)

    def step(bit: int) -> ColumnElement[int]:
        changed = func.sum(after.bitwise_and(bit) - before.bitwise_and(bit))
        return cast(changed, BigInteger) // bit  # PostgreSQL's sum of integers is not an integer

    shown = (message.c.uid, message.c.message_id, message.c.flags, message.c.keywords) if shape.gathered else ()
    differs = _differs(shape.change)
    return (
        select(
            message.c.folder_id,
            func.count(),
            func.sum(case((differs, 1), else_=0)),
            -step(FLAG_SEEN),
            step(FLAG_DELETED),
            *(Gathered(column).filter(differs) for column in shown),
        )
        .select_from(source)
        .where(condition, *_permitted(shape.conditional))
        .group_by(message.c.folder_id)
    )


@cache
def _change(shape: _Shape) -> Update:
    values: dict[str, object] = {"flags": _afterwards(shape.change), "change_number": bindparam("number")}
    if shape.change is FlagChange.REPLACE:
        values["keywords"] = bindparam("named")
    return (
        update(message)
        .where(members(shape.kind), _differs(shape.change), *_permitted(shape.conditional))
        .values(values)
    )


# --- Adding and removing keywords: the new column depends on the old one, so messages with equal ones go together ----


@cache
def _present(kind: Kind, conditional: bool) -> Select[*tuple[Any, ...]]:
    """The messages found, those of a folder with equal flags and keywords as one row."""
    source, condition = chosen(kind)
    alike = (message.c.folder_id, message.c.flags, message.c.keywords)
    return (
        select(*alike, Gathered(message.c.message_id), Gathered(message.c.uid))
        .select_from(source)
        .where(condition, *_permitted(conditional))
        .group_by(*alike)
    )


@cache
def _set_run(change: FlagChange) -> Update:
    return (
        update(message)
        .where(
            message.c.mailbox_id == bindparam("mailbox"),
            message.c.message_id.between(bindparam("first"), bindparam("last")),
        )
        .values(flags=_afterwards(change), keywords=bindparam("named"), change_number=bindparam("number"))
    )


def _by_keywords(
    tx: Connection,
    place: Place,
    shape: _Shape,
    where: dict[str, object],
    flags: int,
    keyword_names: Iterable[str],
    left: Listed,
    before: changes.FolderState | None,
) -> Updated:
    adds = shape.change is FlagChange.ADD
    given = (keywords.spell if adds else keywords.known)(tx, place, keyword_names)
    spelled: dict[str, str] = {}  # {old column: new column}
    changed: dict[str, list[int]] = {}  # {new column: ids of the messages that get it}
    tallies: dict[int, Tally] = {}
    told: list[tuple[int, int, int, str]] = []
    found = 0
    for folder_id, bits, stored, *gathered in prepared.rows(tx, _present(shape.kind, shape.conditional), where):
        message_ids, uids = columns(gathered)
        count = len(message_ids)
        found += count
        named = spelled.get(stored)
        if named is None:
            had = set(keywords.names(stored))
            named = spelled[stored] = keywords.column(had | given if adds else had - given)
        after = bits | flags if adds else bits & ~flags
        if after == bits and named == stored:
            continue
        changed.setdefault(named, []).extend(message_ids)
        if before is not None:
            told.extend(zip(uids, message_ids, repeat(after), repeat(named)))
        _, unread, deleted, _ = tallies.get(folder_id, Tally(0, 0, 0, 0))
        unread -= count * ((after & FLAG_SEEN) - (bits & FLAG_SEEN))
        deleted += count * ((after & FLAG_DELETED) - (bits & FLAG_DELETED)) // FLAG_DELETED
        tallies[folder_id] = Tally(0, unread, deleted, 0)
    if not changed:
        return Updated(None, found, left)
    number = changes.next_number(tx, place)
    values = {"mailbox": place.mailbox_id, "bits": flags, "number": number}
    runs = [
        {**values, "named": named, "first": first, "last": last}
        for named, message_ids in changed.items()
        for first, last in IdSet.of(message_ids).ranges()
    ]
    prepared.run_many(tx, _set_run(shape.change), runs)
    told.sort()  # by UID
    return _counted(tx, place, number, found, left, tallies, before, _Rows(*rows.columns_of(told, 4)))
