"""Folders: the tree, names and roles, and the counters that each folder keeps for its messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from operator import attrgetter
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from restante.errors import (
    ChangeConflict,
    FolderCycle,
    FolderExists,
    FolderIsSpecial,
    FolderNameInvalid,
    FolderNotFound,
    InvalidArgument,
    LimitExceeded,
    MailboxNotFound,
)
from restante_server.db import prepared
from restante_server.db.schema import folder, mailbox, store
from restante_server.directory import rights
from restante_server.directory.rights import Place
from restante_server.store import changes, subscriptions
from restante_server.store.folder_names import DEEPEST, folder_path

MOST_FOLDERS: Final = 10_000  # in one mailbox
HIGHEST_UID: Final = 0xFFFF_FFFF  # RFC 3501 2.3.1.1


class Role(IntEnum):
    """The purpose of a folder; the values of restante.v1.FolderRole."""

    NONE = 0
    INBOX = 1
    SENT = 2
    DRAFTS = 3
    TRASH = 4
    JUNK = 5
    ARCHIVE = 6


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """One folder. Times in microseconds; `path` from the top down to the folder itself."""

    folder_id: int
    parent_folder_id: int  # 0: at the top
    display_name: str
    role: int
    change_number: int
    uid_validity: int
    uid_next: int
    recent_uid: int
    message_count: int
    unread_count: int
    deleted_count: int
    size_octets: int
    created_at: int
    path: tuple[str, ...]
    subscribed: bool


class Tally(NamedTuple):
    """The amounts that some messages add to the counters of their folder."""

    messages: int
    unread: int
    deleted: int
    octets: int

    def negative(self) -> Tally:
        return Tally(-self.messages, -self.unread, -self.deleted, -self.octets)


class Reserved(NamedTuple):
    """A run of UIDs assigned in a folder: `length` of them from `uid` on."""

    uid: int
    length: int
    uid_validity: int


_COLUMNS = tuple(column for column in folder.c if column.name != "mailbox_id")
_NAMES = tuple(column.name for column in _COLUMNS)
_this = (folder.c.mailbox_id == bindparam("mailbox"), folder.c.folder_id == bindparam("folder"))
_one = select(*_COLUMNS).where(*_this)
_all = select(*_COLUMNS).where(folder.c.mailbox_id == bindparam("mailbox")).order_by(folder.c.folder_id)
_parents = select(folder.c.folder_id, folder.c.parent_folder_id).where(folder.c.mailbox_id == bindparam("mailbox"))
_role = select(folder.c.role).where(*_this)
_step_up = select(folder.c.parent_folder_id, folder.c.display_name).where(*_this)
_step_down = select(folder.c.folder_id).where(
    folder.c.mailbox_id == bindparam("mailbox"),
    folder.c.parent_folder_id == bindparam("parent"),
    folder.c.display_name == bindparam("display"),
)
_with_role = select(folder.c.folder_id).where(
    folder.c.mailbox_id == bindparam("mailbox"), folder.c.role == bindparam("purpose")
)
_count = select(func.count()).select_from(folder).where(folder.c.mailbox_id == bindparam("mailbox"))
_child = select(folder.c.folder_id).where(
    folder.c.mailbox_id == bindparam("mailbox"), folder.c.parent_folder_id == bindparam("folder")
)
_next_ids = (
    update(mailbox)
    .where(mailbox.c.mailbox_id == bindparam("mailbox"))
    .values(next_folder_id=mailbox.c.next_folder_id + bindparam("count"))
    .returning(mailbox.c.next_folder_id)
)
_next_uid_validities = (
    update(store)
    .values(uid_validity_next=store.c.uid_validity_next + bindparam("count"))
    .returning(store.c.uid_validity_next)
)
_replace = (
    update(folder)
    .where(*_this)
    .values(parent_folder_id=bindparam("parent"), display_name=bindparam("display"), change_number=bindparam("number"))
)
_set_role = update(folder).where(*_this).values(role=bindparam("purpose"), change_number=bindparam("number"))
_adjust = (
    update(folder)
    .where(*_this)
    .values(
        change_number=bindparam("number"),
        message_count=folder.c.message_count + bindparam("messages"),
        unread_count=folder.c.unread_count + bindparam("unread"),
        deleted_count=folder.c.deleted_count + bindparam("deleted"),
        size_octets=folder.c.size_octets + bindparam("octets"),
    )
)
_reserve = _adjust.values(uid_next=folder.c.uid_next + bindparam("count")).returning(
    folder.c.uid_next, folder.c.uid_validity
)
_recent = select(folder.c.recent_uid, folder.c.uid_next).where(*_this)
_claim = update(folder).where(*_this).values(recent_uid=bindparam("next"))


# --- Reading --------------------------------------------------------------------------------------------------------


def role_of(tx: Connection, place: Place) -> Role:
    """The role of the place's folder. Raises FolderNotFound."""
    row = prepared.first(tx, _role, {"mailbox": place.mailbox_id, "folder": place.folder_id})
    if row is None:
        raise FolderNotFound(folder_id=place.folder_id)
    return Role(row[0])


