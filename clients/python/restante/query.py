"""Short constructors of conditions on messages. *Pure.*

all_of(unread(), text("from", "alice"), received(since=datetime(2026, 1, 1, tzinfo=UTC)))
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from restante.checked import METHODS, RESULTS
from restante.rows import FLAGS
from restante.v1.checks_pb2 import CheckRestriction
from restante.v1.message_pb2 import MatchingMessages, MessageSet
from restante.v1.search_pb2 import (
    CompareProperty,
    CompareRestriction,
    Comparison,
    FlagRestriction,
    HeaderRestriction,
    KeywordRestriction,
    Restriction,
    RestrictionList,
    SortKey,
    SortProperty,
    TextField,
    TextRestriction,
    TimeProperty,
    TimeRestriction,
)
from restante.v1.types_pb2 import MessageIdSet

FIELDS = {
    "subject": TextField.TEXT_FIELD_SUBJECT,
    "from": TextField.TEXT_FIELD_FROM,
    "to": TextField.TEXT_FIELD_TO,
    "cc": TextField.TEXT_FIELD_CC,
    "bcc": TextField.TEXT_FIELD_BCC,
    "body": TextField.TEXT_FIELD_BODY,
    "any": TextField.TEXT_FIELD_ANY,
}

LATEST_FIRST = SortKey(property=SortProperty.SORT_PROPERTY_RECEIVED_AT, descending=True)


def all_of(*restrictions: Restriction) -> Restriction:
    """All of the conditions; without any, every message matches."""
    return restrictions[0] if len(restrictions) == 1 else Restriction(all_of=RestrictionList(restrictions=restrictions))


def any_of(*restrictions: Restriction) -> Restriction:
    """At least one of the conditions."""
    return Restriction(any_of=RestrictionList(restrictions=restrictions))


def negation(restriction: Restriction) -> Restriction:
    """The opposite of a condition."""
    return Restriction(negation=restriction)


def text(field: str, value: str) -> Restriction:
    """A substring of a field of FIELDS, without regard to letter case. Raises KeyError."""
    return Restriction(text=TextRestriction(field=FIELDS[field], value=value))


def header(name: str, value: str = "") -> Restriction:
    """A substring of a header field; with an empty `value`, the presence of the field."""
    return Restriction(header=HeaderRestriction(name=name, value=value))


def flag(name: str, *, present: bool = True) -> Restriction:
    """Messages with a flag of FLAGS, or without it. Raises KeyError."""
    bit = FLAGS[name]
    return Restriction(flags=FlagRestriction(mask=bit, value=bit if present else 0))


def unread() -> Restriction:
    """Messages without the seen flag."""
    return flag("seen", present=False)


def keyword(name: str) -> Restriction:
    """Messages with a keyword."""
    return Restriction(keyword=KeywordRestriction(keyword=name))


def received(*, since: datetime | None = None, before: datetime | None = None) -> Restriction:
    """Messages received at `since` or later and before `before`; both are aware times."""
    return _time(TimeProperty.TIME_PROPERTY_RECEIVED_AT, since, before)


def sent(*, since: datetime | None = None, before: datetime | None = None) -> Restriction:
    """Messages with a Date field at `since` or later and before `before`; both are aware times."""
    return _time(TimeProperty.TIME_PROPERTY_SENT_AT, since, before)


def larger(octets: int) -> Restriction:
    """Messages larger than a size."""
    return _size(Comparison.COMPARISON_GREATER, octets)


def smaller(octets: int) -> Restriction:
    """Messages smaller than a size."""
    return _size(Comparison.COMPARISON_LESS, octets)


def checked(check: str, *results: str) -> Restriction:
    """Received messages whose check of METHODS had one of these RESULTS, or any result. Raises KeyError.

    See restante.checked.
    """
    given = CheckRestriction(check=METHODS[check], results=[RESULTS[result] for result in results])
    return Restriction(checks=given)


def ids(message_ids: Iterable[int]) -> Restriction:
    """These messages, at most 1000."""
    return Restriction(ids=MessageIdSet(message_ids=message_ids))


def matching(restriction: Restriction | None = None, *, folder_id: int = 0) -> MessageSet:
    """All messages of a folder (0: of all folders) that match, for a call that takes a MessageSet."""
    return MessageSet(matching=MatchingMessages(folder_id=folder_id, restriction=restriction))


def _time(which: TimeProperty.ValueType, since: datetime | None, before: datetime | None) -> Restriction:
    restriction = TimeRestriction(property=which)
    if since is not None:
        restriction.not_before.FromDatetime(since)
    if before is not None:
        restriction.before.FromDatetime(before)
    return Restriction(time=restriction)


def _size(comparison: Comparison.ValueType, octets: int) -> Restriction:
    compared = CompareRestriction(
        property=CompareProperty.COMPARE_PROPERTY_SIZE_OCTETS, comparison=comparison, value=octets
    )
    return Restriction(compare=compared)
