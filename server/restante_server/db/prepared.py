"""Frequent statements, compiled once, because SQLAlchemy's execution would take most of their time.

A statement that a module keeps is compiled once for each database. It then runs on SQLite's own connection, or as a
prepared statement of the PostgreSQL server (`libpq.py`). Measured on SQLite for a small statement: 0.006 ms instead of
0.06 ms, all of it time of the one write lane. SQLAlchemy still defines names, types and dialects. Expanding lists
(`IN`) are not supported: sets of ids are `store.runs.JsonRows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Boolean, Connection, Delete, Insert, LargeBinary, Select, Update
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.types import TypeEngine

from restante_server.db.libpq import statements_of

Statement = Select[Any] | Insert | Update | Delete
Row = tuple[Any, ...]
Parameters = Mapping[str, Any]
_Process = Callable[[Any], Any]

MOST: Final = 1_000
"""Most compiled statements kept. There are about a hundred; at this limit some are being made anew for each call."""

_POSTGRESQL: Final = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]


def rows(tx: Connection, statement: Statement, parameters: Parameters) -> list[Row]:
    """All rows of a SELECT or RETURNING. Raises the driver's errors, like all functions of this module."""
    compiled = _compiled(tx, statement, None)
    values = compiled.bind(parameters)
    if compiled.by_server:
        found = statements_of(tx).rows(compiled.sql, values)
    else:
        driver: Any = tx.connection.dbapi_connection
        found = driver.execute(compiled.sql, values).fetchall()
    return compiled.convert(found) if compiled.results else found


def rows_while(
    tx: Connection, statement: Statement, parameters: Parameters, take: Callable[[Row], bool]
) -> tuple[list[Row], bool]:
    """The rows of a SELECT before the first one for which `take` is false, and whether there is such a row.

    SQLite computes no row behind it; PostgreSQL has sent all rows of the statement by then.
    """
    compiled = _compiled(tx, statement, None)
    values = compiled.bind(parameters)
    if compiled.by_server:
        return _taken(compiled, statements_of(tx).rows(compiled.sql, values), take)
    driver: Any = tx.connection.dbapi_connection
    with closing(driver.execute(compiled.sql, values)) as cursor:
        return _taken(compiled, cursor, take)


def _taken(compiled: _Compiled, coming: Iterable[Row], take: Callable[[Row], bool]) -> tuple[list[Row], bool]:
    found: list[Row] = []
    if compiled.results:
        coming = (compiled.convert([row])[0] for row in coming)
    for row in coming:
        if not take(row):
            return found, True
        found.append(row)
    return found, False


def first(tx: Connection, statement: Statement, parameters: Parameters) -> Row | None:
    """The first row, or None when there is none. For statements that return at most one row."""
    found = rows(tx, statement, parameters)
    return found[0] if found else None


def first_of_each(tx: Connection, statement: Statement, many: Sequence[Parameters]) -> list[Row | None]:
    """`first` for each of many parameter sets, which costs one round trip to PostgreSQL."""
    if not many:
        return []
    compiled = _compiled(tx, statement, None)
    if not compiled.by_server:
        return [first(tx, statement, parameters) for parameters in many]
    found = statements_of(tx).rows_of_each(compiled.sql, [compiled.bind(parameters) for parameters in many])
    return [compiled.convert(some)[0] if some else None for some in found]


def run(tx: Connection, statement: Statement, parameters: Parameters) -> int:
    """Run an INSERT, UPDATE or DELETE; returns the number of changed rows."""
    compiled = _compiled(tx, statement, None)
    values = compiled.bind(parameters)
    if compiled.by_server:
        return statements_of(tx).run(compiled.sql, values)
    driver: Any = tx.connection.dbapi_connection
    count: int = driver.execute(compiled.sql, values).rowcount
    return count


def run_many(tx: Connection, statement: Statement, many: Sequence[Parameters]) -> None:
    """Run a statement once for each parameter set; an INSERT takes its columns from the first set. No sets: no-op.

    PostgreSQL answers later: an error comes with the next statement that returns something, at the latest when the
    operation ends.
    """
    if not many:
        return
    compiled = _compiled(tx, statement, tuple(many[0]) if isinstance(statement, Insert) else None)
    if compiled.by_server:
        statements_of(tx).run_many(compiled.sql, compiled.bind_each(many))
        return
    driver: Any = tx.connection.dbapi_connection
    if len(many) == 1:
        driver.execute(compiled.sql, compiled.bind(many[0]))
    else:
        driver.cursor().executemany(compiled.sql, compiled.bind_each(many))