def get(tx: Connection, place: Place) -> FolderFacts:
    """The place's folder with its path and counts. Raises FolderNotFound."""
    row = prepared.first(tx, _one, {"mailbox": place.mailbox_id, "folder": place.folder_id})
    if row is None:
        raise FolderNotFound(folder_id=place.folder_id)
    known = dict(zip(_NAMES, row, strict=True))
    path = (*path_of(tx, place, known["parent_folder_id"]), known["display_name"])
    return FolderFacts(**known, path=path, subscribed=subscriptions.contains(tx, place, path))


def find(tx: Connection, place: Place, path: Sequence[str], *, parent: int = 0) -> int | None:
    """The folder at a path below `parent` (0: the top, where Inbox is found in any letter case), or None."""
    try:
        names = folder_path(path, at_top=not parent)
    except FolderNameInvalid:  # no folder can have that name
        return None
    for name in names:
        found = prepared.first(tx, _step_down, {"mailbox": place.mailbox_id, "parent": parent, "display": name})
        if found is None:
            return None
        parent = found[0]
    return parent


def named(tx: Connection, place: Place, folder_id: int, path: Sequence[str]) -> Place:
    """The place of a request's folder, which the request names by id or by path.

    Raises FolderNotFound (with the id, if it has one), InvalidArgument when the request has both.
    """
    if not path:
        return rights.within(tx, place, folder_id)
    if folder_id:
        raise InvalidArgument(field="path", problem="must not be given together with a folder id")
    found = find(tx, place, path)
    if found is None:
        raise FolderNotFound
    return rights.across(place, [found])[found]


def with_role(tx: Connection, place: Place, role: int) -> Place | None:
    """The place of the folder that has a role, or None."""
    row = prepared.first(tx, _with_role, {"mailbox": place.mailbox_id, "purpose": role})
    return None if row is None else rights.across(place, row)[row[0]]


def inbox(tx: Connection, place: Place) -> Place:
    """The place of the Inbox, which every mailbox has. Raises MailboxNotFound."""
    found = with_role(tx, place, Role.INBOX)
    if found is None:
        raise MailboxNotFound(mailbox_id=place.mailbox_id)
    return found


def tree(tx: Connection, place: Place) -> list[FolderFacts]:
    """All folders: by their level, so that parents come before children, then by id."""
    subscribed = frozenset(subscriptions.paths(tx, place))
    children: dict[int, list[Row[*tuple[Any, ...]]]] = {}
    for row in tx.execute(_all, {"mailbox": place.mailbox_id}):
        children.setdefault(row.parent_folder_id, []).append(row)
    result: list[FolderFacts] = []
    level: dict[int, tuple[str, ...]] = {0: ()}
    while level:
        rows = sorted((row for parent in level for row in children.get(parent, ())), key=attrgetter("folder_id"))
        paths = {row.folder_id: (*level[row.parent_folder_id], row.display_name) for row in rows}
        result += [_facts(row, paths[row.folder_id], paths[row.folder_id] in subscribed) for row in rows]
        level = paths
    return result


def _facts(row: Row[*tuple[Any, ...]], path: tuple[str, ...], subscribed: bool) -> FolderFacts:
    return FolderFacts(**row._mapping, path=path, subscribed=subscribed)


def path_of(tx: Connection, place: Place, folder_id: int) -> tuple[str, ...]:
    """Names from the top level down to a folder; empty for id 0. Raises FolderNotFound."""
    return tuple(name for _, name in _ancestry(tx, place, folder_id))


def _ancestry(tx: Connection, place: Place, folder_id: int) -> list[tuple[int, str]]:
    """(id, name) of each level from the top down to a folder. Raises FolderNotFound."""
    found: list[tuple[int, str]] = []
    while folder_id:
        row = prepared.first(tx, _step_up, {"mailbox": place.mailbox_id, "folder": folder_id})
        if row is None:
            raise FolderNotFound(folder_id=folder_id)
        found.append((folder_id, row[1]))
        folder_id = row[0]
    return found[::-1]


# --- The tree -------------------------------------------------------------------------------------------------------


