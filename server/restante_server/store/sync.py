"""One round of synchronising a client's copy of a mailbox, or of one folder (SyncMailbox).

A round begins with one read, which finds the changed folders and the changed messages. The removals, and then the rows
of the messages, are read afterwards, in pages, the rows in their state at that time. Changes made meanwhile have higher
change numbers and come in the next round. So do messages beyond the first MOST_CHANGED of a round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, bindparam, select

from restante.errors import CursorInvalid, FolderNotFound, MailboxNotFound
from restante_mail.idset import EMPTY, IdSet
from restante_server.db.schema import folder, mailbox, message
from restante_server.directory.rights import Place
from restante_server.store import changes
from restante_server.store.changes import Tombstone
from restante_server.store.folders import HIGHEST_UID
from restante_server.store.selection import Selection

MOST_CHANGED: Final = 50_000  # messages in one round, besides those that the copy never had
NOTHING = -1  # below change number 0, which the folders of a new mailbox have


class Position(NamedTuple):
    """The progress of a client's copy, in change numbers.

    The copy has all changes up to `sent` and all removals up to `removed`. Of the messages that changed between the
    two it has those whose key (UID in a folder, else message id) is not above `key`. Between rounds `sent` and
    `removed` are equal.
    """

    sent: int
    removed: int
    key: int


class FolderState(NamedTuple):
    """The facts of a folder that a copy keeps."""

    folder_id: int
    parent_folder_id: int
    display_name: str
    uid_validity: int
    message_count: int
    unread_count: int
    change_number: int


@dataclass(frozen=True, slots=True)
class Round:
    """One round, to be sent in this order: folders, removals, rows of `messages` by ascending key."""

    began: Position  # its `removed` is raised to the change number that this round reaches
    folders: list[FolderState]  # parents before children; none when the scope is one folder
    removed_since: int  # the round has the removals above this change number: see `removals`
    messages: Selection
    whole: bool  # no more messages have changed than those of the round

    @property
    def ended(self) -> Position:
        """The position of the copy after the round."""
        if not self.whole:
            return self.at(self.messages.ids.last)
        return Position(self.began.removed, self.began.removed, 0)

    def at(self, key: int) -> Position:
        """The position of the copy after the rows up to this key."""
        return self.began._replace(key=key)


_mailbox = select(mailbox.c.change_number, mailbox.c.next_message_id).where(
    mailbox.c.mailbox_id == bindparam("mailbox")
)
_folders = (
    select(
        folder.c.folder_id,
        folder.c.parent_folder_id,
        folder.c.display_name,
        folder.c.uid_validity,
        folder.c.message_count,
        folder.c.unread_count,
        folder.c.change_number,
    )
    .where(folder.c.mailbox_id == bindparam("mailbox"), folder.c.change_number > bindparam("since"))
    .order_by(folder.c.folder_id)
)
_folder = select(folder.c.change_number).where(
    folder.c.mailbox_id == bindparam("mailbox"), folder.c.folder_id == bindparam("folder")
)


def begin(tx: Connection, place: Place, position: Position | None) -> Round:
    """The next round of a copy of a mailbox or a folder at this position (None: an empty copy).

    Raises MailboxNotFound, FolderNotFound, and CursorInvalid when the tombstones since the position are incomplete.
    """
    folder_id = place.folder_id or None
    counters = tx.execute(_mailbox, {"mailbox": place.mailbox_id}).one_or_none()
    if counters is None:
        raise MailboxNotFound(mailbox_id=place.mailbox_id)
    now = counters.change_number
    before = position or Position(NOTHING, now, 0)
    if before.removed > now:
        raise CursorInvalid
    if before.removed < changes.history_from(tx, place):
        raise CursorInvalid
    if folder_id is None:
        since = {"mailbox": place.mailbox_id, "since": before.sent}
        touched = [FolderState(*row) for row in tx.execute(_folders, since)]
        folder_ids = [each.folder_id for each in touched]
        last = counters.next_message_id - 1
    else:
        touched, last = [], HIGHEST_UID
        number = tx.execute(_folder, {"mailbox": place.mailbox_id, "folder": folder_id}).scalar()
        if number is None:
            raise FolderNotFound(folder_id=folder_id)
        folder_ids = [folder_id] if number > before.sent else []
    ids, whole = _changed(tx, place, folder_ids, before, by_uid=folder_id is not None, last=last)
    began = before._replace(removed=now)
    return Round(began, _parents_first(touched), before.removed, Selection(folder_id, ids), whole)


def removals(tx: Connection, place: Place, current: Round, after: Tombstone | None) -> list[Tombstone]:
    """Some removals of a round behind the tombstone `after` (None: the first ones), in order; none at the end.

    Raises CursorInvalid when they are no longer kept.
    """
    return changes.removals(tx, place, current.removed_since, after=after, until=current.began.removed)


def _changed(
    tx: Connection, place: Place, folder_ids: list[int], before: Position, *, by_uid: bool, last: int
) -> tuple[IdSet, bool]:
    """Keys of the messages to send: those above the position's key that changed after `sent`, and those up to it
    that changed again after `removed`. Also returns whether they are all: of changed messages, it has at most the
    MOST_CHANGED lowest keys.
    """
    key: ColumnElement[int] = (message.c.uid if by_uid else message.c.message_id) + 0  # the index is of change numbers
    unsent = EMPTY
    condition = message.c.change_number > bindparam("since")
    since = before.sent
    if before.sent == NOTHING:  # all messages above the key are to be sent, so no query is needed for them
        unsent = IdSet(((before.key + 1, last),)) if before.key < last else EMPTY
        if not before.key:
            return unsent, True
        since = before.removed
        condition = condition & (key <= before.key)
    elif before.key:
        condition = condition & ((key > before.key) | (message.c.change_number > before.removed))
    statement = (
        select(key)
        .where(message.c.mailbox_id == bindparam("mailbox"), message.c.folder_id == bindparam("folder"), condition)
        .order_by(key)
        .limit(MOST_CHANGED + 1)
    )
    found: list[int] = []
    for folder_id in folder_ids:
        found += tx.execute(statement, {"mailbox": place.mailbox_id, "folder": folder_id, "since": since}).scalars()
        found = sorted(found)[: MOST_CHANGED + 1]
    if len(found) > MOST_CHANGED:
        return IdSet.from_ascending(found[:MOST_CHANGED]), False
    return IdSet.of(found).union(unsent), True


def _parents_first(found: list[FolderState]) -> list[FolderState]:
    """The folders in the order to send them: parents before children."""
    by_id = {each.folder_id: each for each in found}
    ordered: dict[int, FolderState] = {}
    for each in found:
        above: list[FolderState] = []
        parent: FolderState | None = each
        while parent is not None and parent.folder_id not in ordered:
            above.append(parent)
            parent = by_id.get(parent.parent_folder_id)
        ordered.update((one.folder_id, one) for one in reversed(above))
    return list(ordered.values())
