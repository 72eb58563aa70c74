"""The changes of a folder in reads of bounded size, for a reader that takes them one after another.

Changes are read in the order of their numbers. A later change has a higher number, so the read that finds no more has
brought the reader to its own snapshot.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sqlalchemy import Connection, bindparam, or_, select

from restante.errors import CursorInvalid
from restante_server.db import prepared
from restante_server.db.schema import message
from restante_server.directory.rights import Place
from restante_server.store import changes
from restante_server.store.changes import FolderDelta
from restante_server.store.rows import columns_of

MOST_REMOVED_OCTETS: Final = 64 << 10  # of packed tombstones in one read


class Behind(NamedTuple):
    """The position behind which the next read of a folder's changes begins."""

    removed: int  # all removals up to this change number are read
    changed: int  # all changed messages of lower change numbers are read, and those of this one
    message_id: int  # up to this message id

    @classmethod
    def number(cls, since: int) -> Behind:
        """The position behind all changes up to this number."""
        return cls(since, since, changes.HIGHEST)


_rows = (
    select(message.c.uid, message.c.message_id, message.c.flags, message.c.keywords, message.c.change_number)
    .where(
        message.c.mailbox_id == bindparam("mailbox"),
        message.c.folder_id == bindparam("folder"),
        message.c.change_number >= bindparam("changed"),
        or_(message.c.change_number > bindparam("changed"), message.c.message_id > bindparam("after")),
    )
    .order_by(message.c.change_number, message.c.message_id)
    .limit(bindparam("most"))
)


def page(tx: Connection, place: Place, since: int, behind: Behind, most: int) -> tuple[FolderDelta, Behind, bool]:
    """The next changes of the place's folder above the change number `since`: at most `most` messages and `most`
    tombstones, and whether there are no more.

    Raises FolderNotFound, CursorInvalid when tombstones since then have been removed.
    """
    present = changes.folder_state(tx, place)
    if behind.removed < present.history_from:
        raise CursorInvalid
    vanished, removed = changes.removed_uids(tx, place, behind.removed, most, MOST_REMOVED_OCTETS)
    where = {"mailbox": place.mailbox_id, "folder": place.folder_id, "most": most}
    found = prepared.rows(tx, _rows, where | {"changed": behind.changed, "after": behind.message_id})
    columns = columns_of(sorted(found), 5)
    delta = changes.delta_of(place.folder_id, since, present, columns, vanished)
    ended = removed is None and len(found) < most
    _, last_id, _, _, last = found[-1] if found else (0, behind.message_id, 0, "", behind.changed)
    return delta, Behind(removed or present.change_number, last, last_id), ended