def create_default(
    tx: Connection, place: Place, named: Iterable[tuple[str, Role]], now: int, *, subscribe: bool
) -> None:
    """Make the default folders of a new mailbox, at the top level."""
    wanted = list(named)
    change = changes.next_number(tx, place)
    _insert(tx, place, change, [(0, name, role) for name, role in wanted], now)
    if subscribe:
        for name, _ in wanted:
            subscriptions.add(tx, place, (name,))


def create(
    tx: Connection, place: Place, path: Sequence[str], now: int, *, parent: int = 0, role: int = Role.NONE
) -> int:
    """Make a folder and its missing parents; returns its id.

    Raises FolderNotFound (parent), FolderExists, FolderNameInvalid, FolderIsSpecial (the role is taken), LimitExceeded.
    """
    if parent:
        rights.within(tx, place, parent)
    names = folder_path(path, at_top=not parent)
    change = changes.next_number(tx, place)
    parent = _make_missing(tx, place, change, parent, names[:-1], now)
    taken = tx.execute(_step_down, {"mailbox": place.mailbox_id, "parent": parent, "display": names[-1]}).scalar()
    if taken is not None:
        raise FolderExists(folder_id=taken)
    _require_free_role(tx, place, role)
    (folder_id,) = _insert(tx, place, change, [(parent, names[-1], role)], now)
    return folder_id


def move(
    tx: Connection,
    place: Place,
    path: Sequence[str],
    now: int,
    *,
    parent: int = 0,
    if_change_number: int | None = None,
) -> int | None:
    """Give the place's folder a new path, and move the folders below it and their subscriptions along.

    Makes missing parents.

    Returns the change number, or None when the folder had the path already. Raises FolderNotFound, FolderExists,
    FolderNameInvalid, FolderIsSpecial (Inbox), FolderCycle, ChangeConflict, LimitExceeded.
    """
    _unchanged(tx, place, if_change_number)
    if role_of(tx, place) is Role.INBOX:
        raise FolderIsSpecial(role="INBOX")
    folder_id = place.folder_id
    names = folder_path(path, at_top=not parent)
    if find(tx, place, names, parent=parent) == folder_id:
        return None
    before = path_of(tx, place, folder_id)
    change = changes.next_number(tx, place)
    parent = _make_missing(tx, place, change, parent, names[:-1], now)
    above = _ancestry(tx, place, parent)
    if any(ancestor == folder_id for ancestor, _ in above):
        raise FolderCycle
    if len(above) + 1 + _levels_below(tx, place) > DEEPEST:
        raise FolderNameInvalid(problem=f"must have at most {DEEPEST} levels")
    taken = tx.execute(_step_down, {"mailbox": place.mailbox_id, "parent": parent, "display": names[-1]}).scalar()
    if taken is not None:
        raise FolderExists(folder_id=taken)
    tx.execute(
        _replace,
        {"mailbox": place.mailbox_id, "folder": folder_id, "parent": parent, "display": names[-1], "number": change},
    )
    changes.touch(tx, place, change, folder_id)
    subscriptions.rename(tx, place, before, (*(name for _, name in above), names[-1]))
    return change


def set_role(tx: Connection, place: Place, role: int | None, *, if_change_number: int | None = None) -> int | None:
    """Set the role of the place's folder; None leaves it. Returns the change number, or None when nothing changed.

    Raises FolderNotFound, FolderIsSpecial (Inbox, or the role is taken), ChangeConflict.
    """
    _unchanged(tx, place, if_change_number)
    present = role_of(tx, place)
    if role is None or present == role:
        return None
    if Role.INBOX in (present, role):
        raise FolderIsSpecial(role="INBOX")
    _require_free_role(tx, place, role)
    change = changes.next_number(tx, place)
    tx.execute(_set_role, {"mailbox": place.mailbox_id, "folder": place.folder_id, "purpose": role, "number": change})
    changes.touch(tx, place, change, place.folder_id)
    return change


def has_children(tx: Connection, place: Place) -> bool:
    """Whether the place's folder has folders below it."""
    return tx.execute(_child, {"mailbox": place.mailbox_id, "folder": place.folder_id}).first() is not None


def _unchanged(tx: Connection, place: Place, if_change_number: int | None) -> None:
    if if_change_number is None:
        return
    row = tx.execute(_one, {"mailbox": place.mailbox_id, "folder": place.folder_id}).one_or_none()
    if row is not None and row.change_number > if_change_number:
        raise ChangeConflict(change_number=row.change_number)


