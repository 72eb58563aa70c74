"""POP3's octets: lines, dot-stuffing and TOP with any division into pieces, responses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_gateways.pop3.protocol import (
    LISTING_LINES,
    DotStuffer,
    LineReader,
    LineTooLong,
    Malformed,
    TopCutter,
    listing,
    negative,
    nothing,
    number,
    positive,
    split_command,
    stuffed,
)

PIECES = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"..", b"a", b"\r\n.\r\n", b"\r\n\r\n", b"x" * 30]))
MESSAGES = PIECES.map(b"".join)


def cut(octets: bytes, sizes: list[int]) -> list[bytes]:
    chunks, position = [], 0
    for size in sizes:
        chunks.append(octets[position : position + size])
        position += size
    return [*chunks, octets[position:]]


def unstuffed(answer: bytes) -> bytes:
    """The content for a client, by the definition: lines up to the lone dot, without one leading dot."""
    lines = answer.split(b"\r\n")
    assert lines[-2:] == [b".", b""]
    assert b"." not in lines[:-2]
    return b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:-2])


@given(MESSAGES, st.lists(st.integers(0, 6)))
def test_any_message_in_any_chunks_arrives_whole(message: bytes, sizes: list[int]) -> None:  # RFC 1939 3
    stuffer = DotStuffer()
    answer = b"".join(stuffer.feed(chunk) for chunk in cut(message, sizes)) + stuffer.finish()
    whole = message if message.endswith(b"\r\n") or not message else message + b"\r\n"
    assert unstuffed(answer) == whole
    assert answer == stuffed(message)


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        (b"", b".\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.\r\nb\r\n", b"a\r\n..\r\nb\r\n.\r\n"),
        (b"a\r\n..b", b"a\r\n...b\r\n.\r\n"),
        (b"a.b\r\n", b"a.b\r\n.\r\n"),
        (b"a\r\n\r\n", b"a\r\n\r\n.\r\n"),
    ],
)
def test_a_dot_that_begins_a_line_is_doubled(message: bytes, answer: bytes) -> None:  # RFC 1939 3
    assert stuffed(message) == answer


@given(MESSAGES, st.lists(st.integers(0, 6)), st.integers(0, 5))
def test_top_is_header_blank_line_and_the_lines_asked_for(message: bytes, sizes: list[int], lines: int) -> None:
    """TOP, RFC 1939 7."""
    cutter = TopCutter(lines)
    answer = b"".join(cutter.feed(chunk) for chunk in cut(message, sizes))
    if message.startswith(b"\r\n"):
        header, separator, body = b"", b"\r\n", message[2:]
    else:
        header, separator, body = message.partition(b"\r\n\r\n")
    parts = body.split(b"\r\n")
    expected = header + separator + (body if lines >= len(parts) else b"".join(p + b"\r\n" for p in parts[:lines]))
    assert answer == expected


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\r\n" not in line and not line.endswith(b"\r"))))
def test_lines_come_out_as_they_went_in(lines: list[bytes]) -> None:
    stream = b"".join(line + b"\r\n" for line in lines)
    for size in (1, 2, 3, 7, 1000):
        reader, found = LineReader(), []
        for at in range(0, len(stream), size):
            reader.feed(stream[at : at + size])
            while (line := reader.next_line()) is not None:
                found.append(line)
        assert found == lines


@pytest.mark.parametrize("size", [1, 3, 10, 100_000])
def test_a_line_too_long_costs_itself_only(size: int) -> None:
    reader = LineReader(10)
    stream = b"NOOP\r\n" + b"x" * 8 + b"\r\n" + b"y" * 9 + b"\r\n" + b"z" * 50_000 + b"\r\nSTAT\r\n"
    found: list[object] = []
    for at in range(0, len(stream), size):
        reader.feed(stream[at : at + size])
        while (line := reader.next_line()) is not None:
            found.append(line)
        assert len(reader._buffer) - reader._position < 10 + size
    assert found == [b"NOOP", b"x" * 8, LineTooLong(), LineTooLong(), b"STAT"]


def test_bare_cr_and_lf_end_no_line() -> None:
    reader = LineReader()
    reader.feed(b"USER a\nPASS b\rQUIT\r\n")
    assert reader.next_line() == b"USER a\nPASS b\rQUIT"
    assert reader.next_line() is None


def test_cleared_octets_are_gone() -> None:  # RFC 2595 4
    reader = LineReader()
    reader.feed(b"STLS\r\nUSER mallory\r\nPA")
    assert reader.next_line() == b"STLS"
    reader.clear()
    reader.feed(b"NOOP\r\n")
    assert reader.next_line() == b"NOOP"


def test_responses_carry_their_code() -> None:
    assert bytes(positive("ready")) == b"+OK ready\r\n"
    assert bytes(negative("no such message")) == b"-ERR no such message\r\n"
    assert bytes(negative("maildrop is open elsewhere", "IN-USE")) == b"-ERR [IN-USE] maildrop is open elsewhere\r\n"
    assert [r.outcome for r in (positive("a"), negative("a"), negative("a", "SYS/TEMP"))] == ["ok", "err", "sys/temp"]


@pytest.mark.parametrize("count", [0, 1, LISTING_LINES - 1, LISTING_LINES, LISTING_LINES + 1, 3 * LISTING_LINES])
def test_a_listing_is_its_lines_and_a_dot(count: int) -> None:
    lines = [b"%d 120" % n for n in range(1, count + 1)]
    assert b"".join(listing(lines)) == b"".join(line + b"\r\n" for line in lines) + b".\r\n"


def test_verbs_are_split_from_arguments() -> None:
    assert split_command(b"pass  my  pass word ") == ("PASS", b" my  pass word ")  # RFC 1939 7
    assert split_command(b"Stat") == ("STAT", b"")
    assert split_command(b"\xff\xfe x")[1] == b"x"


@pytest.mark.parametrize("argument", [b"", b"0", b"-1", b"+1", b"1 2", b"a", b"1" * 11, b"\xb2", b"1\t"])
def test_what_is_no_message_number_is_malformed(argument: bytes) -> None:
    with pytest.raises(Malformed):
        number(argument)


def test_numbers_and_absent_arguments() -> None:
    assert number(b" 12 ") == 12
    assert number(b"0", least=0) == 0
    nothing(b" ")
    with pytest.raises(Malformed):
        nothing(b"1")
