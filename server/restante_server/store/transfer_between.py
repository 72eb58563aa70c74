"""Moving messages from one mailbox into another: copies there, and nothing recoverable here."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from restante_server.directory.rights import Place
from restante_server.store import changes, removal, transfer
from restante_server.store.selection import Selection
from restante_server.store.transfer import Transferred


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
    """Move the messages that exist into a folder of another mailbox, keeping flags, keywords and received time.

    They get new ids and UIDs there, as `transfer.copy` gives them. In their own mailbox they are removed permanently,
    with tombstones; readers who do not know it yet have an hour (docs/design.md "Expunged elsewhere"). Both mailboxes
    take a change number. A message whose change number is above `if_change_number` stays. Raises as `transfer.copy`;
    the caller's savepoint undoes the writes.
    """
    found, left = transfer.require(tx, place, selection, expected, if_change_number)
    done = transfer.copy_found(tx, place, selection, found, target, left)
    if not found:
        return done
    number = changes.next_number(tx, place)
    removal.destroy(tx, place, selection, found, number, now)
    return replace(done, source_change_number=number)
