"""Every invariant of the store as a query. `check` names the broken ones; a sound store gives an empty list."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, and_, case, exists, func, or_, select

from restante_mail.idset import IdSet
from restante_server.db.schema import (
    CONTENT_HOLDERS,
    content,
    content_garbage,
    content_octets,
    folder,
    listing,
    mailbox,
    message,
    recoverable,
    removed,
    tombstone,
)
from restante_server.store.contents import ContentState, Location
from restante_server.store.folders import Role
from restante_server.store.messages import ALL_FLAGS
from restante_server.store.rows import SHOWS
from restante_server.store.selection import FLAG_DELETED, FLAG_SEEN

MOST_NAMED = 10  # examples listed for one broken invariant


def check(tx: Connection) -> list[str]:
    """Return one line for each violation, with its ids. Reads every row of all mailboxes in one snapshot."""
    problems: list[str] = []
    for what, statement in _INVARIANTS:
        broken = tx.execute(statement.limit(MOST_NAMED).execution_options(across_mailboxes=True)).mappings()
        problems += [f"{what}: {', '.join(f'{name} {value}' for name, value in row.items())}" for row in broken]
    problems += _packed_sets(tx)
    return problems


def _missing(row: FromClause, other: FromClause, *pairs: str) -> ColumnElement[bool]:
    """The condition that no row of `other` has the same values in these columns."""
    return ~exists().where(*(row.c[name] == other.c[name] for name in pairs))


def _sum(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


_FOLDER = (folder.c.mailbox_id, folder.c.folder_id)
_MESSAGE = (message.c.mailbox_id, message.c.message_id)
_PLACED = message.c.folder_id.is_not(None)
_KEPT = exists().where(
    recoverable.c.mailbox_id == message.c.mailbox_id, recoverable.c.message_id == message.c.message_id
)
_HOME = and_(listing.c.mailbox_id == content.c.listed_in, listing.c.content_id == content.c.content_id)
_SAME_FOLDER = and_(message.c.mailbox_id == folder.c.mailbox_id, message.c.folder_id == folder.c.folder_id)


def _folder_sums() -> Select[*tuple[Any, ...]]:
    """Folders whose counters differ from the sums over their messages."""
    real = (
        select(
            *_FOLDER,
            func.count(message.c.message_id).label("messages"),
            _sum(and_(message.c.message_id.is_not(None), message.c.flags.bitwise_and(FLAG_SEEN) == 0)).label("unread"),
            _sum(message.c.flags.bitwise_and(FLAG_DELETED) != 0).label("deleted"),
            func.coalesce(func.sum(message.c.size_octets), 0).label("octets"),
            func.coalesce(func.max(message.c.uid), 0).label("uid"),
            func.coalesce(func.max(message.c.change_number), 0).label("number"),
        )
        .select_from(folder.outerjoin(message, _SAME_FOLDER))
        .group_by(*_FOLDER)
        .subquery("real")
    )
    return (
        select(
            *_FOLDER,
            folder.c.message_count,
            real.c.messages,
            folder.c.unread_count,
            real.c.unread,
            folder.c.deleted_count,
            real.c.deleted,
            folder.c.size_octets,
            real.c.octets,
            folder.c.uid_next,
            real.c.uid,
            folder.c.change_number,
            real.c.number,
        )
        .join_from(folder, real, and_(real.c.mailbox_id == folder.c.mailbox_id, real.c.folder_id == folder.c.folder_id))
        .where(
            or_(
                folder.c.message_count != real.c.messages,
                folder.c.unread_count != real.c.unread,
                folder.c.deleted_count != real.c.deleted,
                folder.c.size_octets != real.c.octets,
                folder.c.uid_next <= real.c.uid,
                folder.c.change_number < real.c.number,
            )
        )
    )


def _mailbox_sums() -> Select[*tuple[Any, ...]]:
    """Mailboxes whose counters differ from the sums over their messages."""
    real = (
        select(
            mailbox.c.mailbox_id,
            _sum(_PLACED).label("messages"),
            func.coalesce(func.sum(case((_PLACED, message.c.size_octets), else_=0)), 0).label("used"),
            _sum(and_(message.c.message_id.is_not(None), _KEPT)).label("kept"),
            func.coalesce(func.sum(case((_KEPT, message.c.size_octets), else_=0)), 0).label("kept_octets"),
            func.coalesce(func.max(message.c.change_number), 0).label("number"),
            func.coalesce(func.max(message.c.message_id), 0).label("id"),
        )
        .select_from(mailbox.outerjoin(message, message.c.mailbox_id == mailbox.c.mailbox_id))
        .group_by(mailbox.c.mailbox_id)
        .subquery("real")
    )
    return (
        select(
            mailbox.c.mailbox_id,
            mailbox.c.message_count,
            real.c.messages,
            mailbox.c.used_octets,
            real.c.used,
            mailbox.c.recoverable_count,
            real.c.kept,
            mailbox.c.recoverable_octets,
            real.c.kept_octets,
            mailbox.c.change_number,
            real.c.number,
            mailbox.c.next_message_id,
            real.c.id,
        )
        .join_from(mailbox, real, real.c.mailbox_id == mailbox.c.mailbox_id)
        .where(
            or_(
                mailbox.c.message_count != real.c.messages,
                mailbox.c.used_octets != real.c.used,
                mailbox.c.recoverable_count != real.c.kept,
                mailbox.c.recoverable_octets != real.c.kept_octets,
                mailbox.c.change_number < real.c.number,
                mailbox.c.next_message_id <= real.c.id,
            )
        )
    )


def _folder_rules() -> list[tuple[str, Select[*tuple[Any, ...]]]]:
    parent = folder.alias("parent")
    owner = and_(mailbox.c.mailbox_id == folder.c.mailbox_id)
    return [
        ("folder without a mailbox", select(*_FOLDER).where(_missing(folder, mailbox, "mailbox_id"))),
        (
            "folder without its parent",
            select(*_FOLDER, folder.c.parent_folder_id).where(
                folder.c.parent_folder_id != 0,
                ~exists().where(
                    parent.c.mailbox_id == folder.c.mailbox_id, parent.c.folder_id == folder.c.parent_folder_id
                ),
            ),
        ),
        (
            "role that several folders have",
            select(folder.c.mailbox_id, folder.c.role, func.count().label("folders"))
            .where(folder.c.role != Role.NONE)
            .group_by(folder.c.mailbox_id, folder.c.role)
            .having(func.count() > 1),
        ),
        (
            "mailbox without an Inbox",
            select(mailbox.c.mailbox_id).where(
                ~exists().where(folder.c.mailbox_id == mailbox.c.mailbox_id, folder.c.role == Role.INBOX)
            ),
        ),
        (
            "folder with a change number above its mailbox's",
            select(*_FOLDER, folder.c.change_number, mailbox.c.change_number.label("mailbox_number"))
            .join_from(folder, mailbox, owner)
            .where(
                or_(folder.c.change_number > mailbox.c.change_number, folder.c.folder_id >= mailbox.c.next_folder_id)
            ),
        ),
        (
            "folder with a \\Recent boundary above UIDNEXT",
            select(*_FOLDER, folder.c.recent_uid, folder.c.uid_next).where(folder.c.recent_uid > folder.c.uid_next),
        ),
        (
            "UIDVALIDITY that several folders have",
            select(folder.c.uid_validity, func.count().label("folders"))
            .group_by(folder.c.uid_validity)
            .having(func.count() > 1),
        ),
    ]


def _message_rules() -> list[tuple[str, Select[*tuple[Any, ...]]]]:
    key = ("mailbox_id", "message_id")
    place = (*_MESSAGE, message.c.folder_id)
    return [
        ("message without a mailbox", select(*_MESSAGE).where(_missing(message, mailbox, "mailbox_id"))),
        (
            "message without its folder",
            select(*place).where(_PLACED, _missing(message, folder, "mailbox_id", "folder_id")),
        ),
        ("message with a folder or a UID, but not both", select(*place).where(message.c.uid.is_not(None) != _PLACED)),
        ("message with unknown flags", select(*_MESSAGE).where(message.c.flags.bitwise_and(~ALL_FLAGS) != 0)),
        ("message without a listing", select(*_MESSAGE).where(~exists().where(SHOWS))),
        (
            "listing without a content, or under another mailbox than the content says",
            select(listing.c.mailbox_id, listing.c.content_id).where(~exists().where(_HOME)),
        ),
        (
            "content without the listing that it says it has",
            select(content.c.content_id).where(
                content.c.state == ContentState.LIVE, content.c.listed_in.is_not(None), ~exists().where(_HOME)
            ),
        ),
        (
            "message without a folder, neither recoverable nor removed",
            select(*_MESSAGE).where(~_PLACED, _missing(message, recoverable, *key), _missing(message, removed, *key)),
        ),
        (
            "recoverable entry of a message in a folder or of no message",
            select(recoverable.c.mailbox_id, recoverable.c.message_id).where(
                ~exists().where(
                    message.c.mailbox_id == recoverable.c.mailbox_id,
                    message.c.message_id == recoverable.c.message_id,
                    ~_PLACED,
                )
            ),
        ),
        (
            "removal entry of a message in a folder, of a recoverable one or of no message",
            select(removed.c.mailbox_id, removed.c.message_id).where(
                ~exists().where(
                    message.c.mailbox_id == removed.c.mailbox_id,
                    message.c.message_id == removed.c.message_id,
                    ~_PLACED,
                    _missing(message, recoverable, *key),
                )
            ),
        ),
        (
            "tombstone with a change number above its mailbox's or below its history",
            select(tombstone.c.mailbox_id, tombstone.c.change_number, tombstone.c.folder_id)
            .join_from(tombstone, mailbox, mailbox.c.mailbox_id == tombstone.c.mailbox_id, isouter=True)
            .where(
                or_(
                    mailbox.c.mailbox_id.is_(None),
                    tombstone.c.change_number > mailbox.c.change_number,
                    tombstone.c.change_number <= mailbox.c.history_from,
                )
            ),
        ),
        (
            "tombstone with a change number above its folder's",
            select(tombstone.c.mailbox_id, tombstone.c.change_number, tombstone.c.folder_id)
            .join_from(
                tombstone,
                folder,
                and_(folder.c.mailbox_id == tombstone.c.mailbox_id, folder.c.folder_id == tombstone.c.folder_id),
            )
            .where(tombstone.c.change_number > folder.c.change_number),
        ),
    ]


def _content_rules() -> list[tuple[str, Select[*tuple[Any, ...]]]]:
    alive = exists().where(content.c.content_id == message.c.content_id, content.c.state == ContentState.LIVE)
    rules: list[tuple[str, Select[*tuple[Any, ...]]]] = [
        ("message without a live content", select(*_MESSAGE, message.c.content_id).where(~alive)),
        (
            "message with a size other than that of head and content",
            select(*_MESSAGE, message.c.size_octets, content.c.size_octets.label("content_octets"))
            .join_from(message, content, content.c.content_id == message.c.content_id)
            .where(message.c.size_octets != content.c.size_octets + func.length(message.c.head)),
        ),
        (
            "content without octets in the database, or without a file name",
            select(content.c.content_id).where(
                content.c.state == ContentState.LIVE,
                or_(
                    and_(content.c.place == Location.DATABASE, _missing(content, content_octets, "content_id")),
                    and_(content.c.place == Location.FILE, content.c.file_name.is_(None)),
                ),
            ),
        ),
        (
            "content with a size other than that of its octets",
            select(content.c.content_id)
            .join_from(content, content_octets, content_octets.c.content_id == content.c.content_id)
            .where(func.length(content_octets.c.octets) != content.c.size_octets),
        ),
        (
            "results of checks without their summary, or a summary without them",
            select(listing.c.mailbox_id, listing.c.content_id).where(
                (func.length(listing.c.checks) > 0) != (listing.c.check_results > 0)
            ),
        ),
        (
            "octets without a content",
            select(content_octets.c.content_id).where(_missing(content_octets, content, "content_id")),
        ),
        (
            "content without a holder that the collector does not know of",
            select(content.c.content_id).where(
                content.c.state == ContentState.LIVE,
                *(
                    ~exists().where(held == content.c.content_id)
                    for held in (*CONTENT_HOLDERS, content_garbage.c.content_id)
                ),
            ),
        ),
    ]
    for held in CONTENT_HOLDERS:
        if held.table is not message:  # message has a rule above, which lists message ids
            live = exists().where(content.c.content_id == held, content.c.state == ContentState.LIVE)
            rules.append((f"{held.table.name} without a live content", select(held).where(held > 0, ~live)))
    return rules


_INVARIANTS: list[tuple[str, Select[*tuple[Any, ...]]]] = [
    ("folder with counters other than its messages give", _folder_sums()),
    ("mailbox with counters other than its messages give", _mailbox_sums()),
    *_folder_rules(),
    *_message_rules(),
    *_content_rules(),
]


def _packed_sets(tx: Connection) -> list[str]:
    """Tombstones that cannot be decoded, or whose counts of UIDs and of message ids differ."""
    problems = []
    rows = tx.execute(
        select(tombstone.c.mailbox_id, tombstone.c.change_number, tombstone.c.uids, tombstone.c.message_ids)
        .order_by(tombstone.c.mailbox_id, tombstone.c.change_number)
        .execution_options(across_mailboxes=True)
    )
    for mailbox_id, number, uids, message_ids in rows:
        try:
            sound = len(IdSet.unpack(uids)) == len(IdSet.unpack(message_ids))
        except ValueError:
            sound = False
        if not sound:
            problems.append(f"tombstone with unequal or unreadable sets: mailbox_id {mailbox_id}, change {number}")
    return problems
