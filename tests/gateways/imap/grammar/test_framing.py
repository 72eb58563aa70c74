"""The framing finds the end of a command before the parser reads it (RFC 3501 2.2, 4.3; RFC 7888)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_gateways.imap.grammar.framing import (
    BEFORE_LOGIN,
    Command,
    CommandReader,
    CommandRest,
    Event,
    Limits,
    LiteralChunk,
    LiteralStart,
    TooLong,
)

LIMITS = Limits(line=64, kept=32, streamed=1000, discarded=2000)


def events(reader: CommandReader, *pieces: bytes) -> list[Event]:
    """All events of these pieces; a literal is accepted if its size is allowed, and refused otherwise."""
    found = []
    for piece in pieces:
        reader.feed(piece)
        while (event := reader.next_event()) is not None:
            found.append(event)
            if isinstance(event, LiteralStart):
                reader.keep() if event.keepable else reader.refuse()
    return found


def commands(found: list[Event]) -> list[bytes]:
    return [event.octets for event in found if isinstance(event, Command)]


def test_a_command_is_a_line_without_its_end() -> None:
    assert events(CommandReader(), b"a1 NOOP\r\na2 ", b"LOGOUT\r", b"\n") == [
        Command(b"a1 NOOP"),
        Command(b"a2 LOGOUT"),
    ]


def test_only_crlf_ends_a_line() -> None:
    assert events(CommandReader(), b"a\nb\rc\r\n") == [Command(b"a\nb\rc")]


def test_a_literal_is_part_of_its_command() -> None:  # RFC 3501 6.2.3: LOGIN with literal name and password
    found = events(CommandReader(), b"a LOGIN {3}\r\n", b"al", b"e {2}\r\n", b"pw\r\n")
    assert found == [
        LiteralStart(b"a LOGIN {3}", 3, synchronising=True, keepable=True),
        LiteralStart(b"a LOGIN {3}\r\nale {2}", 2, synchronising=True, keepable=True),
        Command(b"a LOGIN {3}\r\nale {2}\r\npw"),
    ]


def test_a_literal_may_hold_what_looks_like_commands() -> None:
    found = events(CommandReader(), b"a X {13+}\r\nb NOOP\r\nc {1}\r\nd NOOP\r\n")
    assert commands(found) == [b"a X {13+}\r\nb NOOP\r\nc {1}", b"d NOOP"]


def test_non_synchronising_literals_are_told_apart() -> None:  # RFC 7888 4
    (start, _) = events(CommandReader(), b"a X {2+}\r\nhi\r\n")
    assert isinstance(start, LiteralStart) and not start.synchronising


@pytest.mark.parametrize("line", [b'a LOGIN x "{5}"', b"a X {5} ", b"a X {}", b"a X {-5}", b"a X {5+}+", b"a X {5*}"])
def test_what_only_resembles_a_literal_ends_the_command(line: bytes) -> None:
    assert events(CommandReader(), line + b"\r\n") == [Command(line)]


def test_an_id_may_be_longer_before_login_than_other_commands() -> None:  # RFC 2971 3.3
    fields = b" ".join(b'"field-%d" "%b"' % (number, b"x" * 1_024) for number in range(30))
    known = b"a1 id (" + fields + b")"
    assert len(known) > 31_000
    pieces = [known[at : at + 1_000] for at in range(0, len(known), 1_000)]
    assert events(CommandReader(), *pieces, b"\r\n") == [Command(known)]
    for other in (b"a1 LOGIN ", b"a1 IDLE ", b"ID ", b"a1 X ID "):
        found = events(CommandReader(), other + b"x" * 9_000, b"\r\na2 NOOP\r\n")
        assert isinstance(found[0], TooLong) and found[1:] == [Command(b"a2 NOOP")], other


def test_an_id_is_bounded_too() -> None:
    assert BEFORE_LOGIN.of_id is not None
    reader = CommandReader()
    (refused,) = events(reader, b"a1 ID (" + b"x" * BEFORE_LOGIN.of_id.line)
    assert refused == TooLong(b"a1", literal=False, fatal=False)


def test_the_values_of_an_id_may_be_literals() -> None:
    head, more = b'a1 ID ("name" {20000+}\r\n' + b"x" * 20_000, b' "os" {12000+}\r\n' + b"y" * 12_000
    *_, command = events(CommandReader(), head, more, b")\r\n")
    assert command == Command(head + more + b")")
    *_, refused = events(CommandReader(), head, b' "os" {13000+}\r\n')
    assert refused == TooLong(b"a1", literal=True, fatal=False)
    *_, refused = events(CommandReader(), b'a1 LOGIN "name" {5000+}\r\n')
    assert refused == TooLong(b"a1", literal=True, fatal=False)


def test_a_streamed_literal_comes_in_chunks_and_leaves_the_rest_of_its_command() -> None:
    reader = CommandReader(LIMITS)
    reader.feed(b"a APPEND x {200+}\r\n" + b"m" * 150)
    start = reader.next_event()
    assert start == LiteralStart(b"a APPEND x {200+}", 200, synchronising=False, keepable=False)
    reader.stream()
    assert reader.next_event() == LiteralChunk(b"m" * 150, last=False)
    assert reader.next_event() is None
    reader.feed(b"m" * 50 + b"\r\nb NOOP\r\n")
    assert reader.next_event() == LiteralChunk(b"m" * 50, last=True)
    assert reader.next_event() == CommandRest(b"")
    assert reader.next_event() == Command(b"b NOOP")


def test_an_empty_streamed_literal_has_one_empty_chunk() -> None:
    reader = CommandReader(LIMITS)
    reader.feed(b"a APPEND x {0}\r\n")
    assert isinstance(reader.next_event(), LiteralStart)
    reader.stream()
    assert reader.next_event() == LiteralChunk(b"", last=True)
    reader.feed(b"\r\n")
    assert reader.next_event() == CommandRest(b"")


def test_a_second_message_is_read_and_dropped() -> None:
    reader = CommandReader(LIMITS)
    reader.feed(b"a APPEND x {2+}\r\nhi {3+}\r\nyou\r\nb NOOP\r\n")
    reader.next_event()
    reader.stream()
    assert [reader.next_event() for _ in range(3)] == [
        LiteralChunk(b"hi", last=True),
        CommandRest(b" {3+}"),
        Command(b"b NOOP"),
    ]


def test_a_refused_synchronising_literal_is_never_sent() -> None:
    reader = CommandReader(LIMITS)
    reader.feed(b"a APPEND x {100}\r\nb NOOP\r\n")
    reader.next_event()
    reader.refuse()
    assert reader.next_event() == Command(b"b NOOP")


def test_a_refused_non_synchronising_literal_is_consumed_with_its_command() -> None:  # RFC 7888 4
    reader = CommandReader(LIMITS)
    reader.feed(b"a APPEND x {100+}\r\n" + b"x" * 100 + b" {5+}\r\ny NOOP\r\nb NOOP\r\n")
    reader.next_event()
    reader.refuse()
    assert reader.next_event() == Command(b"b NOOP")


def test_a_literal_too_large_for_anything_is_consumed_or_ends_the_connection() -> None:  # RFC 7888 4
    found = events(CommandReader(LIMITS), b"a1 X {1500+}\r\n", b"x" * 1500, b"\r\nb NOOP\r\n")
    assert found == [TooLong(b"a1", literal=True, fatal=False), Command(b"b NOOP")]
    reader = CommandReader(LIMITS)
    assert events(reader, b"a1 X {99999999999999999999+}\r\n") == [TooLong(b"a1", literal=True, fatal=True)]
    assert events(reader, b"b NOOP\r\n") == []


def test_a_synchronising_literal_too_large_costs_its_command_only() -> None:
    found = events(CommandReader(LIMITS), b"a1 X {99999999999}\r\n", b"b NOOP\r\n")
    assert found == [TooLong(b"a1", literal=True, fatal=False), Command(b"b NOOP")]


def test_kept_literals_share_one_limit() -> None:
    found = events(CommandReader(LIMITS), b"a X {30+}\r\n", b"x" * 30, b" {10+}\r\n", b"y" * 10, b"\r\nb NOOP\r\n")
    assert [event.keepable for event in found if isinstance(event, LiteralStart)] == [True, False]
    assert commands(found) == [b"b NOOP"]


def test_a_line_too_long_is_told_once_and_thrown_away() -> None:
    reader = CommandReader(LIMITS)
    found = events(reader, b"a1 X ", *[b"x" * 50] * 20, b"\r\nb NOOP\r\n")
    assert found == [TooLong(b"a1", literal=False, fatal=False), Command(b"b NOOP")]


def test_a_line_too_long_may_end_in_a_literal() -> None:
    found = events(CommandReader(LIMITS), b"a1 X ", *[b"x" * 50] * 3, b" {6+}\r\n", b"c NOOP", b"\r\nb NOOP\r\n")
    assert found == [TooLong(b"a1", literal=False, fatal=False), Command(b"b NOOP")]


def test_an_endless_line_ends_the_connection() -> None:
    reader = CommandReader(LIMITS)
    found = events(reader, *[b"x" * 100] * 40)
    assert found == [TooLong(None, literal=False, fatal=False), TooLong(None, literal=False, fatal=True)]


def test_memory_stays_bounded_whatever_is_thrown_away() -> None:
    reader = CommandReader(Limits(line=64, kept=32, discarded=1 << 40))
    for _ in range(1000):
        reader.feed(b"x" * 100)
        while reader.next_event() is not None:
            pass
        assert len(reader._buffer) < 200


def test_reset_forgets_what_was_sent_in_clear() -> None:  # RFC 3501 6.2.1
    reader = CommandReader()
    reader.feed(b"a STARTTLS\r\nb LOGIN alice secret\r\nc X {3}\r\n")
    assert reader.next_event() == Command(b"a STARTTLS")
    reader.reset()
    assert reader.next_event() is None
    assert events(reader, b"d NOOP\r\n") == [Command(b"d NOOP")]


def test_a_literal_must_be_answered_before_anything_else() -> None:
    reader = CommandReader()
    reader.feed(b"a X {3}\r\n")
    reader.next_event()
    with pytest.raises(RuntimeError):
        reader.next_event()


@given(
    st.lists(
        st.sampled_from(
            [
                b"a NOOP\r\n",
                b"b X {3+}\r\nabc\r\n",
                b"c X {40+}\r\n" + b"y" * 40 + b"\r\n",
                b"\r\n",
                b"x" * 70 + b"\r\n",
                b"d APPEND x {1100+}\r\n" + b"z" * 1100 + b"\r\n",
                b"e X {3+}\r\n\r\n\r\r\n",
                b"f {2}\r\nhi\r\n",
            ]
        ),
        max_size=8,
    ),
    st.lists(st.integers(1, 60), max_size=60),
)
def test_events_do_not_depend_on_how_octets_arrive(stream: list[bytes], cuts: list[int]) -> None:
    whole = b"".join(stream)
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(whole[at : at + cut])
        at += cut
    pieces.append(whole[at:])
    assert events(CommandReader(LIMITS), whole) == events(CommandReader(LIMITS), *pieces)


@given(st.binary(max_size=400), st.binary(max_size=400))
def test_any_octets_give_the_same_events_in_any_pieces(first: bytes, second: bytes) -> None:
    whole = events(CommandReader(LIMITS), first + second + b"\r\n")
    assert events(CommandReader(LIMITS), first, second, b"\r\n") == whole
