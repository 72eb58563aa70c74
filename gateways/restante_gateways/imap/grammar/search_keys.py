"""Search keys as values (RFC 3501 6.4.4; RFC 4731; RFC 7162 3.1.5). *Pure.*"""

from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass
from typing import TypeAlias

from restante_gateways.imap.grammar.flags import SystemFlag
from restante_gateways.imap.grammar.sets import SequenceSet
from restante_mail.ranges import Range


class DateKind(enum.Enum):
    """Which day a date key looks at: the day of arrival, or the one in the Date field (RFC 3501 6.4.4)."""

    INTERNAL = ""
    SENT = "SENT"


class Comparison(enum.Enum):
    """How a date key compares."""

    BEFORE = "BEFORE"
    ON = "ON"
    SINCE = "SINCE"


class TextScope(enum.Enum):
    """Where a text key looks."""

    BODY = b"BODY"
    TEXT = b"TEXT"


@dataclass(frozen=True, slots=True)
class SearchAnd:
    """Every key holds. Without keys: every message (`ALL`)."""

    keys: tuple[SearchKey, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchOr:
    """One of the two holds."""

    first: SearchKey
    second: SearchKey


@dataclass(frozen=True, slots=True)
class SearchNot:
    """The key does not hold."""

    key: SearchKey


@dataclass(frozen=True, slots=True)
class SearchMessages:
    """The message is in a set of sequence numbers or UIDs."""

    messages: SequenceSet
    uid: bool


@dataclass(frozen=True, slots=True)
class SearchUids:
    """The UID of the message is in these ascending ranges. No client writes it: a view puts it in place of others."""

    uids: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class SearchFlag:
    """A system flag (given by its bit) or a keyword is set."""

    flag: SystemFlag | str


@dataclass(frozen=True, slots=True)
class SearchRecent:
    """The message is recent to this session."""


@dataclass(frozen=True, slots=True)
class SearchDate:
    """The day of a message, compared without time and zone."""

    kind: DateKind
    comparison: Comparison
    day: datetime.date


@dataclass(frozen=True, slots=True)
class SearchSize:
    """RFC822.SIZE is larger (or smaller) than this many octets; equal is neither."""

    larger: bool
    octets: int


@dataclass(frozen=True, slots=True)
class SearchHeader:
    """A header field, decoded, holds the text; without text: the field exists (RFC 3501 6.4.4)."""

    field: str
    text: str


@dataclass(frozen=True, slots=True)
class SearchText:
    """The decoded text of the body, or of header and body, holds the text, letter case aside."""

    scope: TextScope
    text: str


@dataclass(frozen=True, slots=True)
class SearchModSeq:
    """The message's change number is this or higher (RFC 7162 3.1.5)."""

    change_number: int


SearchKey: TypeAlias = (
    SearchAnd
    | SearchOr
    | SearchNot
    | SearchMessages
    | SearchUids
    | SearchFlag
    | SearchRecent
    | SearchDate
    | SearchSize
    | SearchHeader
    | SearchText
    | SearchModSeq
)


class SearchReturn(enum.Flag):
    """The results of an extended SEARCH (RFC 4731 3.1)."""

    MIN = enum.auto()
    MAX = enum.auto()
    ALL = enum.auto()
    COUNT = enum.auto()
