"""Standing holds: mail that leaves is held when it is due, by its sender, recipient or destination."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from restante.errors import InvalidArgument
from restante_server.db import prepared
from restante_server.db.schema import transport_hold as table
from restante_server.transport.outbound.recipients import Row

MOST = 1_000  # standing holds


class Kind(IntEnum):
    """The kind of address that a hold names."""

    SENDER = 1
    RECIPIENT = 2
    DESTINATION = 3


class Hold(NamedTuple):
    """One standing hold."""

    kind: Kind
    value: str
    created_at: int  # microseconds
    created_by: str


_names = select(table.c.kind, table.c.value)
_all = select(table.c.kind, table.c.value, table.c.created_at, table.c.created_by).order_by(table.c.kind, table.c.value)
_one = (table.c.kind == bindparam("of_kind"), table.c.value == bindparam("of_value"))


class Holds:
    """The standing holds of one moment."""

    def __init__(self, named: Iterable[tuple[int, str]]) -> None:
        self._named = frozenset(named)

    def name(self, row: Row, reverse_path: str) -> str:
        """The hold that a recipient is under, in words; "" without one."""
        if not self._named:
            return ""
        for kind, value in (
            (Kind.DESTINATION, row.destination),
            (Kind.SENDER, reverse_path),
            (Kind.RECIPIENT, row.forward_path),
        ):
            if (int(kind), value) in self._named:
                return f"standing hold of the {kind.name.lower()} {value or '<>'}"
        return ""


def load(tx: Connection) -> Holds:
    """The standing holds, to be asked for each recipient."""
    return Holds((kind, value) for kind, value in prepared.rows(tx, _names, {}))


def listed(tx: Connection) -> list[Hold]:
    """All standing holds."""
    return [Hold(Kind(kind), *facts) for kind, *facts in tx.execute(_all)]


def add(tx: Connection, kind: Kind, values: Iterable[str], by: str, now: int) -> None:
    """Add a hold under each of these spellings, unless it stands. Raises InvalidArgument when there are MOST."""
    for value in values:
        if tx.execute(select(table.c.kind).where(*_one), {"of_kind": int(kind), "of_value": value}).first():
            continue
        if tx.execute(select(func.count()).select_from(table)).scalar_one() >= MOST:
            raise InvalidArgument(field="standing", problem=f"there are {MOST} standing holds, the most possible")
        facts = {"kind": int(kind), "value": value, "created_at": now, "created_by": by}
        tx.execute(insert(table).values(**facts))


def end(tx: Connection, kind: Kind, values: Iterable[str]) -> int:
    """End the hold of these spellings; returns the number of holds ended."""
    given = [{"of_kind": int(kind), "of_value": value} for value in values]
    return sum(tx.execute(delete(table).where(*_one), one).rowcount for one in given)


def end_all(tx: Connection) -> int:
    """End all standing holds; returns their number."""
    return tx.execute(delete(table)).rowcount