def _levels_below(tx: Connection, place: Place) -> int:
    """The number of levels of folders below the place's folder."""
    children: dict[int, list[int]] = {}
    for folder_id, parent in tx.execute(_parents, {"mailbox": place.mailbox_id}):
        children.setdefault(parent, []).append(folder_id)
    levels, level = 0, children.get(place.folder_id, [])
    while level:
        levels, level = levels + 1, [below for folder_id in level for below in children.get(folder_id, ())]
    return levels


def _require_free_role(tx: Connection, place: Place, role: int) -> None:
    if role != Role.NONE and with_role(tx, place, role) is not None:
        raise FolderIsSpecial(role=Role(role).name)


def _make_missing(tx: Connection, place: Place, change: int, parent: int, names: Sequence[str], now: int) -> int:
    """The id of the folder at the path `names` below `parent`. Makes it and its parents where they are missing."""
    for name in names:
        found = tx.execute(_step_down, {"mailbox": place.mailbox_id, "parent": parent, "display": name}).scalar()
        parent = _insert(tx, place, change, [(parent, name, Role.NONE)], now)[0] if found is None else found
    return parent


def _insert(tx: Connection, place: Place, change: int, wanted: Sequence[tuple[int, str, int]], now: int) -> list[int]:
    """Make folders from (parent, name, role); returns their ids."""
    present = tx.execute(_count, {"mailbox": place.mailbox_id}).scalar_one()
    if present + len(wanted) > MOST_FOLDERS:
        raise LimitExceeded(limit="folders", value=MOST_FOLDERS)
    for parent, _, _ in wanted:
        if len(_ancestry(tx, place, parent)) >= DEEPEST:
            raise FolderNameInvalid(problem=f"must have at most {DEEPEST} levels")
    count = {"count": len(wanted)}
    first_id = tx.execute(_next_ids, {"mailbox": place.mailbox_id, **count}).scalar_one() - len(wanted)
    first_validity = tx.execute(_next_uid_validities, count).scalar_one() - len(wanted)
    rows = [
        {
            "mailbox_id": place.mailbox_id,
            "folder_id": first_id + at,
            "parent_folder_id": parent,
            "display_name": name,
            "role": int(role),
            "change_number": change,
            "uid_validity": first_validity + at,
            "uid_next": 1,
            "recent_uid": 1,
            "message_count": 0,
            "unread_count": 0,
            "deleted_count": 0,
            "size_octets": 0,
            "created_at": now,
        }
        for at, (parent, name, role) in enumerate(wanted)
    ]
    tx.execute(insert(folder), rows)
    made = [first_id + at for at in range(len(wanted))]
    changes.touch(tx, place, change, *made)
    return made


# --- Counters -------------------------------------------------------------------------------------------------------


def adjust(tx: Connection, place: Place, change: int, tally: Tally) -> None:
    """Add to the counters of a folder and give it this change number. Raises FolderNotFound."""
    where = {"mailbox": place.mailbox_id, "folder": place.folder_id, "number": change}
    if prepared.run(tx, _adjust, where | tally._asdict()) != 1:
        raise FolderNotFound(folder_id=place.folder_id)
    changes.touch(tx, place, change, place.folder_id)


def reserve_uids(tx: Connection, place: Place, change: int, tally: Tally) -> Reserved:
    """Assign a UID to each message of the tally and add to the folder's counters.

    Raises FolderNotFound, and LimitExceeded when no UID is left under this UIDVALIDITY.
    """
    where = {"mailbox": place.mailbox_id, "folder": place.folder_id, "number": change, "count": tally.messages}
    row = prepared.first(tx, _reserve, where | tally._asdict())
    if row is None:
        raise FolderNotFound(folder_id=place.folder_id)
    uid_next, uid_validity = row
    if uid_next - 1 > HIGHEST_UID:
        raise LimitExceeded(limit="uids", value=HIGHEST_UID)
    changes.touch(tx, place, change, place.folder_id)
    return Reserved(uid_next - tally.messages, tally.messages, uid_validity)


def claim_recent(tx: Connection, place: Place) -> tuple[int, int]:
    """Claim the messages that no session has reported as \\Recent (RFC 3501 2.3.2); returns (first UID, UIDNEXT).

    Takes no change number. Raises FolderNotFound.
    """
    where = {"mailbox": place.mailbox_id, "folder": place.folder_id}
    row = tx.execute(_recent, where).one_or_none()
    if row is None:
        raise FolderNotFound(folder_id=place.folder_id)
    if row.recent_uid != row.uid_next:
        tx.execute(_claim, where | {"next": row.uid_next})
    return row.recent_uid, row.uid_next
