"""A check that a statement on mailbox data names the mailbox for every table it touches.

Ids are unique within a mailbox only: a statement without `mailbox_id` reads or changes other users' mail.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ClauseElement, Column, Delete, Insert, Select, Table, Update
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BinaryExpression, BindParameter
from sqlalchemy.sql.selectable import Alias, Subquery

from restante_server.db import schema

MAILBOX_TABLES = frozenset(
    table for table in schema.metadata.tables.values() if next(iter(table.primary_key.columns)).name == "mailbox_id"
)


def violations(statement: ClauseElement) -> list[str]:
    """The mailbox tables (or aliases of them) in a statement that are not restricted to one mailbox.

    A table is restricted when its `mailbox_id` equals a parameter, a value computed from one, or the `mailbox_id` of
    another restricted table. A listing is also restricted by the `listed_in` of a restricted message. A statement with
    the execution option `across_mailboxes` may read all mailboxes.
    """
    if getattr(statement, "_execution_options", {}).get("across_mailboxes"):
        return []
    used: dict[int, Any] = {id(source): source for source in _sources(statement)}
    held: set[int] = set()
    links: list[tuple[int, int]] = []
    for element in visitors.iterate(statement):
        if isinstance(element, BinaryExpression) and element.operator is operators.eq:
            left, right = _owner(element.left), _owner(element.right)
            if left is not None and right is not None:
                links += [(id(left), id(right)), (id(right), id(left))]
            elif element.right is schema.message.c.listed_in and left is schema.listing:
                links.append((id(schema.message), id(left)))
            elif left is not None and _is_value(element.right):
                held.add(id(left))
            elif right is not None and _is_value(element.left):
                held.add(id(right))
    for element in visitors.iterate(statement):
        # In an UPDATE only the compared columns lead to the tables that it selects from.
        subquery = element if isinstance(element, Subquery) else getattr(element, "table", None)
        if isinstance(subquery, Subquery) and id(subquery) not in held:
            inner = violations(subquery.element)
            used.update({id(subquery): subquery} if inner else {})
            held.update(() if inner else {id(subquery)})
    spreading = True
    while spreading:
        found = {b for a, b in links if a in held}
        spreading = bool(found - held)
        held |= found
    return sorted(str(source.name) for key, source in used.items() if key not in held)


def _sources(statement: ClauseElement) -> Iterator[Table | Alias]:
    """The mailbox tables and their aliases that a statement reads or writes."""
    elements = list(visitors.iterate(statement))
    aliased = {id(element.element) for element in elements if isinstance(element, Alias)}
    for element in elements:
        if isinstance(element, Alias):
            if element.element in MAILBOX_TABLES:
                yield element
        elif isinstance(element, Table):
            if element in MAILBOX_TABLES and id(element) not in aliased:
                yield element
        elif isinstance(element, Column) and element.table in MAILBOX_TABLES:
            yield element.table  # even when a subquery hides the FROM clause
    if isinstance(statement, (Update, Delete)) and statement.table in MAILBOX_TABLES:
        yield statement.table


def _owner(element: Any) -> Any:
    """The table of a `mailbox_id` column, or None for anything else."""
    if getattr(element, "name", None) == "mailbox_id" and getattr(element, "table", None) is not None:
        return element.table
    return None


def _is_value(element: Any) -> bool:
    """A parameter, or something made of parameters alone, such as an item of a JSON parameter."""
    parts = list(visitors.iterate(element))
    return any(isinstance(part, BindParameter) for part in parts) or getattr(element, "name", "") == "json_item"


def names_mailbox(statement: ClauseElement) -> list[str]:
    """Like `violations`, for INSERT too: rows must have a `mailbox_id`."""
    if isinstance(statement, Insert):
        if statement.table not in MAILBOX_TABLES:
            return []
        if isinstance(statement.select, Select):
            return violations(statement.select)
        return []  # the primary key begins with mailbox_id: the database refuses a row without it
    return violations(statement)
