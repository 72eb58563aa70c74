"""A cursor over one whole command (RFC 3501 9): every primitive reads on, or raises ParseError. *Pure.*"""

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
_NAME_ATOM = re.compile(rb"[!#$&'+,\-./0-9:;<=>?@A-Z\[\]^_`a-z|}~\x80-\xff]+")  # 8-bit: read, to be refused by name
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
    """The command is not in the grammar. The text goes to the client in a BAD: ASCII, no octets of its own."""


class Refused(ParseError):
    """The command is well-formed, but it names an impossible thing: the answer is NO with `code`, not BAD."""

    code = b"CANNOT"  # RFC 5530 3


class CutShort(ParseError):
    """A literal's octets are not there: the text is the beginning of a command, up to a literal's header."""


class Parser:
    """Reads one command from left to right. `uid` says that the command was prefixed by UID."""

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
        """Whether these octets come next; letter case counts."""
        return self.octets.startswith(octets, self.at)

    def accept(self, octets: bytes) -> bool:
        """Read these octets if they come next."""
        if self.octets.startswith(octets, self.at):
            self.at += len(octets)
            return True
        return False

    def expect(self, octets: bytes) -> Parser:
        """Read these octets, which must come next."""
        if not self.accept(octets):
            raise ParseError(f"{octets.decode('ascii')!r} expected" if octets != b" " else "space expected")
        return self

    def sp(self) -> Parser:
        """Read one space."""
        return self.expect(b" ")

    @property
    def at_end(self) -> bool:
        """Whether the command ends here."""
        return self.at == len(self.octets)

    def end(self) -> None:
        """The command must end here."""
        if not self.at_end:
            raise ParseError("end of command expected")

    # --- words ---

    def tag(self) -> bytes:
        """The command's tag: up to 256 octets, no `+`."""
        return self.match(_TAG, "tag")[0]

    def atom(self) -> bytes:
        """An atom, spelling kept."""
        return self.match(_ATOM, "atom")[0]

    def word(self) -> bytes:
        """An atom in capitals: a name of the protocol's own."""
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
        """A quoted string, which may hold UTF-8 (RFC 9051 9 `QUOTED-CHAR`), or a literal. NUL is in neither."""
        if self.sees(b"{"):
            if self.octets.find(b"\r\n", self.at) < 0:
                raise CutShort("literal is cut short")
            size = int(self.match(_LITERAL, "literal")[1])
            octets = self.octets[self.at : self.at + size]
            if len(octets) != size:
                raise CutShort("literal is cut short")
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
        """A folder's full name, decoded. `INBOX` in any letter case, alone or as a parent, is INBOX (RFC 3501 5.1).

        Raises Refused for one that is not modified UTF-7.
        """
        quoted = self.sees(b'"') or self.sees(b"{")
        try:
            return canonical_name(utf7.decode(self.string() if quoted else self.match(_NAME_ATOM, "mailbox name")[0]))
        except utf7.Utf7Error as error:
            raise Refused(f"the mailbox name is not modified UTF-7: {error}") from error

    def list_mailbox(self) -> str | None:
        """A LIST pattern, decoded, with `%` and `*` as they are. None for one that is not modified UTF-7."""
        quoted = self.sees(b'"') or self.sees(b"{")
        try:
            return utf7.decode(self.string() if quoted else self.match(_LIST_ATOM, "mailbox pattern")[0])
        except utf7.Utf7Error:
            return None

    # --- sets, flags, dates ---

    def sequence_set(self) -> SequenceSet:
        """`1:4,7,9:*`; cost and memory follow its text, not the numbers it spans."""
        spelled = self.match(_SEQUENCE_SET, "sequence set")[0]
        return SequenceSet(tuple(_read_range(item) for item in spelled.split(b",")))

    def flag(self) -> str:
        """A system flag in its usual spelling, or a keyword. Not `\\Recent` (RFC 3501 2.3.2)."""
        name = self.match(_FLAG, "flag")[0].decode("ascii")
        if not name.startswith("\\"):
            if len(name) > _MAX_KEYWORD_OCTETS:
                raise ParseError("keyword too long")
            return name
        if name.lower() not in SYSTEM_FLAGS_BY_NAME:
            raise ParseError("no such system flag")
        return name

    def flag_list(self, bare: bool = False) -> Flags:
        """`(\\Seen work)`; with `bare` also without parentheses, as STORE allows."""
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
        """`1-Jan-2024`, quoted or not."""
        found = self.match(_DATE, "date")
        return _date(found[2], found[3], found[4])

    def date_time(self) -> datetime.datetime:
        """`" 1-Jan-2024 09:05:00 +0100"` as an aware time in that very zone (RFC 3501 2.3.3).

        Also, as clients write them: a day of one digit without the space before it, and a zone by its name.
        """
        found = self.match(_DATE_TIME, "date-time")
        day = _date(found[1], found[2], found[3])
        zone = _named_zone(found[10]) if found[10] else _zone(found[7], int(found[8]), int(found[9]))
        try:
            time = datetime.time(int(found[4]), int(found[5]), min(int(found[6]), 59), tzinfo=zone)
            at = datetime.datetime.combine(day, time)
            at.astimezone(datetime.UTC)
        except (ValueError, OverflowError) as error:
            raise ParseError("no such time") from error
        return at

    def parenthesised_words(self) -> list[bytes]:
        """`(ONE TWO)` as capitals; may be empty."""
        self.expect(b"(")
        words: list[bytes] = []
        while not self.accept(b")"):
            if words:
                self.sp()
            words.append(self.word())
        return words


def canonical_name(name: str) -> str:
    """The name with INBOX, as a whole or as the first level, in capitals (RFC 3501 5.1)."""
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
        raise ParseError("no such zone")
    east = datetime.timedelta(hours=hours, minutes=minutes)
    return datetime.timezone(-east if sign == b"-" else east)


def _named_zone(name: bytes) -> datetime.timezone:
    """RFC 5322 4.3: a name that is not in its list says nothing, and the time is taken as one in UTC."""
    return datetime.timezone(datetime.timedelta(minutes=named_zone_minutes(name.decode("ascii"))))


def _date(day: bytes, month: bytes, year: bytes) -> datetime.date:
    try:
        return datetime.date(int(year), _MONTHS[month.upper()], int(day))
    except (KeyError, ValueError) as error:
        raise ParseError("no such date") from error
