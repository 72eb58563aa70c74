"""Subscribed paths, whether or not a folder has the path (RFC 3501 6.3.6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from restante.errors import LimitExceeded
from restante_server.db import prepared
from restante_server.db.schema import subscription
from restante_server.directory.rights import Place
from restante_server.store.folder_names import SEPARATOR, folder_path

MOST_SUBSCRIPTIONS: Final = 20_000  # in one mailbox

_one = (subscription.c.mailbox_id == bindparam("mailbox"), subscription.c.path == bindparam("name"))
_contains = select(subscription.c.path).where(*_one)
_paths = select(subscription.c.path).where(subscription.c.mailbox_id == bindparam("mailbox"))
_count = select(func.count()).select_from(subscription).where(subscription.c.mailbox_id == bindparam("mailbox"))
_remove = delete(subscription).where(*_one)
_add = insert(subscription)


def contains(tx: Connection, place: Place, path: Sequence[str]) -> bool:
    """Whether exactly this path is subscribed."""
    return prepared.first(tx, _contains, {"mailbox": place.mailbox_id, "name": SEPARATOR.join(path)}) is not None


def names(tx: Connection, place: Place) -> list[str]:
    """All subscribed paths as they are spelt with separators, ascending."""
    return sorted(tx.execute(_paths, {"mailbox": place.mailbox_id}).scalars())


def paths(tx: Connection, place: Place) -> list[tuple[str, ...]]:
    """All subscribed paths, in the order of `names`."""
    return [tuple(name.split(SEPARATOR)) for name in names(tx, place)]


def add(tx: Connection, place: Place, path: Sequence[str]) -> None:
    """Subscribe to a path; harmless to repeat. Raises FolderNameInvalid, LimitExceeded."""
    names = folder_path(path, at_top=True)
    if contains(tx, place, names):
        return
    if tx.execute(_count, {"mailbox": place.mailbox_id}).scalar_one() >= MOST_SUBSCRIPTIONS:
        raise LimitExceeded(limit="subscriptions", value=MOST_SUBSCRIPTIONS)
    tx.execute(_add, {"mailbox_id": place.mailbox_id, "path": SEPARATOR.join(names)})


def remove(tx: Connection, place: Place, path: Sequence[str]) -> None:
    """Unsubscribe from a path; harmless to repeat. Raises FolderNameInvalid."""
    names = folder_path(path, at_top=True)
    tx.execute(_remove, {"mailbox": place.mailbox_id, "name": SEPARATOR.join(names)})


def rename(tx: Connection, place: Place, before: Sequence[str], after: Sequence[str]) -> None:
    """Move the subscription of a renamed folder, and those below it, to the new path."""
    known = set(paths(tx, place))
    moved = [path for path in known if path[: len(before)] == tuple(before)]
    for path in moved:
        tx.execute(_remove, {"mailbox": place.mailbox_id, "name": SEPARATOR.join(path)})
    renamed = {(*after, *path[len(before) :]) for path in moved}
    there = known.difference(moved)
    for path in sorted(renamed - there):
        tx.execute(_add, {"mailbox_id": place.mailbox_id, "path": SEPARATOR.join(path)})
