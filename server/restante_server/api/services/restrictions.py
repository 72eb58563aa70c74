"""Conversion of the contract's restriction trees (search.proto) to those of the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp

from restante.errors import InvalidArgument, TooComplex
from restante.v1 import search_pb2 as v1
from restante.v1.checks_pb2 import CheckRestriction, CheckResult
from restante_mail.text.fold import fold
from restante_server.api.services import convert
from restante_server.store.restriction import (
    DEEPEST,
    EVERYTHING,
    MOST_NODES,
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

ANY_RESULT: Final = frozenset(map(int, CheckResult.values())) - {0}
_FURTHEST: Final = 1 << 60  # microseconds, beyond the time of any message


class _Reader:
    """Converts one tree and counts its nodes. Raises TooComplex, InvalidArgument."""

    def __init__(self) -> None:
        self._nodes = 0

    def read(self, given: v1.Restriction, field: str, depth: int = 1) -> Restriction:
        """The restriction in a field of the request."""
        self._nodes += 1
        for count, limit in ((depth, DEEPEST), (self._nodes, MOST_NODES)):
            if count > limit:
                raise TooComplex(limit=limit, value=count)
        match given.WhichOneof("condition"):
            case "all_of":
                return AllOf(self._parts(given.all_of, f"{field}.all_of", depth))
            case "any_of":
                return AnyOf(self._parts(given.any_of, f"{field}.any_of", depth))
            case "negation":
                return Not(self.read(given.negation, f"{field}.negation", depth + 1))
            case "flags":
                return HasFlags(given.flags.mask, given.flags.value)
            case "keyword":
                return _keyword(given.keyword.keyword)
            case "text" | "compare" | "time" | "header" | "checks" as kind:
                return _CONDITIONS[kind](getattr(given, kind), f"{field}.{kind}")
            case "uids":
                among = convert.uid_set(given.uids, f"{field}.uids")
                return Among(among.folder_id, among.ids)
            case "ids":
                return Among(None, convert.message_ids(given.ids.message_ids, f"{field}.ids.message_ids"))
            case _:
                return EVERYTHING

    def _parts(self, given: v1.RestrictionList, field: str, depth: int) -> tuple[Restriction, ...]:
        return tuple(
            self.read(part, f"{field}.restrictions[{at}]", depth + 1) for at, part in enumerate(given.restrictions)
        )


def restriction(given: v1.Restriction, field: str = "restriction") -> Restriction:
    """The store's restriction. An empty one of the contract matches all. `field` is its place in the request.

    Raises TooComplex, InvalidArgument.
    """
    return _Reader().read(given, field)


def _text(given: v1.TextRestriction, path: str) -> Restriction:
    try:
        field = TextField(given.field)
    except ValueError:
        raise InvalidArgument(field=f"{path}.field", problem="must be a known value other than UNSPECIFIED") from None
    needle = fold(given.value)
    return HasText(field, needle) if needle else EVERYTHING


def _header(given: v1.HeaderRestriction, path: str) -> Restriction:
    if not given.name:
        raise InvalidArgument(field=f"{path}.name", problem="must not be empty")
    return HasHeader(given.name.lower(), fold(given.value))


def _keyword(name: str) -> Restriction:
    return HasKeyword(name) if name and "\0" not in name else AnyOf()


def _checks(given: CheckRestriction, path: str) -> Restriction:
    try:
        method = CheckMethod(given.check)
    except ValueError:
        raise InvalidArgument(field=f"{path}.check", problem="must be a known value other than UNSPECIFIED") from None
    if not given.results:
        return Checked(method, ANY_RESULT)
    if len(given.results) > len(CheckResult.values()):
        raise InvalidArgument(field=f"{path}.results", problem="has more entries than there are values")
    if any(result not in CheckResult.values() for result in given.results):
        raise InvalidArgument(field=f"{path}.results", problem="must be known values")
    return Checked(method, frozenset(map(int, given.results)))


def _compare(given: v1.CompareRestriction, path: str) -> Restriction:
    try:
        return Compare(Property(given.property), Comparison(given.comparison), given.value)
    except ValueError:
        raise InvalidArgument(field=path, problem="must have a known property and comparison") from None


def _time(given: v1.TimeRestriction, path: str) -> Restriction:
    try:
        moment = Moment(given.property)
    except ValueError:
        raise InvalidArgument(
            field=f"{path}.property", problem="must be a known value other than UNSPECIFIED"
        ) from None
    return Within(
        moment,
        _bound(given.not_before) if given.HasField("not_before") else None,
        _bound(given.before) if given.HasField("before") else None,
        given.local_date,
    )


def _bound(moment: Timestamp) -> int:
    """A bound in microseconds, rounded up: the store's times are whole microseconds, so the comparison stays exact."""
    exact = moment.seconds * 1_000_000 - (-moment.nanos // 1_000)
    return max(-_FURTHEST, min(exact, _FURTHEST))


_CONDITIONS: Final[dict[str, Callable[[Any, str], Restriction]]] = {
    "text": _text,
    "compare": _compare,
    "time": _time,
    "header": _header,
    "checks": _checks,
}
