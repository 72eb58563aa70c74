"""Reading messages as columns: a page of a selection, or a whole folder.

Columns are plain lists, because making an object of every row costs more than reading it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, CursorResult, Select, and_, bindparam, select

from restante.errors import FolderNotFound
from restante_mail.idset import EMPTY
from restante_server.db import prepared
from restante_server.db.prepared import Row
from restante_server.db.schema import content, content_octets, folder, listing, message
from restante_server.directory.rights import Place
from restante_server.store.changes import FolderDelta
from restante_server.store.contents import STORED, Loaded, with_octets
from restante_server.store.folders import HIGHEST_UID
from restante_server.store.runs import join_from
from restante_server.store.selection import Kind, Listed, Selection, chosen, key_of

OF_MESSAGE: Final = frozenset(
    ("folder_id flags keywords change_number received_at received_offset_minutes size_octets content_id head").split()
)
OF_LISTING: Final = frozenset(
    "envelope body_structure body summary preview attachment_count sent_at sent_offset_minutes checks".split()
)
SHOWS: Final = and_(listing.c.mailbox_id == message.c.listed_in, listing.c.content_id == message.c.content_id)


@dataclass(frozen=True, slots=True)
class Page:
    """Some messages in the order of their keys. `columns` has a list for each requested column."""

    columns: dict[str, list[Any]]  # "message_id" and "uid" always
    after: int | None  # the next page begins behind this key; None at the end

    def __len__(self) -> int:
        return len(self.columns["message_id"])


def page(
    tx: Connection,
    place: Place,
    selection: Selection,
    names: frozenset[str],
    *,
    after: int = 0,
    most: int,
    changed_since: int | None = None,
    take: Callable[[Row], bool] | None = None,
    loaded: Loaded = Loaded.NOTHING,
) -> Page:
    """At most `most` messages of a selection behind the key `after`, with these columns of OF_MESSAGE and OF_LISTING.

    A page before the last may be empty: continue behind its `after`. Does not check that the folder exists.

    `take` gets each row before the next is read, with what is `loaded` of its content behind the columns of `order`.
    The page ends before the first row for which it is false.
    """
    wanted = selection.page(after, most)
    ordered = order(names)
    if not wanted.ids:
        return Page({name: [] for name in ordered}, None)
    where = wanted.parameters(place.mailbox_id, most=most)
    if changed_since is not None:
        where["since"] = changed_since
    statement = _page(wanted.kind, ordered, changed_since is not None, loaded)
    rows, more = (
        prepared.rows_while(tx, statement, where, take) if take else (prepared.rows(tx, statement, where), False)
    )
    columns = dict(zip(ordered, columns_of(rows, len(ordered)), strict=take is None))
    if rows and (more or len(rows) == most):
        end = columns["uid" if selection.folder_id is not None else "message_id"][-1]
    else:
        end = wanted.ids.last
    return Page(columns, end if end < selection.ids.last else None)


def order(names: frozenset[str]) -> tuple[str, ...]:
    """The columns of a page's rows, in order."""
    return ("message_id", "uid", *sorted(names))


def changed_after(tx: Connection, place: Place, selection: Selection, change_number: int | None) -> Listed:
    """The messages of a selection whose change number is above the given one; none without a number."""
    if change_number is None or not selection.ids:
        return Listed()
    where = selection.parameters(place.mailbox_id, limit=change_number)
    return Listed(*columns_of(prepared.rows(tx, _changed_after(selection.kind), where), 2))


def folder_page(tx: Connection, place: Place, after_uid: int, most: int) -> tuple[FolderDelta, bool]:
    """At most `most` messages of the place's folder behind a UID, in their present state.

    Also returns whether they are the last ones. Raises FolderNotFound.
    """
    folder_id = place.folder_id
    where = {"mailbox": place.mailbox_id, "folder": folder_id}
    facts = prepared.first(tx, _facts, where)
    if facts is None:
        raise FolderNotFound(folder_id=folder_id)
    span = {"first": after_uid + 1, "last": HIGHEST_UID, "most": most}
    change_number, uid_next, recent_uid = facts
    rows = prepared.rows(tx, _whole, where | span)
    uids, message_ids, flags, keywords, numbers = columns_of(rows, 5)
    delta = FolderDelta(
        folder_id=folder_id,
        since=0,
        change_number=change_number,
        uids=uids,
        message_ids=message_ids,
        flags=flags,
        keywords=keywords,
        change_numbers=numbers,
        vanished=EMPTY,
        uid_next=uid_next,
        recent_uid=recent_uid,
    )
    return delta, len(rows) < most


def maildrop(tx: Connection, place: Place, after_uid: int, most: int) -> tuple[list[int], list[int], list[int]]:
    """UIDs, message ids and sizes (octets) of at most `most` messages of the place's folder behind a UID, by UID."""
    where = {"mailbox": place.mailbox_id, "folder": place.folder_id, "after": after_uid, "most": most}
    found = prepared.rows(tx, _maildrop, where)
    uids, message_ids, sizes = columns_of(found, 3)
    return uids, message_ids, sizes


def fetch(result: CursorResult[*tuple[Any, ...]]) -> Sequence[Sequence[Any]]:
    """All rows of a result as the driver's tuples; closes the result."""
    assert result.cursor is not None
    rows: Sequence[Sequence[Any]] = result.cursor.fetchall()
    result.close()
    return rows


def columns_of(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    """The rows as `width` columns."""
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


_folder = and_(message.c.mailbox_id == bindparam("mailbox"), message.c.folder_id == bindparam("folder"))
_facts = select(folder.c.change_number, folder.c.uid_next, folder.c.recent_uid).where(
    folder.c.mailbox_id == bindparam("mailbox"), folder.c.folder_id == bindparam("folder")
)
_whole = (
    select(message.c.uid, message.c.message_id, message.c.flags, message.c.keywords, message.c.change_number)
    .where(_folder, message.c.uid.between(bindparam("first"), bindparam("last")))
    .order_by(message.c.uid)
    .limit(bindparam("most"))
)
_maildrop = (
    select(message.c.uid, message.c.message_id, message.c.size_octets)
    .where(_folder, message.c.uid > bindparam("after"))
    .order_by(message.c.uid)
    .limit(bindparam("most"))
)


@cache
def _changed_after(kind: Kind) -> Select[*tuple[Any, ...]]:
    source, condition = chosen(kind)
    return (
        select(message.c.message_id, message.c.uid)
        .select_from(source)
        .where(condition, message.c.change_number > bindparam("limit"))
        .order_by(key_of(kind))
    )


@cache
def _page(kind: Kind, names: tuple[str, ...], changed: bool, loaded: Loaded) -> Select[*tuple[Any, ...]]:
    source, condition = chosen(kind)
    columns: list[ColumnElement[Any]] = [listing.c[name] if name in OF_LISTING else message.c[name] for name in names]
    if not OF_LISTING.isdisjoint(names):
        source = join_from(source, listing, SHOWS)
    if loaded is Loaded.STORED:
        columns += STORED
        source = with_octets(join_from(source, content, content.c.content_id == message.c.content_id))
    elif loaded is Loaded.OCTETS:
        columns.append(content_octets.c.octets)
        source = with_octets(source, message.c.content_id)
    statement = select(*columns).select_from(source).where(condition)
    if changed:
        statement = statement.where(message.c.change_number > bindparam("since"))
    return statement.order_by(key_of(kind)).limit(bindparam("most"))
