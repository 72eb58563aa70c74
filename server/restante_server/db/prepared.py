"""Statements that run so often that SQLAlchemy's own execution would be most of their price.

A statement that a module keeps is compiled once for each database and from then on runs on the driver's cursor, with
the parameters in their places. Measured on SQLite for a small one: 0.006 ms instead of 0.06, all of it time of the one
write lane. What a statement means stays with SQLAlchemy: names, types, dialects. Lists that expand (`IN`) are not for
here: sets of ids travel as `store.runs.JsonRows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection, Delete, Insert, LargeBinary, Select, Update
from sqlalchemy.types import TypeEngine

Statement = Select[Any] | Insert | Update | Delete
Row = tuple[Any, ...]
Parameters = Mapping[str, Any]
_Process = Callable[[Any], Any]

MOST: Final = 1_000
"""Statements that are kept. There are about a hundred: reaching this means that some are made anew for each call."""


def rows(tx: Connection, statement: Statement, parameters: Parameters) -> list[Row]:
    """All rows of a SELECT or RETURNING. Raises the driver's own errors, as everything here does."""
    compiled = _compiled(tx, statement, None)
    driver: Any = tx.connection.dbapi_connection
    found: list[Row] = driver.execute(compiled.sql, compiled.bind(parameters)).fetchall()
    return compiled.convert(found) if compiled.results else found


def first(tx: Connection, statement: Statement, parameters: Parameters) -> Row | None:
    """The first row, None when there is none. For statements that find one at most."""
    found = rows(tx, statement, parameters)
    return found[0] if found else None


def run(tx: Connection, statement: Statement, parameters: Parameters) -> int:
    """A change of rows; returns how many it touched."""
    compiled = _compiled(tx, statement, None)
    driver: Any = tx.connection.dbapi_connection
    count: int = driver.execute(compiled.sql, compiled.bind(parameters)).rowcount
    return count


def run_many(tx: Connection, statement: Statement, many: Sequence[Parameters]) -> None:
    """A statement for each of these; an INSERT takes its columns from the first. Does nothing for none."""
    if not many:
        return
    compiled = _compiled(tx, statement, tuple(many[0]) if isinstance(statement, Insert) else None)
    driver: Any = tx.connection.dbapi_connection
    if len(many) == 1:
        driver.execute(compiled.sql, compiled.bind(many[0]))
    else:
        driver.cursor().executemany(compiled.sql, [compiled.bind(parameters) for parameters in many])


def kept() -> list[Statement]:
    """Every statement that has been run here, for tests that examine them."""
    return [statement for _, statement, _ in _kept]


class _Compiled:
    """A statement as one driver takes it."""

    def __init__(self, statement: Statement, tx: Connection, columns: Sequence[str] | None) -> None:
        dialect = tx.dialect
        compiled: Any = statement.compile(dialect=dialect, column_keys=list(columns) if columns else None)
        binds = compiled.binds
        if any(bind.expanding or bind.literal_execute for bind in binds.values()):
            raise TypeError(f"a list that expands cannot be prepared: {compiled}")
        self.sql = str(compiled)
        self._names: tuple[str, ...] = tuple(compiled.positiontup) if compiled.positional else ()
        self._named = not compiled.positional
        self._get = itemgetter(*self._names) if len(self._names) > 1 else None
        self._constants = {name: bind.value for name, bind in binds.items() if not bind.required}
        bound = ((name, bind.type) for name, bind in binds.items())
        self._processes = _processes(bound, lambda kind: kind.dialect_impl(dialect).bind_processor(dialect))
        returned = enumerate(column.type for column in statement.exported_columns)
        self.results = _processes(returned, lambda kind: kind.dialect_impl(dialect).result_processor(dialect, None))

    def bind(self, given: Parameters) -> Any:
        """The parameters as the driver takes them. Raises KeyError when one is missing."""
        values: Parameters = {**self._constants, **given} if self._constants else given
        if self._processes:
            values = {**values, **{name: process(values[name]) for name, process in self._processes}}
        if self._named:
            return values
        if self._get is not None:
            return self._get(values)
        return tuple(values[name] for name in self._names)

    def convert(self, found: list[Row]) -> list[Row]:
        """Rows as the types of their columns have them."""
        converted = []
        for row in found:
            cells = list(row)
            for at, process in self.results:
                cells[at] = process(cells[at])
            converted.append(tuple(cells))
        return converted


def _processes(
    types: Iterable[tuple[Any, TypeEngine[Any]]], process_of: Callable[[TypeEngine[Any]], _Process | None]
) -> list[tuple[Any, _Process]]:
    """Conversions for values of these types; both drivers take octets as they are."""
    found = ((key, None if isinstance(kind, LargeBinary) else process_of(kind)) for key, kind in types)
    return [(key, process) for key, process in found if process is not None]


_kept: dict[tuple[str, Statement, tuple[str, ...] | None], _Compiled] = {}


def _compiled(tx: Connection, statement: Statement, columns: tuple[str, ...] | None) -> _Compiled:
    """Called on many threads: that two of them compile the same does no harm."""
    key = (tx.dialect.name, statement, columns)
    found = _kept.get(key)
    if found is None:
        if len(_kept) >= MOST:
            raise RuntimeError("statements are made anew for each call: keep them, or let SQLAlchemy execute them")
        found = _kept[key] = _Compiled(statement, tx, columns)
    return found
