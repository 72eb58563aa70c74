"""A restriction in SQL: exact where the rows decide, else two bounds, between which a message must be examined.

`lower` is true only for messages that match. `upper` is true for every message that matches. Where both are the same,
SQL decides alone. Between them Python evaluates the tree: the statement returns the parts that the rows decide as
columns, and an examination of the message decides the conditions on text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import eq, ge, gt, lt
from typing import Any, ClassVar, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Connection,
    and_,
    bindparam,
    cast,
    false,
    func,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from restante_mail.idset import IdSet
from restante_server.db.schema import keyword, listing, message
from restante_server.directory.rights import Place
from restante_server.store.restriction import (
    CHECK_MASK,
    MICROSECONDS_PER_MINUTE,
    AllOf,
    Among,
    AnyOf,
    Checked,
    CheckMethod,
    Compare,
    Comparison,
    HasFlags,
    HasHeader,
    HasKeyword,
    HasText,
    Moment,
    Not,
    Property,
    Restriction,
    TextField,
    Within,
)
from restante_server.store.runs import JsonRows, encode_runs, join_from

SURELY_WHOLE: Final = 1_998  # characters: a folded key that long may have been cut (see store.listing)

Truth = Callable[[Sequence[Any], Callable[[HasText | HasHeader], bool]], bool]
"""Whether a message matches, given the truth columns of its row and a function that examines the message."""

_KEYS = {
    TextField.SUBJECT: listing.c.subject_key,
    TextField.FROM: listing.c.from_key,
    TextField.TO: listing.c.to_key,
    TextField.CC: listing.c.cc_key,
    TextField.BCC: listing.c.bcc_key,
}
_NUMBERS = {
    Property.SIZE_OCTETS: message.c.size_octets,
    Property.CHANGE_NUMBER: message.c.change_number,
    Property.UID: message.c.uid,
    Property.MESSAGE_ID: message.c.message_id,
}
_RELATIONS = {Comparison.LESS: lt, Comparison.EQUAL: eq, Comparison.GREATER: gt, Comparison.AT_LEAST: ge}
_spelling = select(keyword.c.keyword).where(
    keyword.c.mailbox_id == bindparam("mailbox"), keyword.c.keyword_key == bindparam("lower")
)


class _Holds(FunctionElement[bool]):
    """Whether the first text contains the second, compared literally and not as a pattern."""

    name = "holds"
    type: ClassVar[Boolean] = Boolean()  # type: ignore[misc]  # SQLAlchemy's own idiom
    inherit_cache = True


@compiles(_Holds, "sqlite")
def _holds_sqlite(element: _Holds, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(instr({compiler.process(element.clauses, **kw)}) > 0)"


@compiles(_Holds, "postgresql")
def _holds_postgresql(element: _Holds, compiler: SQLCompiler, **kw: Any) -> str:
    return f"(strpos({compiler.process(element.clauses, **kw)}) > 0)"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The lower and upper condition of one part of a tree. `truth` is None where both are the same."""

    lower: ColumnElement[bool]
    upper: ColumnElement[bool]
    truth: Truth | None = None
    cost: int = 0  # of `truth`; cheap parts are evaluated first

    @property
    def exact(self) -> bool:
        return self.truth is None


