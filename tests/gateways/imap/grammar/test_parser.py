"""Primitives of the grammar (RFC 3501 9); formatted values parse to the same values."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_gateways.imap.grammar import encoder
from restante_gateways.imap.grammar.condstore import change_number
from restante_gateways.imap.grammar.flags import Flags, SystemFlag
from restante_gateways.imap.grammar.parser import ParseError, Parser, Refused


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"atom", b"atom"),
        (b"a]b", b"a]b"),
        (b'""', b""),
        (b'"a b"', b"a b"),
        (b'"say \\"hi\\" \\\\"', b'say "hi" \\'),
        ('"Grüße"'.encode(), "Grüße".encode()),  # RFC 9051 9 `QUOTED-CHAR`
        (b'"p\xe4ss"', b"p\xe4ss"),  # the command decodes the octets
        (b"{3}\r\na\r\n", b"a\r\n"),
        (b"{3+}\r\n\xff\xfe\xfd", b"\xff\xfe\xfd"),
        (b"{0}\r\n", b""),
    ],
)
def test_astrings(text: bytes, value: bytes) -> None:
    p = Parser(text)
    assert p.astring() == value
    p.end()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" a",
        b"(",
        b'"',
        b'"a',
        b'"a\\x"',
        b"\xc3\xa9",
        b'"a\rb"',
        b'"a\0"',
        b"{3}\r\nab",
        b"{3}abc",
        b"{3}\r\na\0b",
        b"{99999999999999999999}\r\n",
        b"%",
        b"\\Seen",
    ],
)
def test_what_is_no_astring_is_refused(text: bytes) -> None:
    with pytest.raises(ParseError):
        Parser(text).astring()


@given(st.binary(max_size=80))
def test_strings_are_read_as_they_are_spelled(octets: bytes) -> None:
    octets = octets.replace(b"\0", b"")
    for spelled in (encoder.string(octets), encoder.astring(octets), encoder.literal(octets)):
        p = Parser(spelled)
        assert p.astring() == octets
        p.end()


def test_quoted_strings_hold_no_8bit_and_no_line_ends() -> None:  # RFC 3501 4.3
    assert encoder.string(b'a "b" \\') == b'"a \\"b\\" \\\\"'
    assert encoder.string("é".encode()) == b"{2}\r\n\xc3\xa9"
    assert encoder.string(b"a\r\nb") == b"{4}\r\na\r\nb"
    assert encoder.string(b"") == b'""'
    assert encoder.astring(b"NIL") == b'"NIL"'


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b"inbox", "INBOX"),  # RFC 3501 5.1
        (b'"InBoX/x"', "INBOX/x"),
        (b"Inboxes", "Inboxes"),
        (b"Entw&APw-rfe", "Entwürfe"),  # RFC 3501 5.1.3: as an atom, quoted, as a literal
        (b'"Entw&APw-rfe"', "Entwürfe"),
        (b"{12}\r\nEntw&APw-rfe", "Entwürfe"),
        (b"R&-D", "R&D"),
    ],
)
def test_mailbox_names(text: bytes, name: str) -> None:
    assert Parser(text).mailbox_name() == name


@pytest.mark.parametrize("text", [b"R&D", b'"R&D"', b"{3}\r\nR&D", b'"Entw\xc3\xbcrfe"', b"Entw\xc3\xbcrfe", b"&AGE-"])
def test_a_mailbox_name_that_is_not_modified_utf7_is_refused_by_no(text: bytes) -> None:  # RFC 3501 5.1.3
    with pytest.raises(Refused, match="mailbox name is not modified UTF-7: "):
        Parser(text).mailbox_name()


def test_list_patterns_keep_their_wildcards() -> None:
    assert Parser(b"a/%&APw-*").list_mailbox() == "a/%ü*"
    assert Parser(b'"*"').list_mailbox() == "*"
    assert Parser(b'"R&D*"').list_mailbox() is None


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (b"()", Flags()),
        (b"(\\Seen)", Flags(SystemFlag.SEEN)),
        (b"(\\sEEn \\DELETED $Work)", Flags(SystemFlag.SEEN | SystemFlag.DELETED, ("$Work",))),  # RFC 3501 2.3.2
        (b"(a A b)", Flags(keywords=("a", "b"))),
    ],
)
def test_flag_lists(text: bytes, flags: Flags) -> None:
    assert Parser(text).flag_list() == flags


@pytest.mark.parametrize(
    "text",
    [b"(\\Recent)", b"(\\Foo)", b"(a", b"( a)", b"(a )", b"(a  b)", b"(\\)", b"(a]b)", b"(" + b"k" * 256 + b")", b"a"],
)
def test_flags_that_cannot_be_set_are_refused(text: bytes) -> None:  # RFC 3501 2.3.2
    with pytest.raises(ParseError):
        Parser(text).flag_list()


def test_flags_are_read_as_they_are_spelled() -> None:
    flags = Flags(SystemFlag.ANSWERED | SystemFlag.DRAFT, ("$Forwarded", "work"))
    assert Parser(encoder.flag_list(flags.names())).flag_list() == flags


@given(st.dates(datetime.date(1, 1, 3), datetime.date(9999, 12, 28)), st.times(), st.integers(-23 * 60, 23 * 60))
def test_date_times_keep_their_zone(day: datetime.date, time: datetime.time, offset: int) -> None:  # RFC 3501 2.3.3
    at = datetime.datetime.combine(day, time.replace(microsecond=0), tzinfo=datetime.UTC)
    spelled = encoder.date_time(round(at.timestamp()), offset)
    read = Parser(spelled).date_time()
    assert read == at
    assert read.utcoffset() == datetime.timedelta(minutes=offset)


def test_a_day_has_two_characters() -> None:  # RFC 3501 9
    at = datetime.datetime(2024, 1, 1, 8, 5, 0, tzinfo=datetime.UTC)
    assert encoder.date_time(int(at.timestamp()), 90) == b'" 1-Jan-2024 09:35:00 +0130"'
    assert Parser(b'"01-Jan-2024 09:35:00 +0130"').date_time() == at


@pytest.mark.parametrize(
    ("text", "minutes_east"),
    [
        (b'"3-Feb-2025 18:28:47 +0130"', 90),  # no space before the digit, as mail programs write it
        (b'" 3-Feb-2025 18:28:47 GMT"', 0),
        (b'"03-feb-2025 18:28:47 est"', -300),
        (b'"3-Feb-2025 18:28:47 PDT"', -420),
        (b'" 3-Feb-2025 18:28:47 Z"', 0),
        (b'" 3-Feb-2025 18:28:47 NZDT"', 0),  # RFC 5322 4.3: a name that says nothing
    ],
)
def test_times_as_clients_write_them(text: bytes, minutes_east: int) -> None:  # RFC 3501 9 `date-time`, RFC 5322 4.3
    zone = datetime.timezone(datetime.timedelta(minutes=minutes_east))
    at = Parser(text).date_time()
    assert at == datetime.datetime(2025, 2, 3, 18, 28, 47, tzinfo=zone)
    assert at.utcoffset() == zone.utcoffset(None)


@pytest.mark.parametrize(
    "text",
    [
        b'"0-Feb-2025 18:28:47 +0000"',
        b'"-Feb-2025 18:28:47 +0000"',
        b'" 3-Feb-2025 18:28:47 Europe"',
        b'" 3-Feb-2025 18:28:47 +01"',
        b'"  3-Feb-2025 18:28:47 +0000"',
        b'"31-Feb-2024 09:35:00 +0000"',
        b'" 1-Foo-2024 09:35:00 +0000"',
        b'" 1-Jan-2024 25:35:00 +0000"',
        b'" 1-Jan-2024 09:35:00 +2400"',
        b'" 1-Jan-2024 09:35:00 +0061"',
        b'" 1-Jan-2024 09:35:00"',
        b'" 1-Jan-0001 00:00:00 +2300"',
        b'" 1-Jan-0000 00:00:00 +0000"',
    ],
)
def test_other_times_are_refused(text: bytes) -> None:
    with pytest.raises(ParseError):
        Parser(text).date_time()


def test_numbers_have_32_bits_and_change_numbers_63() -> None:
    assert Parser(b"4294967295").number() == 4294967295
    assert change_number(Parser(b"9223372036854775807")) == 2**63 - 1
    for text in (b"4294967296", b"-1", b"", b"99999999999999999999999"):
        with pytest.raises(ParseError):
            Parser(text).number()
    with pytest.raises(ParseError):
        Parser(b"0").nz_number()
    with pytest.raises(ParseError):
        change_number(Parser(b"9223372036854775808"))


def test_zones_by_name_are_those_of_date_fields() -> None:  # RFC 5322 4.3, and CET as seen in mail
    for name, hours in ((b"EST", -5), (b"cet", 1), (b"Z", 0), (b"XYZ", 0)):
        at = Parser(b'" 1-Jan-2024 09:05:00 ' + name + b'"').date_time()
        assert at.utcoffset() == datetime.timedelta(hours=hours)


@given(st.integers(-2_000_000_000, 5_000_000_000), st.integers(-720, 840))
def test_a_date_time_is_written_in_its_own_zone(seconds: int, offset: int) -> None:  # RFC 3501 2.3.3
    zone = datetime.timezone(datetime.timedelta(minutes=offset))
    local = datetime.datetime.fromtimestamp(seconds, zone)
    expected = f'"{local.day:2d}-{local:%b-%Y %H:%M:%S} {local:%z}"'
    assert encoder.date_time(seconds, offset) == expected.encode()
