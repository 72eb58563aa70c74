"""Deleting messages to the Trash, softly (recoverable for the retention time) or permanently (`erasure`), and
recovering them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Insert,
    Update,
    and_,
    bindparam,
    delete,
    exists,
    insert,
    null,
    select,
    update,
)

from restante.errors import FolderHasChildren, FolderIsSpecial
from restante_mail.idset import EMPTY, IdSet
from restante_server.db import prepared
from restante_server.db.schema import (
    folder,
    job,
    keyword,
    listing,
    mailbox,
    maildrop_lease,
    message,
    recoverable,
    request,
    subscription,
    tombstone,
)
from restante_server.directory import rights
from restante_server.directory.rights import Place
from restante_server.store import changes, erasure, folders, rows, transfer
from restante_server.store.changes import Removal, Tombstone
from restante_server.store.folders import Role, Tally
from restante_server.store.found import Found, find
from restante_server.store.mailboxes import check_quota
from restante_server.store.runs import JsonRows, encode_runs, join_from
from restante_server.store.selection import FLAG_DELETED, FLAG_SEEN, Kind, Listed, Selection, chosen, members


class Mode(IntEnum):
    """The destination of deleted messages; the values of restante.v1.DeleteMode."""

    TO_TRASH = 1
    SOFT = 2
    HARD = 3


@dataclass(frozen=True, slots=True)
class Deleted:
    """The deleted messages, with their former UIDs. `change_number` is None when no message was deleted."""

    messages: Listed
    change_number: int | None
    left: Listed = Listed()  # messages that stay because they had changed after if_change_number


class Recovered(NamedTuple):
    """The recovered messages in columns, in the order of their ids. `change_number` is None when there are none."""

    message_ids: Sequence[int] = ()
    folder_ids: Sequence[int] = ()
    uids: Sequence[int] = ()
    change_number: int | None = None


class Recoverable(NamedTuple):
    """A deleted message that can be recovered. Times in microseconds."""

    message_id: int
    from_folder_id: int
    deleted_at: int
    size_octets: int
    summary: bytes  # serialised restante.v1.MessageSummary


# --- Deleting -------------------------------------------------------------------------------------------------------


def remove(
    tx: Connection,
    place: Place,
    selection: Selection,
    mode: Mode,
    now: int,
    *,
    if_change_number: int | None = None,
) -> Deleted:
    """Delete the messages that exist. Mode.TO_TRASH deletes softly in the Trash and in a mailbox that has none.

    A message whose change number is above `if_change_number` stays. Raises FolderNotFound.
    """
    if selection.folder_id is not None:
        rights.within(tx, place, selection.folder_id)
    found = find(tx, place, selection, if_change_number)
    left = rows.changed_after(tx, place, selection, if_change_number)
    if not found:
        return Deleted(Listed(), None, left)
    number = changes.next_number(tx, place)
    trash = folders.with_role(tx, place, Role.TRASH) if mode is Mode.TO_TRASH else None
    if mode is Mode.HARD:
        destroy(tx, place, selection, found, number, now)
    elif trash is None:
        _hide(tx, place, selection, found, number, now, Removal.SOFT)
    else:
        inside = found.where(lambda folder_id: folder_id == trash.folder_id)
        outside = found.where(lambda folder_id: folder_id != trash.folder_id)
        if inside:
            _hide(tx, place, selection, inside, number, now, Removal.SOFT)
        if outside:
            transfer.move_found(tx, place, selection, outside, trash, number, now)
    return Deleted(found.listed, number, left)


def delete_folder(tx: Connection, place: Place, now: int) -> tuple[int, int]:
    """Delete the place's folder; its messages stay recoverable.

    Returns (number of messages deleted with it, change number). Raises FolderNotFound, FolderHasChildren,
    FolderIsSpecial (Inbox).
    """
    folder_id = place.folder_id
    if folders.role_of(tx, place) is Role.INBOX:
        raise FolderIsSpecial(role="INBOX")
    if folders.has_children(tx, place):
        raise FolderHasChildren(folder_id=folder_id)
    everything = Selection(folder_id, IdSet(((1, folders.HIGHEST_UID),)))
    found = find(tx, place, everything)
    number = changes.next_number(tx, place)
    if found:
        _hide(tx, place, everything, found, number, now, Removal.FOLDER)
    else:
        changes.write_tombstones(tx, place, now, [Tombstone(number, folder_id, Removal.FOLDER, 0, EMPTY, EMPTY)])
    changes.touch(tx, place, number, folder_id)
    tx.execute(_drop_folder, {"mailbox": place.mailbox_id, "folder": folder_id})
    return len(found), number


def _hide(
    tx: Connection, place: Place, selection: Selection, found: Found, number: int, now: int, kind: Removal
) -> None:
    """Take messages out of their folders and keep them recoverable."""
    exactly = selection.narrowed(found.ids)
    where = exactly.parameters(place.mailbox_id)
    prepared.run(tx, _keep(exactly.kind), where | {"now": now})
    prepared.run(tx, _take_out(exactly.kind), where | {"number": number})
    transfer.leave(tx, place, found, number, now, kind)
    prepared.run(tx, _to_recoverable, {"mailbox": place.mailbox_id, "count": len(found), "octets": found.tally.octets})


def destroy(tx: Connection, place: Place, selection: Selection, found: Found, number: int, now: int) -> None:
    """Remove the messages `found` of `selection` permanently, under the change number that the caller has taken."""
    exactly = selection.narrowed(found.ids)
    erasure.lease(tx, place, exactly)
    prepared.run(tx, _take_out(exactly.kind), exactly.parameters(place.mailbox_id, number=number))
    transfer.leave(tx, place, found, number, now, Removal.HARD)
    prepared.run(tx, _from_mailbox, {"mailbox": place.mailbox_id, "count": len(found), "octets": found.tally.octets})


# --- Recoverable messages -------------------------------------------------------------------------------------------


def recoverable_page(tx: Connection, place: Place, after: tuple[int, int] | None, most: int) -> list[Recoverable]:
    """Recoverable messages, latest first, behind the (deleted_at, message id) at which the page before ended."""
    deleted_at, message_id = after or (1 << 62, 0)
    where = {"mailbox": place.mailbox_id, "at": deleted_at, "id": message_id, "most": most}
    return [Recoverable(*row[:4], bytes(row[4])) for row in tx.execute(_page, where)]


def recover(tx: Connection, place: Place, message_ids: IdSet, now: int, *, target: Place | None = None) -> Recovered:
    """Put recoverable messages back, with new UIDs and without FLAG_DELETED, in the order of their ids.

    They go into `target`; without it each goes into its former folder, or the Inbox when that folder is gone.
    Raises QuotaExceeded, LimitExceeded (UIDs).
    """
    lost = tx.execute(_lost, {"mailbox": place.mailbox_id, "runs": encode_runs(message_ids)}).all()
    if not lost:
        return Recovered()
    number = changes.next_number(tx, place)
    octets = sum(row.size_octets for row in lost)
    counters = tx.execute(_back_to_mailbox, {"mailbox": place.mailbox_id, "count": len(lost), "octets": octets}).one()
    check_quota(counters.quota_octets, counters.used_octets - octets, octets)
    by_target: dict[int, list[tuple[int, int, int]]] = {}
    inbox = folders.inbox(tx, place).folder_id
    for message_id, flags, size, origin, _, still_there in lost:
        into = target.folder_id if target is not None else (origin if still_there else inbox)
        by_target.setdefault(into, []).append((message_id, flags, size))
    placed: list[dict[str, int]] = []
    places = rights.across(place, by_target)
    for folder_id, back in by_target.items():
        unread = sum(not flags & FLAG_SEEN for _, flags, _ in back)
        tally = Tally(len(back), unread, 0, sum(size for _, _, size in back))
        reserved = folders.reserve_uids(tx, places[folder_id], number, tally)
        placed += [
            {
                "mailbox": place.mailbox_id,
                "id": message_id,
                "into": folder_id,
                "place": reserved.uid + at,
                "number": number,
            }
            for at, (message_id, _, _) in enumerate(back)
        ]
    tx.execute(_put_back, placed)
    recovered, targets, uids = zip(*sorted((row["id"], row["into"], row["place"]) for row in placed), strict=True)
    tx.execute(_drop_recoverable, {"mailbox": place.mailbox_id, "runs": encode_runs(IdSet.from_ascending(recovered))})
    return Recovered(recovered, targets, uids, number)


def purge(tx: Connection, place: Place, message_ids: IdSet, now: int) -> int:
    """Remove recoverable messages permanently; returns their number. Takes no change number."""
    lost = tx.execute(_lost, {"mailbox": place.mailbox_id, "runs": encode_runs(message_ids)}).all()
    if not lost:
        return 0
    gone = IdSet.of(row.message_id for row in lost)
    octets = sum(row.size_octets for row in lost)
    tx.execute(_from_recoverable, {"mailbox": place.mailbox_id, "count": len(lost), "octets": octets})
    tx.execute(_drop_recoverable, {"mailbox": place.mailbox_id, "runs": encode_runs(gone)})
    known_since = now - erasure.LEASE_MICROSECONDS  # every reader knows of the removals before this time
    lately = IdSet.of(row.message_id for row in lost if row.deleted_at > known_since)
    erasure.lease(tx, place, Selection(None, lately, removed=True))
    erasure.erase(tx, place, IdSet.of(row.message_id for row in lost if row.deleted_at <= known_since), now)
    return len(lost)


def due(tx: Connection, before: int, most: int) -> dict[int, IdSet]:
    """Messages deleted before this time, by mailbox, as arguments for `purge`."""
    return erasure.by_mailbox(tx.execute(_due, {"before": before, "most": most}).all())


def trim(tx: Connection, place: Place, limit_octets: int, most: int, now: int) -> int:
    """Purge the oldest recoverable messages, at most `most`, until `limit_octets` remain; returns their number."""
    kept = tx.execute(_recoverable_octets, {"mailbox": place.mailbox_id}).scalar()
    excess = (kept or 0) - limit_octets
    gone: list[int] = []
    for message_id, size in tx.execute(_oldest, {"mailbox": place.mailbox_id, "most": most}):
        if excess <= 0:
            break
        gone.append(message_id)
        excess -= size
    return purge(tx, place, IdSet.of(gone), now)


# --- Whole mailboxes --------------------------------------------------------------------------------------------------


def over(tx: Connection, limit_octets: int, most: int) -> list[int]:
    """Mailboxes that keep more recoverable octets than the limit, as arguments for `trim`."""
    return list(tx.execute(_over, {"limit": limit_octets, "most": most}).scalars())


def ownerless(tx: Connection, most: int) -> list[int]:
    """Mailboxes whose account is gone and that no job names, as arguments for `delete_mailbox`."""
    return list(tx.execute(_ownerless, {"most": most}).scalars())


def delete_mailbox(tx: Connection, place: Place, most: int, now: int) -> int:
    """Remove at most `most` messages of a mailbox without an owner; returns their number.

    0 means that the mailbox had none left, and that the call has removed the mailbox itself.
    """
    if tx.execute(_is_ownerless, {"mailbox": place.mailbox_id}).first() is None:
        return 0
    some = IdSet.of(tx.execute(_some_messages, {"mailbox": place.mailbox_id, "most": most}).scalars())
    if some:
        remove(tx, place, Selection(None, some), Mode.HARD, now)
        purge(tx, place, some, now)
        erasure.end_leases(tx, place, some, now)
        return len(some)
    for statement in _drop_mailbox:
        tx.execute(statement, {"mailbox": place.mailbox_id})
    return 0


# --- Statements -----------------------------------------------------------------------------------------------------

_runs = JsonRows("runs")
_drop_recoverable = erasure.by_runs("recoverable")
_drop_folder = delete(folder).where(
    folder.c.mailbox_id == bindparam("mailbox"), folder.c.folder_id == bindparam("folder")
)


@cache
def _keep(kind: Kind) -> Insert:
    source, condition = chosen(kind)
    rows = (
        select(
            message.c.mailbox_id, message.c.message_id, message.c.folder_id, bindparam("now", type_=message.c.uid.type)
        )
        .select_from(source)
        .where(condition)
    )
    return insert(recoverable).from_select(["mailbox_id", "message_id", "from_folder_id", "deleted_at"], rows)


@cache
def _take_out(kind: Kind) -> Update:
    return update(message).where(members(kind)).values(folder_id=null(), uid=null(), change_number=bindparam("number"))


def _counters(used: int, kept: int) -> Update:
    """An UPDATE of the used and recoverable counters: +1 adds, -1 subtracts, 0 leaves a counter unchanged."""
    octets: ColumnElement[int] = bindparam("octets")
    count: ColumnElement[int] = bindparam("count")
    values: dict[str, ColumnElement[int]] = {}
    if used:
        values["used_octets"] = mailbox.c.used_octets + octets if used > 0 else mailbox.c.used_octets - octets
        values["message_count"] = mailbox.c.message_count + count if used > 0 else mailbox.c.message_count - count
    if kept:
        stay, number = mailbox.c.recoverable_octets, mailbox.c.recoverable_count
        values["recoverable_octets"] = stay + octets if kept > 0 else stay - octets
        values["recoverable_count"] = number + count if kept > 0 else number - count
    return update(mailbox).where(mailbox.c.mailbox_id == bindparam("mailbox")).values(values)


_to_recoverable = _counters(-1, 1)
_from_mailbox = _counters(-1, 0)
_from_recoverable = _counters(0, -1)
_back_to_mailbox = _counters(1, -1).returning(mailbox.c.quota_octets, mailbox.c.used_octets)


_lost = (
    select(
        recoverable.c.message_id,
        message.c.flags,
        message.c.size_octets,
        recoverable.c.from_folder_id,
        recoverable.c.deleted_at,
        folder.c.folder_id.is_not(None).label("still_there"),
    )
    .select_from(
        join_from(
            join_from(
                _runs.rows,
                recoverable,
                and_(
                    recoverable.c.mailbox_id == bindparam("mailbox"),
                    recoverable.c.message_id.between(_runs.item(0), _runs.item(1)),
                ),
            ),
            message,
            and_(message.c.mailbox_id == recoverable.c.mailbox_id, message.c.message_id == recoverable.c.message_id),
        ).outerjoin(
            folder,
            and_(folder.c.mailbox_id == recoverable.c.mailbox_id, folder.c.folder_id == recoverable.c.from_folder_id),
        )
    )
    .order_by(recoverable.c.message_id)
)
_put_back = (
    update(message)
    .where(message.c.mailbox_id == bindparam("mailbox"), message.c.message_id == bindparam("id"))
    .values(
        folder_id=bindparam("into"),
        uid=bindparam("place"),
        change_number=bindparam("number"),
        flags=message.c.flags.bitwise_and(~FLAG_DELETED),
    )
)
_page = (
    select(
        recoverable.c.message_id,
        recoverable.c.from_folder_id,
        recoverable.c.deleted_at,
        message.c.size_octets,
        listing.c.summary,
    )
    .join_from(
        recoverable,
        message,
        and_(message.c.mailbox_id == recoverable.c.mailbox_id, message.c.message_id == recoverable.c.message_id),
    )
    .join(listing, rows.SHOWS)
    .where(
        recoverable.c.mailbox_id == bindparam("mailbox"),
        (recoverable.c.deleted_at < bindparam("at"))
        | ((recoverable.c.deleted_at == bindparam("at")) & (recoverable.c.message_id > bindparam("id"))),
    )
    .order_by(recoverable.c.deleted_at.desc(), recoverable.c.message_id)
    .limit(bindparam("most"))
)
# Reads across mailboxes to find those that have work; changes none.
_due = (
    select(recoverable.c.mailbox_id, recoverable.c.message_id)
    .select_from(join_from(mailbox, recoverable, recoverable.c.mailbox_id == mailbox.c.mailbox_id))
    .where(mailbox.c.recoverable_count > 0, recoverable.c.deleted_at < bindparam("before"))
    .limit(bindparam("most"))
    .execution_options(across_mailboxes=True)
)
_recoverable_octets = select(mailbox.c.recoverable_octets).where(mailbox.c.mailbox_id == bindparam("mailbox"))
_oldest = (
    select(recoverable.c.message_id, message.c.size_octets)
    .join_from(
        recoverable,
        message,
        and_(message.c.mailbox_id == recoverable.c.mailbox_id, message.c.message_id == recoverable.c.message_id),
    )
    .where(recoverable.c.mailbox_id == bindparam("mailbox"))
    .order_by(recoverable.c.deleted_at, recoverable.c.message_id)
    .limit(bindparam("most"))
)
# These read across mailboxes to find those that have work and change none. Both read all rows of `mailbox`, which are
# few and short.
_over = (
    select(mailbox.c.mailbox_id)
    .where(mailbox.c.recoverable_octets > bindparam("limit"))
    .limit(bindparam("most"))
    .execution_options(across_mailboxes=True)
)
_ownerless = (
    select(mailbox.c.mailbox_id)
    .where(mailbox.c.account_id.is_(None), ~exists().where(job.c.mailbox_id == mailbox.c.mailbox_id))
    .limit(bindparam("most"))
    .execution_options(across_mailboxes=True)
)
_is_ownerless = select(mailbox.c.mailbox_id).where(
    mailbox.c.mailbox_id == bindparam("mailbox"), mailbox.c.account_id.is_(None)
)
_some_messages = (
    select(message.c.message_id)
    .where(message.c.mailbox_id == bindparam("mailbox"))
    .order_by(message.c.message_id)
    .limit(bindparam("most"))
)
# The keys of deliveries stay until the acceptance that they belong to is removed.
_drop_mailbox = [
    delete(table).where(table.c.mailbox_id == bindparam("mailbox"))
    for table in (tombstone, folder, subscription, keyword, maildrop_lease, request, mailbox)
]
