"""Sets of ids in SQL: the same statement text serves a set of two runs and a set of ten thousand.

The set is one parameter, a JSON list of lists, which the database turns into rows; a join then finds each run through
the index. Nearly all sets have a single run, which is a plain BETWEEN (see `selection`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from sqlalchemy import BigInteger, ColumnElement, FromClause, Join, Select, Text, bindparam, literal_column
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType

from restante_mail.idset import IdSet

_encode = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps would make an encoder for each call

__all__ = ["JsonRows", "among", "encode_rows", "encode_runs", "join_from"]


class _JsonEach(FunctionElement[Any]):
    """A JSON list as rows with a column `value`."""

    name = "json_each"
    inherit_cache = True


@compiles(_JsonEach)
def _each_sqlite(element: _JsonEach, compiler: SQLCompiler, **kw: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **kw)})"


@compiles(_JsonEach, "postgresql")
def _each_postgresql(element: _JsonEach, compiler: SQLCompiler, **kw: Any) -> str:
    return f"json_array_elements(CAST({compiler.process(element.clauses, **kw)} AS JSON))"


class _JsonItem(FunctionElement[int]):
    """The integer at a position of a JSON list."""

    name = "json_item"
    type: ClassVar[BigInteger] = BigInteger()  # type: ignore[misc]  # SQLAlchemy\'s own idiom
    inherit_cache = True


@compiles(_JsonItem)
def _item_sqlite(element: _JsonItem, compiler: SQLCompiler, **kw: Any) -> str:
    value, position = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"json_extract({value}, '$[{position}]')"


@compiles(_JsonItem, "postgresql")
def _item_postgresql(element: _JsonItem, compiler: SQLCompiler, **kw: Any) -> str:
    value, position = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"CAST({value} ->> {position} AS BIGINT)"


class JsonRows:
    """The rows of a parameter made by `encode_rows`, for a FROM clause or for `join_from`."""

    def __init__(self, parameter: str) -> None:
        self.rows: FromClause = _JsonEach(bindparam(parameter, type_=Text)).table_valued("value", name=parameter)

    def item(self, position: int) -> ColumnElement[int]:
        """The integer at this position of each row."""
        return _JsonItem(self.rows.c.value, literal_column(str(position)))


class _OrderedJoin(Join):
    """An inner join that the database executes from left to right. Without fresh statistics both databases may scan
    the large table first, and then all runs for each of its rows."""

    inherit_cache = True


@compiles(_OrderedJoin)
def _join_sqlite(element: _OrderedJoin, compiler: SQLCompiler, **kw: Any) -> str:
    kw["asfrom"] = True
    left, right = compiler.process(element.left, **kw), compiler.process(element.right, **kw)
    kw["asfrom"] = False
    assert element.onclause is not None
    return f"{left} CROSS JOIN {right} ON {compiler.process(element.onclause, **kw)}"


@compiles(_OrderedJoin, "postgresql")
def _join_postgresql(element: _OrderedJoin, compiler: SQLCompiler, **kw: Any) -> str:
    kw["asfrom"] = True
    left, right = compiler.process(element.left, **kw), compiler.process(element.right, **kw)
    kw["asfrom"] = False
    assert element.onclause is not None
    name = right.rpartition(" AS ")[2]  # the alias, else the table's name
    within = compiler.process(element.onclause, **kw)
    # OFFSET keeps the planner from merging the subquery into the rest.
    return f"{left} CROSS JOIN LATERAL (SELECT {name}.* FROM {right} WHERE {within} OFFSET 0) AS {name}"  # noqa: S608 - of compiled parts


class _Among(FunctionElement[Any]):
    """The condition that an id is in a subquery, which the database reads once, before the table."""

    name = "among"
    # As a Boolean, SQLAlchemy would write `... = 1` for SQLite, which then uses no index.
    type: ClassVar[NullType] = NullType()  # type: ignore[misc]  # SQLAlchemy's own idiom
    inherit_cache = True


@compiles(_Among)
def _among_sqlite(element: _Among, compiler: SQLCompiler, **kw: Any) -> str:
    column, ids = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"{column} IN {ids}"


@compiles(_Among, "postgresql")
def _among_postgresql(element: _Among, compiler: SQLCompiler, **kw: Any) -> str:
    column, ids = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"{column} = ANY (ARRAY{ids})"


def among(column: ColumnElement[int], ids: Select[int]) -> ColumnElement[bool]:
    """The condition that the column's value is one of `ids`. Together with the rest of the WHERE clause, an index
    should cover the column."""
    return _Among(column, ids.scalar_subquery())


def join_from(left: FromClause, right: FromClause, condition: ColumnElement[bool]) -> Join:
    """Join few rows on the left to many on the right, by the right's index."""
    return _OrderedJoin(left, right, condition)


def encode_runs(ids: IdSet) -> str:
    """A set as the parameter of JsonRows: first and last of each run."""
    return encode_rows(ids.ranges())


def encode_rows(rows: Iterable[Sequence[int]]) -> str:
    """Lists of integers as the parameter of JsonRows."""
    return _encode(list(rows))
