"""The messages of a selection that exist, by folder: their ids and UIDs, and the sums that counters need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, bindparam, func, select

from restante_mail.idset import IdSet
from restante_server.db import prepared
from restante_server.db.schema import message
from restante_server.directory.rights import Place
from restante_server.store.folders import Tally
from restante_server.store.gathered import Gathered, columns
from restante_server.store.selection import FLAG_DELETED, FLAG_SEEN, Kind, Listed, Selection, chosen, key_of


class InFolder(NamedTuple):
    """Some messages of one folder, in the order of the selection's keys."""

    message_ids: Sequence[int]
    uids: Sequence[int]
    tally: Tally


@dataclass(frozen=True, slots=True)
class Found:
    """The messages of a selection that exist, by the folder that they are in."""

    by_uid: bool  # the keys are UIDs; else they are message ids
    folders: dict[int, InFolder]

    def __len__(self) -> int:
        return sum(len(each.message_ids) for each in self.folders.values())

    @property
    def listed(self) -> Listed:
        """The messages in the order of their keys."""
        if len(self.folders) == 1:
            (only,) = self.folders.values()
            return Listed(only.message_ids, only.uids)
        pairs = sorted(pair for each in self.folders.values() for pair in zip(each.message_ids, each.uids, strict=True))
        return Listed([message_id for message_id, _ in pairs], [uid for _, uid in pairs])

    @property
    def ids(self) -> IdSet:
        """The keys as a set."""
        listed = self.listed
        return IdSet.from_ascending(listed.uids if self.by_uid else listed.message_ids)

    @property
    def tally(self) -> Tally:
        """The sums over all these messages."""
        return Tally(*map(sum, zip(*(each.tally for each in self.folders.values()), strict=True)))

    def where(self, holds: Callable[[int], bool]) -> Found:
        """The messages in the folders whose ids satisfy a condition."""
        return Found(self.by_uid, {folder_id: each for folder_id, each in self.folders.items() if holds(folder_id)})


def find(tx: Connection, place: Place, selection: Selection, if_change_number: int | None = None) -> Found:
    """The messages of a selection that exist, without those whose change number is above `if_change_number`."""
    kind = selection.kind
    if not selection.ids:
        return Found(kind.by_uid, {})
    where = selection.parameters(place.mailbox_id)
    if if_change_number is not None:
        where["limit"] = if_change_number
    folders: dict[int, InFolder] = {}
    for row in prepared.rows(tx, _find(kind, if_change_number is not None), where):
        folder_id, count, seen, deleted, octets, *gathered = row
        if not count:  # without a GROUP BY there is always one row
            continue
        keys, others = columns(gathered)
        uids, message_ids = (keys, others) if kind.by_uid else (others, keys)
        tally = Tally(count, count - int(seen), int(deleted) // FLAG_DELETED, int(octets))
        folders[folder_id] = InFolder(message_ids, uids, tally)
    return Found(kind.by_uid, folders)


@cache
def _find(kind: Kind, conditional: bool) -> Select[*tuple[Any, ...]]:
    source, condition = chosen(kind)
    c = message.c
    statement = (
        select(
            func.max(c.folder_id) if kind.by_uid else c.folder_id,
            func.count(),
            func.sum(c.flags.bitwise_and(FLAG_SEEN)),
            func.sum(c.flags.bitwise_and(FLAG_DELETED)),
            func.sum(c.size_octets),
            Gathered(key_of(kind)),
            Gathered(c.message_id if kind.by_uid else c.uid),
        )
        .select_from(source)
        .where(condition)
    )
    if conditional:
        statement = statement.where(c.change_number <= bindparam("limit"))
    return statement if kind.by_uid else statement.group_by(c.folder_id)
