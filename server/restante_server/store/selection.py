"""A selection of messages, by UIDs of one folder or by message ids in the whole mailbox, and its SQL.

A statement on a selection is built once for each `Kind` and kept, so that SQLAlchemy's cache finds it again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, FromClause, and_, bindparam, select, true
from sqlalchemy.sql.selectable import NamedFromClause

from restante_mail.idset import EMPTY, IdSet
from restante_server.db.schema import message
from restante_server.store.runs import JsonRows, among, encode_runs, join_from

FLAG_SEEN = 1
FLAG_DELETED = 8
FLAG_DRAFT = 16


class Kind(NamedTuple):
    """The properties of a selection that change the text of its statements."""

    by_uid: bool
    single: bool  # one run of ids
    only_deleted: bool  # only messages with FLAG_DELETED
    removed: bool = False  # by message id, including messages that are in no folder


class Listed(NamedTuple):
    """Some messages of a selection as columns, in the order of its UIDs or message ids."""

    message_ids: Sequence[int] = ()
    uids: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """Messages by UID in `folder_id`, or by message id when it is None.

    Only a selection with `removed`, which is for reading, includes messages in no folder, such as recoverable ones.
    """

    folder_id: int | None
    ids: IdSet
    only_deleted: bool = False  # only those with FLAG_DELETED
    removed: bool = False

    @property
    def kind(self) -> Kind:
        return Kind(self.folder_id is not None, len(self.ids.ranges()) == 1, self.only_deleted, self.removed)

    def parameters(self, mailbox_id: int, **others: object) -> dict[str, Any]:
        """The parameters of a statement made with `chosen` or `members`, together with `others`."""
        values: dict[str, Any] = {"mailbox": mailbox_id, **others}
        if self.folder_id is not None:
            values["folder"] = self.folder_id
        runs = self.ids.ranges()
        if len(runs) == 1:
            values["first"], values["last"] = runs[0]
        else:
            values["runs"] = encode_runs(self.ids)
        return values

    def narrowed(self, ids: IdSet) -> Selection:
        """The same kind of selection for other ids."""
        return replace(self, ids=ids, only_deleted=False)

    def page(self, after: int, most: int) -> Selection:
        """The next ids above `after` for a read of at most `most` messages: a few whole runs, or one long run.

        A long run stands alone, so that the database never sorts it together with others. The page ends at `ids.last`.
        Empty at the end.
        """
        taken: list[tuple[int, int]] = []
        length = 0
        for first, last in self.ids.ranges():
            if last <= after:
                continue
            first = max(first, after + 1)
            if taken and last - first >= most:
                break
            taken.append((first, last))
            length += last - first + 1
            if length >= most:
                break
        return replace(self, ids=IdSet(tuple(taken)) if taken else EMPTY)


def key_of(kind: Kind, table: NamedFromClause[Any] = message) -> ColumnElement[int]:
    """The column that names messages: UID or message id."""
    column: ColumnElement[int] = table.c.uid if kind.by_uid else table.c.message_id
    return column


def _place(kind: Kind, table: NamedFromClause[Any]) -> ColumnElement[bool]:
    conditions = [table.c.mailbox_id == bindparam("mailbox")]
    if kind.by_uid:
        conditions.append(table.c.folder_id == bindparam("folder"))
    elif not kind.removed:
        conditions.append(table.c.folder_id.is_not(None))
    if kind.only_deleted:
        conditions.append(table.c.flags.bitwise_and(FLAG_DELETED) != 0)
    return and_(*conditions)


def chosen(kind: Kind, table: NamedFromClause[Any] = message) -> tuple[FromClause, ColumnElement[bool]]:
    """(FROM clause, condition) that select the messages of a selection."""
    key = key_of(kind, table)
    if kind.single:
        return table, and_(_place(kind, table), key.between(bindparam("first"), bindparam("last")))
    runs = JsonRows("runs")
    within = and_(_place(kind, table), key.between(runs.item(0), runs.item(1)))
    return join_from(runs.rows, table, within), true()


def members(kind: Kind) -> ColumnElement[bool]:
    """The condition on `message` for an UPDATE or DELETE of the messages of a selection."""
    if kind.single:
        return chosen(kind)[1]
    other = message.alias("other")
    source, _ = chosen(kind, other)
    ids = select(other.c.message_id).select_from(source)
    return and_(message.c.mailbox_id == bindparam("mailbox"), among(message.c.message_id, ids))
