"""A condition on messages as plain values, independent of how it is asked and of how it is answered. *Pure.*

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
    """Where text is looked for; the values of restante.v1.TextField."""

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


class Comparison(IntEnum):
    """A relation; the values of restante.v1.Comparison."""

    LESS = 1
    EQUAL = 2
    GREATER = 3
    AT_LEAST = 4


class Moment(IntEnum):
    """A time that a message has; the values of restante.v1.TimeProperty."""

    RECEIVED_AT = 1
    SENT_AT = 2  # a message without one is never matched


@dataclass(frozen=True, slots=True)
class AllOf:
    """Each is true; of none: true."""

    parts: tuple[Restriction, ...] = ()


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One is true; of none: false."""

    parts: tuple[Restriction, ...] = ()


@dataclass(frozen=True, slots=True)
class Not:
    """It is false."""

    part: Restriction


@dataclass(frozen=True, slots=True)
class HasText:
    """The folded text of the field holds the needle, which is not empty."""

    field: TextField
    needle: str


@dataclass(frozen=True, slots=True)
class HasHeader:
    """A field of this name (lower case), head included, holds the needle; an empty one: the field is there."""

    name: str
    needle: str


@dataclass(frozen=True, slots=True)
class Compare:
    """The property compares so with the value."""

    property: Property
    comparison: Comparison
    value: int


@dataclass(frozen=True, slots=True)
class Within:
    """not_before <= the moment < before, either end open. `local`: the moment as written, its zone left out
    (RFC 3501 6.4.4, behaviour of SINCE and SENTON alike)."""

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
class Among:
    """UIDs of a folder, or message ids when `folder_id` is None."""

    folder_id: int | None
    ids: IdSet


Restriction = AllOf | AnyOf | Not | HasText | HasHeader | Compare | Within | HasFlags | HasKeyword | Among

EVERYTHING: Final = AllOf()


def asks_for_text(node: Restriction) -> bool:
    """Whether messages may have to be looked into: a condition on text is in the tree."""
    match node:
        case HasText() | HasHeader():
            return True
        case AllOf(parts) | AnyOf(parts):
            return any(map(asks_for_text, parts))
        case Not(part):
            return asks_for_text(part)
    return False