def run_each(tx: Connection, statement: Statement, many: Sequence[Parameters]) -> int:
    """`run_many`, which waits for all answers; returns the number of changed rows in all."""
    if not many:
        return 0
    compiled = _compiled(tx, statement, tuple(many[0]) if isinstance(statement, Insert) else None)
    if compiled.by_server:
        return statements_of(tx).run_each(compiled.sql, list(compiled.bind_each(many)))
    driver: Any = tx.connection.dbapi_connection
    count: int = driver.cursor().executemany(compiled.sql, compiled.bind_each(many)).rowcount
    return count


def kept() -> list[Statement]:
    """All statements compiled so far, for tests that examine them."""
    return [statement for _, statement, _ in _kept]


@dataclass(frozen=True, slots=True)
class Lookup:
    """A read that is one statement. PostgreSQL needs no thread for it (`loop_lookups.py`)."""

    statement: Statement
    parameters: Parameters
    found: Callable[[list[Row]], Any]
    """Makes the result of the rows."""

    def __call__(self, tx: Connection) -> Any:
        return self.found(rows(tx, self.statement, self.parameters))

    def for_server(self, tx: Connection) -> tuple[str, Row]:
        """The statement's text for the PostgreSQL server of a connection, and its values."""
        compiled = _compiled(tx, self.statement, None)
        return compiled.sql, compiled.bind(self.parameters)

    def answer(self, tx: Connection, rows: list[Row]) -> Any:
        """The result of the rows that the server returned."""
        compiled = _compiled(tx, self.statement, None)
        return self.found(compiled.convert(rows) if compiled.results else rows)


class _Compiled:
    """A statement in the form of one driver."""

    def __init__(self, statement: Statement, tx: Connection, columns: Sequence[str] | None) -> None:
        self.by_server = tx.dialect.name == "postgresql"
        dialect = _POSTGRESQL if self.by_server else tx.dialect
        compiled: Any = statement.compile(dialect=dialect, column_keys=list(columns) if columns else None)
        binds = compiled.binds
        if any(bind.expanding or bind.literal_execute for bind in binds.values()):
            raise TypeError(f"a list that expands cannot be prepared: {compiled}")
        self.sql = str(compiled)
        self._names: tuple[str, ...] = tuple(compiled.positiontup)
        self._get = itemgetter(*self._names) if len(self._names) > 1 else None
        self._constants = {name: bind.value for name, bind in binds.items() if not bind.required}
        # SQLite's driver takes truth values as they are.
        bound = (
            (name, bind.type) for name, bind in binds.items() if self.by_server or not isinstance(bind.type, Boolean)
        )
        self._processes = _processes(bound, lambda kind: kind.dialect_impl(dialect).bind_processor(dialect))
        returned = enumerate(column.type for column in statement.exported_columns)
        self.results = _processes(returned, lambda kind: kind.dialect_impl(dialect).result_processor(dialect, None))

    def bind(self, given: Parameters) -> Row:
        """The parameters in the order of the statement. Raises KeyError when one is missing."""
        values: Parameters = {**self._constants, **given} if self._constants else given
        if self._processes:
            values = {**values, **{name: process(values[name]) for name, process in self._processes}}
        if self._get is not None:
            ordered: Row = self._get(values)
            return ordered
        return tuple(values[name] for name in self._names)

    def bind_each(self, many: Iterable[Parameters]) -> Iterator[Row]:
        """`bind` for each of many parameter sets."""
        if self._get is None or self._constants or self._processes:
            return map(self.bind, many)
        return map(self._get, many)

    def convert(self, found: list[Row]) -> list[Row]:
        """The rows with their values converted by the column types."""
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
    """The conversions for values of these types; both drivers take octets without conversion."""
    found = ((key, None if isinstance(kind, LargeBinary) else process_of(kind)) for key, kind in types)
    return [(key, process) for key, process in found if process is not None]


_kept: dict[tuple[str, Statement, tuple[str, ...] | None], _Compiled] = {}


def _compiled(tx: Connection, statement: Statement, columns: tuple[str, ...] | None) -> _Compiled:
    """The compiled statement. Called on many threads; two threads may compile the same statement without harm."""
    key = (tx.dialect.name, statement, columns)
    found = _kept.get(key)
    if found is None:
        if len(_kept) >= MOST:
            raise RuntimeError("statements are made anew for each call: keep them, or let SQLAlchemy execute them")
        found = _kept[key] = _Compiled(statement, tx, columns)
    return found
