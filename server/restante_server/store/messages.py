"""Placing messages in folders, many at a time: one `executemany` for each table, over any number of mailboxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, bindparam, exists, insert, or_, select, update

from restante.errors import FolderNotFound, LimitExceeded, MessageNotFound
from restante_mail.idset import EMPTY
from restante_mail.mime.facts import Facts
from restante_server.db import prepared
from restante_server.db.schema import content, folder, listing, mailbox, message, recoverable
from restante_server.directory.rights import Place
from restante_server.store import changes, keywords
from restante_server.store.folders import HIGHEST_UID
from restante_server.store.listing import Listing, listing_of
from restante_server.store.mailboxes import check_quota
from restante_server.store.rows import SHOWS
from restante_server.store.runs import JsonRows, encode_rows, join_from
from restante_server.store.selection import FLAG_DELETED, FLAG_DRAFT, FLAG_SEEN

ALL_FLAGS = 31  # seen, answered, flagged, deleted, draft


class NewMessage(NamedTuple):
    """A message to be placed. Its content must be in the store, and locked or made in this transaction.

    `facts` may be the Listing that `listing_of` makes of them. A Listing made before the write is queued takes no time
    in the write lane.
    """

    content_id: int
    content_size: int  # octets, without the head
    facts: Facts | Listing
    head: bytes = b""  # 8 KiB at most
    flags: int = 0
    keywords: tuple[str, ...] = ()
    received_at: int = 0  # microseconds
    received_offset_minutes: int = 0
    content_is_new: bool = False  # made in this transaction, so it has no listing yet

    @property
    def size_octets(self) -> int:
        return len(self.head) + self.content_size


class Placement(NamedTuple):
    """One message and the folder that it goes to."""

    place: Place
    message: NewMessage


class Placed(NamedTuple):
    """The ids of one message that was placed."""

    message_id: int
    uid: int
    uid_validity: int
    change_number: int
    since: int = 0  # the folder's change number before the placement; 0: no longer known


@dataclass(slots=True)
class _Target:
    """One folder that gets messages: its state before the set, and the sums that the set adds to its counters."""

    place: Place
    uid_next: int
    uid_validity: int
    change_number: int
    recent_uid: int
    count: int = 0
    unread: int = 0
    deleted: int = 0
    octets: int = 0


@dataclass(slots=True)
class _Counters:
    """One mailbox that gets messages: its state before the set, and the sums that the set adds."""

    place: Place
    change_number: int
    next_message_id: int
    quota_octets: int | None
    used_octets: int
    count: int = 0
    octets: int = 0


_pairs = JsonRows("pairs")
_counters = select(
    mailbox.c.mailbox_id,
    folder.c.folder_id,
    mailbox.c.change_number,
    mailbox.c.next_message_id,
    mailbox.c.quota_octets,
    mailbox.c.used_octets,
    folder.c.uid_next,
    folder.c.uid_validity,
    folder.c.change_number,
    folder.c.recent_uid,
).select_from(
    join_from(
        join_from(_pairs.rows, mailbox, mailbox.c.mailbox_id == _pairs.item(0)),
        folder,
        and_(folder.c.mailbox_id == mailbox.c.mailbox_id, folder.c.folder_id == _pairs.item(1)),
    )
)
_add_to_mailbox = (
    update(mailbox)
    .where(mailbox.c.mailbox_id == bindparam("mailbox"))
    .values(
        change_number=mailbox.c.change_number + 1,
        next_message_id=mailbox.c.next_message_id + bindparam("count"),
        used_octets=mailbox.c.used_octets + bindparam("octets"),
        message_count=mailbox.c.message_count + bindparam("count"),
    )
)
_add_to_folder = (
    update(folder)
    .where(folder.c.mailbox_id == bindparam("mailbox"), folder.c.folder_id == bindparam("folder"))
    .values(
        change_number=bindparam("number"),
        uid_next=folder.c.uid_next + bindparam("count"),
        message_count=folder.c.message_count + bindparam("count"),
        unread_count=folder.c.unread_count + bindparam("unread"),
        deleted_count=folder.c.deleted_count + bindparam("deleted"),
        size_octets=folder.c.size_octets + bindparam("octets"),
    )
)
_insert_message, _insert_listing = insert(message), insert(listing)
_contents = JsonRows("contents")
_listed = (
    select(content.c.content_id, content.c.listed_in)
    .select_from(join_from(_contents.rows, content, content.c.content_id == _contents.item(0)))
    .where(content.c.listed_in.is_not(None))
)
_list_in = update(content).where(content.c.content_id == bindparam("content")).values(listed_in=bindparam("mailbox"))
_draft = select(message.c.message_id).where(
    message.c.mailbox_id == bindparam("mailbox"),
    message.c.message_id == bindparam("id"),
    message.c.folder_id.is_not(None),
    message.c.flags.bitwise_and(FLAG_DRAFT) > 0,
)
_content_of = select(message.c.content_id, message.c.head).where(
    message.c.mailbox_id == bindparam("mailbox"), message.c.message_id == bindparam("id")
)
_not_removed = or_(
    message.c.folder_id.is_not(None),
    exists().where(recoverable.c.mailbox_id == message.c.mailbox_id, recoverable.c.message_id == message.c.message_id),
)
_content_of_present = _content_of.where(_not_removed)
_check_results = (
    select(listing.c.check_results)
    .join(message, SHOWS)
    .where(message.c.mailbox_id == bindparam("mailbox"), message.c.message_id == bindparam("id"))
)


def add(tx: Connection, place: Place, items: Sequence[NewMessage], *, within_quota: bool = True) -> list[Placed]:
    """Place messages in the folder of `place`, in order. See `add_all`."""
    return add_all(tx, [Placement(place, item) for item in items], within_quota=within_quota)


def add_all(tx: Connection, placements: Sequence[Placement], *, within_quota: bool = True) -> list[Placed]:
    """Place messages in any folders of any mailboxes (whose rows this transaction has locked).

    Each mailbox takes one change number for all its new messages. Returns the ids of each message, in order.
    `within_quota` False skips the quota check, for mail that the system has already accepted. Raises FolderNotFound,
    QuotaExceeded, LimitExceeded (UIDs, keywords); the caller's savepoint then undoes the writes.
    """
    if not placements:
        return []
    counters, targets = _read_counters(tx, placements)
    spelled = _spell(tx, placements)
    made: dict[int, Listing] = {}  # by identity of the facts, which the recipients of one message share
    placed: list[Placed] = []
    message_rows: list[dict[str, Any]] = []
    listing_rows: list[dict[str, Any]] = []
    listed_in = _listed_in(tx, placements)
    for at, (place, item) in enumerate(placements):
        mailbox_id, folder_id = place.mailbox_id, place.folder_id
        owner, target = counters[mailbox_id], targets[mailbox_id, folder_id]
        size, flags = item.size_octets, item.flags & ALL_FLAGS
        is_first = item.content_id not in listed_in
        where = Placed(
            owner.next_message_id + owner.count,
            target.uid_next + target.count,
            target.uid_validity,
            owner.change_number + 1,
            target.change_number,
        )
        owner.count += 1
        owner.octets += size
        target.count += 1
        target.octets += size
        target.unread += not flags & FLAG_SEEN
        target.deleted += flags & FLAG_DELETED > 0
        placed.append(where)
        message_rows.append(
            {
                "mailbox_id": mailbox_id,
                "message_id": where.message_id,
                "folder_id": folder_id,
                "uid": where.uid,
                "flags": flags,
                "keywords": spelled.get(at, ""),
                "change_number": where.change_number,
                "received_at": item.received_at,
                "received_offset_minutes": item.received_offset_minutes,
                "size_octets": size,
                "content_id": item.content_id,
                "listed_in": listed_in.setdefault(item.content_id, mailbox_id),
                "head": item.head,
            }
        )
        if not is_first:
            continue
        shown = item.facts if isinstance(item.facts, Listing) else made.get(id(item.facts))
        if shown is None:
            assert isinstance(item.facts, Facts)
            shown = made[id(item.facts)] = listing_of(item.facts)
        listing_rows.append(_listing_row(mailbox_id, item.content_id, shown))
    _write_counters(tx, counters, targets, within_quota)
    prepared.run_many(tx, _insert_message, message_rows)
    prepared.run_many(tx, _insert_listing, listing_rows)
    prepared.run_many(
        tx, _list_in, [{"content": row["content_id"], "mailbox": row["mailbox_id"]} for row in listing_rows]
    )
    _note_deltas(tx, targets, message_rows)
    return placed


def _note_deltas(tx: Connection, targets: dict[tuple[int, int], _Target], rows: Sequence[dict[str, Any]]) -> None:
    """Note the new messages in the change event, so that watchers of these folders need not read them."""
    if len(rows) > changes.MOST_NOTED:
        return
    placed: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for row in rows:
        placed.setdefault((row["mailbox_id"], row["folder_id"]), []).append(row)
    deltas = []
    for (mailbox_id, folder_id), new in placed.items():
        target = targets[mailbox_id, folder_id]
        delta = changes.FolderDelta(
            folder_id=folder_id,
            since=target.change_number,
            change_number=new[-1]["change_number"],
            uids=[row["uid"] for row in new],
            message_ids=[row["message_id"] for row in new],
            flags=[row["flags"] for row in new],
            keywords=[row["keywords"] for row in new],
            change_numbers=[row["change_number"] for row in new],
            vanished=EMPTY,
            uid_next=new[-1]["uid"] + 1,
            recent_uid=target.recent_uid,
        )
        deltas.append((target.place, delta))
    changes.note_deltas(tx, deltas)


def is_draft(tx: Connection, place: Place, message_id: int) -> bool:
    """Whether a message exists in a folder and has FLAG_DRAFT."""
    return prepared.first(tx, _draft, {"mailbox": place.mailbox_id, "id": message_id}) is not None


def content_of(tx: Connection, place: Place, message_id: int, *, removed: bool = False) -> tuple[int, bytes]:
    """(content id, head) of a message, which may be recoverable, or with `removed` under a lease.

    Raises MessageNotFound.
    """
    statement = _content_of if removed else _content_of_present
    row = prepared.first(tx, statement, {"mailbox": place.mailbox_id, "id": message_id})
    if row is None:
        raise MessageNotFound(message_id=message_id)
    return row[0], bytes(row[1])


def was_checked(tx: Connection, place: Place, message_id: int) -> bool:
    """Whether the content of a message has results of checks, which were made when it came from another server."""
    row = prepared.first(tx, _check_results, {"mailbox": place.mailbox_id, "id": message_id})
    return row is not None and bool(row[0])


def _read_counters(
    tx: Connection, placements: Sequence[Placement]
) -> tuple[dict[int, _Counters], dict[tuple[int, int], _Target]]:
    wanted = {(place.mailbox_id, place.folder_id): place for place, _ in placements}
    counters: dict[int, _Counters] = {}
    targets: dict[tuple[int, int], _Target] = {}
    for row in prepared.rows(tx, _counters, {"pairs": encode_rows(sorted(wanted))}):
        place = wanted[row[0], row[1]]
        if row[0] not in counters:
            counters[row[0]] = _Counters(place, row[2], row[3], row[4], row[5])
        targets[row[0], row[1]] = _Target(place, *row[6:])
    for mailbox_id, folder_id in sorted(wanted):
        if (mailbox_id, folder_id) not in targets:
            raise FolderNotFound(folder_id=folder_id)
    return counters, targets


def _write_counters(
    tx: Connection, counters: dict[int, _Counters], targets: dict[tuple[int, int], _Target], within_quota: bool
) -> None:
    for owner in counters.values():
        if within_quota:
            check_quota(owner.quota_octets, owner.used_octets, owner.octets)
    prepared.run_many(
        tx,
        _add_to_mailbox,
        [
            {"mailbox": mailbox_id, "count": owner.count, "octets": owner.octets}
            for mailbox_id, owner in counters.items()
        ],
    )
    rows = []
    for (mailbox_id, folder_id), target in targets.items():
        if target.uid_next + target.count - 1 > HIGHEST_UID:
            raise LimitExceeded(limit="uids", value=HIGHEST_UID)
        number = counters[mailbox_id].change_number + 1
        rows.append(
            {
                "mailbox": mailbox_id,
                "folder": folder_id,
                "number": number,
                "count": target.count,
                "unread": target.unread,
                "deleted": target.deleted,
                "octets": target.octets,
            }
        )
    touched = [(target.place, counters[target.place.mailbox_id].change_number + 1) for target in targets.values()]
    changes.touch_folders(tx, touched)
    prepared.run_many(tx, _add_to_folder, rows)


def _spell(tx: Connection, placements: Sequence[Placement]) -> dict[int, str]:
    """The keyword column of the placements that have keywords, by position."""
    columns: dict[int, str] = {}
    known: dict[int, set[str]] = {}  # by mailbox: those of earlier placements
    for at, (place, item) in enumerate(placements):
        if item.keywords:
            keep = known.setdefault(place.mailbox_id, set())
            spelled = keywords.spell(tx, place, item.keywords, keep)
            keep |= spelled
            columns[at] = keywords.column(spelled)
    return columns


def _listed_in(tx: Connection, placements: Sequence[Placement]) -> dict[int, int]:
    """{content: mailbox under which its listing lies} of the contents that have a listing."""
    known = {(item.content_id,) for _, item in placements if not item.content_is_new}
    return dict(prepared.rows(tx, _listed, {"contents": encode_rows(sorted(known))})) if known else {}


def _listing_row(mailbox_id: int, content_id: int, shown: Listing) -> dict[str, Any]:
    return {
        "mailbox_id": mailbox_id,
        "content_id": content_id,
        "envelope": shown.envelope,
        "body_structure": shown.body_structure,
        "body": shown.body,
        "summary": shown.summary,
        "preview": shown.preview,
        "attachment_count": shown.attachment_count,
        "sent_at": shown.sent_at,
        "sent_offset_minutes": shown.sent_offset_minutes,
        "subject_key": shown.subject_key,
        "sort_subject_key": shown.sort_subject_key,
        "sort_from_key": shown.sort_from_key,
        "from_key": shown.from_key,
        "to_key": shown.to_key,
        "cc_key": shown.cc_key,
        "bcc_key": shown.bcc_key,
        "checks": shown.checks,
        "check_results": shown.check_results,
    }
