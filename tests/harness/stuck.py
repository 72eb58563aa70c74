"""A full queue, made in one statement for each table: copies of a message that waits already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Text, cast, func, insert, literal, null, select

from restante_server.db.schema import transport_message, transport_recipient
from restante_server.transport.states import State

FIRST = 1 << 30  # transport id of the first copy: above those of ordinary mail

Number = ColumnElement[int]
"""Counts the copies from 0."""


def fill(
    tx: Connection,
    like: int,
    count: int,
    *,
    due_at: int,
    destination: Callable[[Number], ColumnElement[str]],
    sender: Callable[[Number], ColumnElement[int]],
) -> None:
    """Insert `count` messages like the one with the transport id `like`, each with one pending recipient."""
    highest = tx.execute(select(func.coalesce(func.max(transport_message.c.transport_id), 0))).scalar_one()
    begun = select(cast(literal(0), BigInteger).label("number")).cte("numbers", recursive=True)
    numbers = begun.union_all(select(begun.c.number + 1).where(begun.c.number < count - 1))
    number = numbers.c.number
    transport_id = number + max(FIRST, highest + 1)
    domain = destination(number)
    changed: dict[str, Any] = {
        "transport_id": transport_id,
        "recipient_id": literal(1),
        "forward_path": literal("someone@").concat(domain),
        "destination": domain,
        "sender": sender(number),
        "state": literal(int(State.PENDING)),
        "next_attempt_at": literal(due_at),
        "lease_id": null(),
        "lease_expires_at": null(),
    }
    for table, key in ((transport_message, {"transport_id": transport_id}), (transport_recipient, changed)):
        values = {column.name: key.get(column.name, column) for column in table.c}
        made = select(*values.values()).select_from(table.join(numbers, literal(True)))
        wanted = table.c.transport_id == like
        if table is transport_recipient:
            wanted &= transport_recipient.c.recipient_id == 1
        tx.execute(insert(table).from_select(list(values), made.where(wanted)))


def one(name: str) -> Callable[[Number], ColumnElement[str]]:
    """The same destination for all."""
    return lambda _: literal(name)


def many(suffix: str, count: int) -> Callable[[Number], ColumnElement[str]]:
    """`count` destinations in turn: 0.suffix, 1.suffix, ..."""
    return lambda number: cast(number % count, Text).concat(f".{suffix}")


def by(*senders: int) -> Callable[[Number], ColumnElement[int]]:
    """These senders in turn, which must be successive numbers."""
    return lambda number: senders[0] + number % len(senders)
