"""A cursor over one whole command (RFC 3501 9). Every primitive advances it, or raises ParseError. *Pure.*"""

from __future__ import annotations

import datetime
import re

from restante_gateways.imap.grammar import utf7
from restante_gateways.imap.grammar.flags import SYSTEM_FLAGS_BY_NAME, Flags, SystemFlag
from restante_gateways.imap.grammar.sets import MAX_NUMBER, STAR, SequenceSet
from restante_mail.header.dates import MONTH_NAMES, named_zone_minutes
from restante_mail.ranges import Range

_ATOM = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+")
_ASTRING_ATOM = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
_NAME_ATOM = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~\x80-\xff]+")  # utf7.decode refuses 8-bit octets
_LIST_ATOM = re.compile(rb"[!#$%&'*+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]+")
_TAG = re.compile(rb"[!#$&',\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~]{1,256}")
_QUOTED = re.compile(rb'"((?:[\x01-\x09\x0b\x0c\x0e-\x21\x23-\x5b\x5d-\xff]|\\["\\])*)"')
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_LITERAL = re.compile(rb"\{([0-9]{1,20})\+?\}\r\n")
_NUMBER = re.compile(rb"[0-9]{1,20}")
_SEQUENCE_SET = re.compile(rb"[0-9*:,]+")
_RANGE = re.compile(rb"(?:([1-9][0-9]{0,9})|\*)(?::(?:([1-9][0-9]{0,9})|(\*)))?")
_FLAG = re.compile(rb"\\?[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+")
_DATE = re.compile(rb'("?)([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4})\1')
_DATE_TIME = re.compile(
    rb'"([ 0-9]?[0-9])-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) '
    rb'(?:([+-])([0-9]{2})([0-9]{2})|([A-Za-z]{1,5}))"'
)
_MONTHS = {name.upper().encode(): number for number, name in enumerate(MONTH_NAMES, 1)}
_MAX_KEYWORDS = 128  # in one flag list
_MAX_KEYWORD_OCTETS = 255


class ParseError(ValueError):
    """The command does not match the grammar. The text goes to the client in a BAD: ASCII, no octets of the command."""


class Refused(ParseError):
    """A well-formed command has an impossible argument. The answer is NO with `code`, not BAD."""

    code = b"CANNOT"  # RFC 5530 3


class CutShort(ParseError):
    """The text ends at a literal's header, before the octets of the literal."""