@dataclass(slots=True)
class Conditions:
    """The SQL of one restriction on the messages of one mailbox."""

    tx: Connection
    place: Place
    parameters: dict[str, Any] = field(default_factory=dict)
    columns: list[ColumnElement[bool]] = field(default_factory=list)  # truth columns, in order
    needs_listing: bool = False

    def compile(self, node: Restriction) -> Bounds:
        """The bounds of a tree. Reads the mailbox's spelling of keywords."""
        match node:
            case AllOf(inner) | AnyOf(inner):
                return self._joined([self.compile(part) for part in inner], every=isinstance(node, AllOf))
            case Not(part):
                return _negated(self.compile(part))
            case HasText() | HasHeader():
                return self._text(node)
            case Compare(compared, comparison, value):
                return _exactly(_RELATIONS[comparison](_NUMBERS[compared], value))
            case Within():
                return _exactly(self._within(node))
            case HasFlags(mask, value):
                return _exactly(message.c.flags.bitwise_and(mask) == value)
            case HasKeyword(name):
                return _exactly(self._keyword(name))
            case Checked(method, results):
                return _exactly(self._checked(method, results))
            case Among(folder_id, ids):
                return _exactly(self._among(folder_id, ids))

    def _text(self, node: HasText | HasHeader) -> Bounds:
        key = _KEYS.get(node.field) if isinstance(node, HasText) else None
        if key is None:
            cost = 1 if isinstance(node, HasHeader) else 2
            return Bounds(false(), true(), lambda _row, look: look(node), cost)
        self.needs_listing = True
        if "\0" in node.needle:  # no key and no header field holds NUL, and PostgreSQL refuses it as a parameter
            return _exactly(false())
        found = _Holds(key, node.needle)
        at = self._column(found)
        return Bounds(
            found, or_(found, func.length(key) >= SURELY_WHOLE), lambda row, look: bool(row[at]) or look(node), 1
        )

    def _joined(self, inner: list[Bounds], *, every: bool) -> Bounds:
        join = and_ if every else or_
        nothing = true() if every else false()
        exact = [part for part in inner if part.exact]
        known = join(nothing, *(part.lower for part in exact))
        if len(exact) == len(inner):
            return _exactly(known)
        unknown = sorted((part for part in inner if not part.exact), key=lambda part: part.cost)
        truths = [part.truth for part in unknown if part.truth is not None]
        if exact:
            at = self._column(known)
            truths.insert(0, lambda row, _look: bool(row[at]))
        return Bounds(
            join(known, *(part.lower for part in unknown)),
            join(known, *(part.upper for part in unknown)),
            (lambda row, look: all(truth(row, look) for truth in truths))
            if every
            else (lambda row, look: any(truth(row, look) for truth in truths)),
            max(part.cost for part in unknown),
        )

    def _column(self, condition: ColumnElement[bool]) -> int:
        self.columns.append(condition)
        return len(self.columns) - 1

    def _within(self, node: Within) -> ColumnElement[bool]:
        moment: ColumnElement[int]
        conditions: list[ColumnElement[bool]] = [true()]
        if node.moment is Moment.SENT_AT:
            self.needs_listing = True
            moment, offset = listing.c.sent_at, listing.c.sent_offset_minutes
            conditions = [listing.c.sent_at.is_not(None)]  # a comparison with NULL is NULL, and NOT leaves it NULL
        else:
            moment, offset = message.c.received_at, message.c.received_offset_minutes
        if node.local:
            moment = moment + cast(offset, BigInteger) * MICROSECONDS_PER_MINUTE
        if node.not_before is not None:
            conditions.append(moment >= node.not_before)
        if node.before is not None:
            conditions.append(moment < node.before)
        return and_(*conditions)

    def _keyword(self, name: str) -> ColumnElement[bool]:
        where = {"mailbox": self.place.mailbox_id, "lower": name.lower()}
        spelled = self.tx.execute(_spelling, where).scalar()
        return false() if spelled is None else _Holds(message.c.keywords, f" {spelled} ")

    def _checked(self, method: CheckMethod, results: frozenset[int]) -> ColumnElement[bool]:
        self.needs_listing = True
        return listing.c.check_results.bitwise_rshift(method.shift).bitwise_and(CHECK_MASK).in_(sorted(results))

    def _among(self, folder_id: int | None, ids: IdSet) -> ColumnElement[bool]:
        runs = ids.ranges()
        if not runs:
            return false()
        key = message.c.uid if folder_id is not None else message.c.message_id
        place = true() if folder_id is None else message.c.folder_id == folder_id
        if len(runs) == 1:
            return and_(place, key.between(*runs[0]))
        name = f"runs{len(self.parameters)}"
        rows, among = JsonRows(name), message.alias()
        self.parameters[name] = encode_runs(ids)
        there = among.c.uid if folder_id is not None else among.c.message_id
        within = and_(among.c.mailbox_id == self.place.mailbox_id, there.between(rows.item(0), rows.item(1)))
        if folder_id is not None:
            within = and_(among.c.folder_id == folder_id, within)
        return and_(place, key.in_(select(there).select_from(join_from(rows.rows, among, within))))


def _exactly(condition: ColumnElement[bool]) -> Bounds:
    return Bounds(condition, condition)


def _negated(part: Bounds) -> Bounds:
    truth = part.truth
    if truth is None:
        return _exactly(not_(part.lower))
    return Bounds(not_(part.upper), not_(part.lower), lambda row, look: not truth(row, look), part.cost)
