"""A condition on messages as plain values, independent of the contract and of SQL. *Pure.*

Needles are folded already (`restante_mail.text.fold.fold`); times are microseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from restante_mail.idset import IdSet

DEEPEST: Final = 16
MOST_NODES: Final = 256
MICROSECONDS_PER_MINUTE: Final = 60_000_000


class TextField(IntEnum):
    """The part of a message that is searched for text; the values of restante.v1.TextField."""

    SUBJECT = 1
    FROM = 2
    TO = 3
    CC = 4
    BCC = 5
    BODY = 6
    ANY = 7  # header and text parts


class Property(IntEnum):
    """A number that a message has; the values of restante.v1.CompareProperty."""

    SIZE_OCTETS = 1
    CHANGE_NUMBER = 2
    UID = 3
    MESSAGE_ID = 4


class Comparison(IntEnum):
    """A relation; the values of restante.v1.Comparison."""

    LESS = 1
    EQUAL = 2
    GREATER = 3
    AT_LEAST = 4


class CheckMethod(IntEnum):
    """A check of received mail; the values of restante.v1.CheckMethod. Its result takes CHECK_BITS of a column."""

    SPF = 1
    DKIM = 2
    DMARC = 3
    ARC = 4
    REVERSE_DNS = 5
    DNS_LISTS = 6

    @property
    def shift(self) -> int:
        """The position of the result in the column, in bits."""
        return CHECK_BITS * (self - 1)


CHECK_BITS: Final = 4  # a value of restante.v1.CheckResult; 0: not checked
CHECK_MASK: Final = (1 << CHECK_BITS) - 1


class Moment(IntEnum):
    """A time that a message has; the values of restante.v1.TimeProperty."""

    RECEIVED_AT = 1
    SENT_AT = 2  # a message without a sent time never matches


@dataclass(frozen=True, slots=True)
class AllOf:
    """All parts are true; with no parts: true."""

    parts: tuple[Restriction, ...] = ()


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part is true; with no parts: false."""

    parts: tuple[Restriction, ...] = ()


@dataclass(frozen=True, slots=True)
class Not:
    """The part is false."""

    part: Restriction


@dataclass(frozen=True, slots=True)
class HasText:
    """The folded text of the field holds the needle, which is not empty."""

    field: TextField
    needle: str


@dataclass(frozen=True, slots=True)
class HasHeader:
    """A header field of this name (lower case), in head or content, holds the needle; an empty needle: it exists."""

    name: str
    needle: str


@dataclass(frozen=True, slots=True)
class Compare:
    """The property has this relation to the value."""

    property: Property
    comparison: Comparison
    value: int


@dataclass(frozen=True, slots=True)
class Within:
    """not_before <= the moment < before; None leaves an end open. `local` compares the local time as written, without
    its zone (RFC 3501 6.4.4, for SINCE and SENTON alike)."""

    moment: Moment
    not_before: int | None
    before: int | None
    local: bool = False


@dataclass(frozen=True, slots=True)
class HasFlags:
    """(flags AND mask) = value."""

    mask: int
    value: int


@dataclass(frozen=True, slots=True)
class HasKeyword:
    """The message has the keyword, in any letter case."""

    keyword: str


@dataclass(frozen=True, slots=True)
class Checked:
    """The check has one of these results, values of restante.v1.CheckResult; 0: it was not made."""

    method: CheckMethod
    results: frozenset[int]


@dataclass(frozen=True, slots=True)
class Among:
    """UIDs of a folder, or message ids when `folder_id` is None."""

    folder_id: int | None
    ids: IdSet


Restriction = AllOf | AnyOf | Not | HasText | HasHeader | Compare | Within | HasFlags | HasKeyword | Checked | Among

EVERYTHING: Final = AllOf()


def asks_for_text(node: Restriction) -> bool:
    """Whether the tree has a condition on text, so that messages may have to be examined."""
    match node:
        case HasText() | HasHeader():
            return True
        case AllOf(parts) | AnyOf(parts):
            return any(map(asks_for_text, parts))
        case Not(part):
            return asks_for_text(part)
    return False