class Parser:
    """Reads one command from left to right. `uid` is set for a command with the prefix UID."""

    __slots__ = ("at", "octets", "uid")

    def __init__(self, octets: bytes, at: int = 0, uid: bool = False) -> None:
        self.octets, self.at, self.uid = octets, at, uid

    # --- the cursor ---

    def match(self, pattern: re.Pattern[bytes], wanted: str) -> re.Match[bytes]:
        """Read the octets that `pattern` matches here."""
        found = pattern.match(self.octets, self.at)
        if found is None:
            raise ParseError(f"{wanted} expected")
        self.at = found.end()
        return found

    def sees(self, octets: bytes) -> bool:
        """Whether these octets come next, case-sensitively."""
        return self.octets.startswith(octets, self.at)

    def accept(self, octets: bytes) -> bool:
        """Read these octets if they come next."""
        if self.octets.startswith(octets, self.at):
            self.at += len(octets)
            return True
        return False

    def expect(self, octets: bytes) -> Parser:
        """Read these octets. Raises ParseError if they do not come next."""
        if not self.accept(octets):
            raise ParseError(f"{octets.decode('ascii')!r} expected")
        return self

    def sp(self) -> Parser:
        """Read one space."""
        if not self.octets.startswith(b" ", self.at):
            raise ParseError("space expected")
        self.at += 1
        return self

    @property
    def at_end(self) -> bool:
        """Whether the command ends here."""
        return self.at == len(self.octets)

    def end(self) -> None:
        """Raise ParseError unless the command ends here."""
        if self.at != len(self.octets):
            raise ParseError("end of command expected")

    # --- words ---

    def tag(self) -> bytes:
        """The command's tag: up to 256 octets, no `+`."""
        return self.match(_TAG, "tag")[0]

    def atom(self) -> bytes:
        """An atom in its own spelling."""
        return self.match(_ATOM, "atom")[0]

    def word(self) -> bytes:
        """A protocol keyword: an atom converted to capitals."""
        return self.match(_ATOM, "word")[0].upper()

    def number(self, highest: int = MAX_NUMBER) -> int:
        """A number, zero included."""
        number = int(self.match(_NUMBER, "number")[0])
        if number > highest:
            raise ParseError("number too large")
        return number

    def nz_number(self) -> int:
        """A number above zero."""
        if (number := self.number()) == 0:
            raise ParseError("number above zero expected")
        return number

    # --- strings ---

    def string(self) -> bytes:
        """A quoted string, which may hold UTF-8 (RFC 9051 9 `QUOTED-CHAR`), or a literal. Neither may hold NUL."""
        if self.sees(b"{"):
            if self.octets.find(b"\r\n", self.at) < 0:
                raise CutShort("literal cut short")
            size = int(self.match(_LITERAL, "literal")[1])
            octets = self.octets[self.at : self.at + size]
            if len(octets) != size:
                raise CutShort("literal cut short")
            if b"\0" in octets:
                raise ParseError("NUL in a literal")
            self.at += size
            return octets
        quoted = self.match(_QUOTED, "string")[1]
        return _ESCAPE.sub(rb"\1", quoted) if b"\\" in quoted else quoted

    def astring(self) -> bytes:
        """An atom, which may hold `]`, or a string."""
        if self.sees(b'"') or self.sees(b"{"):
            return self.string()
        return self.match(_ASTRING_ATOM, "string or atom")[0]

    def nstring(self) -> bytes | None:
        """A string, or None for NIL."""
        if self.sees(b'"') or self.sees(b"{"):
            return self.string()
        if self.word() != b"NIL":
            raise ParseError("string or NIL expected")
        return None

    def mailbox_name(self) -> str:
        """A folder's full name, decoded and canonical (RFC 3501 5.1).

        Raises Refused for a name that is not modified UTF-7.
        """
        quoted = self.sees(b'"') or self.sees(b"{")
        try:
            return canonical_name(utf7.decode(self.string() if quoted else self.match(_NAME_ATOM, "mailbox name")[0]))
        except utf7.Utf7Error as error:
            raise Refused(f"mailbox name is not modified UTF-7: {error}") from error

    def list_mailbox(self) -> str | None:
        """A LIST pattern, decoded except for `%` and `*`. None if it is not modified UTF-7."""
        quoted = self.sees(b'"') or self.sees(b"{")
        try:
            return utf7.decode(self.string() if quoted else self.match(_LIST_ATOM, "mailbox pattern")[0])
        except utf7.Utf7Error:
            return None

    # --- sets, flags, dates ---

    def sequence_set(self) -> SequenceSet:
        """A set such as `1:4,7,9:*`. Time and memory depend on the length of its text, not on the numbers it spans."""
        spelled = self.match(_SEQUENCE_SET, "sequence set")[0]
        if b"," not in spelled:
            return SequenceSet((_read_range(spelled),))
        return SequenceSet(tuple(_read_range(item) for item in spelled.split(b",")))

    def flag(self) -> str:
        """A system flag or a keyword. `\\Recent` is refused (RFC 3501 2.3.2)."""
        name = self.match(_FLAG, "flag")[0].decode("ascii")
        if not name.startswith("\\"):
            if len(name) > _MAX_KEYWORD_OCTETS:
                raise ParseError("keyword too long")
            return name
        if name.lower() not in SYSTEM_FLAGS_BY_NAME:
            raise ParseError("unknown system flag")
        return name

    def flag_list(self, bare: bool = False) -> Flags:
        """A list such as `(\\Seen work)`; with `bare` the parentheses are optional, as in STORE."""
        if not self.accept(b"("):
            if not bare:
                raise ParseError("'(' expected")
            return self._flags(b"")
        if self.accept(b")"):
            return Flags()
        return self._flags(b")")

    def _flags(self, closing: bytes) -> Flags:
        system, keywords = SystemFlag(0), dict[str, str]()
        while True:
            name = self.flag()
            if name.startswith("\\"):
                system |= SYSTEM_FLAGS_BY_NAME[name.lower()]
            else:
                keywords.setdefault(name.lower(), name)
            if self.accept(closing) if closing else self.at_end:
                break
            self.sp()
        if len(keywords) > _MAX_KEYWORDS:
            raise ParseError("too many keywords")
        return Flags(system, tuple(keywords.values()))

    def date(self) -> datetime.date:
        """A date such as `1-Jan-2024`, quoted or not."""
        found = self.match(_DATE, "date")
        return _date(found[2], found[3], found[4])

    def date_time(self) -> datetime.datetime:
        """A time such as `" 1-Jan-2024 09:05:00 +0100"`, aware and in the given zone (RFC 3501 2.3.3).

        Accepts two deviations of real clients: a one-digit day without its space, and a zone name.
        """
        found = self.match(_DATE_TIME, "date-time")
        day = _date(found[1], found[2], found[3])
        zone = _named_zone(found[10]) if found[10] else _zone(found[7], int(found[8]), int(found[9]))
        try:
            time = datetime.time(int(found[4]), int(found[5]), min(int(found[6]), 59), tzinfo=zone)
            at = datetime.datetime.combine(day, time)
            at.astimezone(datetime.UTC)
        except (ValueError, OverflowError) as error:
            raise ParseError("invalid time") from error
        return at

    def parenthesised_words(self) -> list[bytes]:
        """The words of a list such as `(ONE TWO)` in capitals; the list may be empty."""
        self.expect(b"(")
        words: list[bytes] = []
        while not self.accept(b")"):
            if words:
                self.sp()
            words.append(self.word())
        return words


def canonical_name(name: str) -> str:
    """The name with `inbox` in any letter case, alone or as the first level, in capitals (RFC 3501 5.1)."""
    if name[:5].upper() == "INBOX" and (len(name) == 5 or name[5] == "/"):
        return "INBOX" + name[5:]
    return name


def _read_range(item: bytes) -> Range:
    found = _RANGE.fullmatch(item)
    if found is None:
        raise ParseError("sequence set expected")
    first = _set_number(found[1]) if found[1] else STAR
    second = STAR if found[3] else _set_number(found[2]) if found[2] else first
    return (first, second) if first <= second else (second, first)


def _set_number(digits: bytes) -> int:
    if (number := int(digits)) > MAX_NUMBER:
        raise ParseError("number too large")
    return number


def _zone(sign: bytes, hours: int, minutes: int) -> datetime.timezone:
    if hours > 23 or minutes > 59:
        raise ParseError("unknown time zone")
    east = datetime.timedelta(hours=hours, minutes=minutes)
    return datetime.timezone(-east if sign == b"-" else east)


def _named_zone(name: bytes) -> datetime.timezone:
    """The offset of a zone name; an unknown name counts as UTC (RFC 5322 4.3)."""
    return datetime.timezone(datetime.timedelta(minutes=named_zone_minutes(name.decode("ascii"))))


def _date(day: bytes, month: bytes, year: bytes) -> datetime.date:
    try:
        return datetime.date(int(year), _MONTHS[month.upper()], int(day))
    except (KeyError, ValueError) as error:
        raise ParseError("invalid date") from error
