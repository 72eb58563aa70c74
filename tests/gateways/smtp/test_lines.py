"""Command lines: framing, limits, and CRLF as the only line end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_gateways.smtp.lines import BadLine, LineReader


def read_all(reader: LineReader) -> list[bytes | BadLine]:
    lines: list[bytes | BadLine] = []
    while (line := reader.next_line()) is not None:
        lines.append(line)
    return lines


def test_lines_come_one_at_a_time_and_the_rest_can_be_taken() -> None:
    reader = LineReader()
    reader.feed(b"DATA\r\nSubject: x\r\n")
    assert reader.next_line() == b"DATA"
    assert reader.take_rest() == b"Subject: x\r\n"
    assert reader.next_line() is None


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"NOOP\r\n", [b"NOOP"]),
        (b"\r\n", [b""]),
        (b"NOOP", []),
        (b"NOOP\r", []),
        (b"NOOP\n", [BadLine.BARE_LF]),
        (b"\n", [BadLine.BARE_LF]),
        (b"MAIL\nRCPT\r\n", [BadLine.BARE_LF, b"RCPT"]),
        (b"NO\rOP\r\n", [BadLine.BARE_CR]),
        (b"NOOP\r\r\n", [BadLine.BARE_CR]),
        (b"x" * 20 + b"\r\nQUIT\r\n", [b"x" * 20, b"QUIT"]),
        (b"x" * 21 + b"\r\nQUIT\r\n", [BadLine.TOO_LONG, b"QUIT"]),
        (b"x" * 100 + b"\r\nQUIT\r\n", [BadLine.TOO_LONG, b"QUIT"]),
        (b"x" * 100 + b"\n", [BadLine.BARE_LF]),
    ],
)
def test_only_crlf_ends_a_line_wherever_the_chunks_are_cut(octets: bytes, expected: list[bytes | BadLine]) -> None:
    for size in (1, 2, 3, len(octets)):  # RFC 5321 2.3.8
        reader = LineReader(max_line_octets=20)
        found: list[bytes | BadLine] = []
        for start in range(0, len(octets), size):
            reader.feed(octets[start : start + size])
            found += read_all(reader)
        assert found == expected, size


def test_an_endless_line_is_bounded_in_memory_and_then_told_apart() -> None:
    reader = LineReader(max_line_octets=100, max_skipped_octets=10_000)
    answers = []
    for _ in range(300):
        reader.feed(b"y" * 50)
        answers.append(reader.next_line())
        assert len(reader._buffer) <= 152
    assert answers[0] is None
    assert answers[-1] is BadLine.ENDLESS


def test_a_waiting_command_can_be_recognised_before_it_is_taken() -> None:
    reader = LineReader()
    reader.feed(b"rcpt TO:<alice@example.test>\r\nRCPT TO:<bo")
    assert reader.peek_line(b"RCPT ")
    reader.next_line()
    assert not reader.peek_line(b"RCPT ")
    assert not reader.has_line


@given(st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\r", b"").replace(b"\n", b"")), max_size=20))
def test_every_line_comes_back_as_it_was(lines: list[bytes]) -> None:
    reader = LineReader()
    reader.feed(b"".join(line + b"\r\n" for line in lines))
    assert read_all(reader) == lines
