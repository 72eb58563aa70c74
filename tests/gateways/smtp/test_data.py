"""The content after DATA: its end, its dots and its faults, with any division of the stream."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_gateways.smtp.content import ContentFault, ContentScanner
from restante_gateways.smtp.data import DotFrame


@dataclass
class Scanned:
    """The results of frame and scanner."""

    fault: ContentFault | None
    size_octets: int
    finished: bool
    rest: bytes


def scan(octets: bytes, size: int, max_octets: int = 1 << 20, max_line_octets: int = 1000) -> tuple[bytes, Scanned]:
    """Feed in chunks of `size`; all octets after the end in the stream become `rest`."""
    frame, scanner, content, rest = DotFrame(), ContentScanner(max_octets, max_line_octets), b"", b""
    for start in range(0, len(octets), size):
        content += scanner.feed(frame.feed(octets[start : start + size]))
        if frame.finished:
            scanner.finish()
            rest = frame.rest + octets[start + size :]
            break
    return content, Scanned(scanner.fault, scanner.size_octets, frame.finished, rest)


@pytest.mark.parametrize(
    ("octets", "content", "rest"),
    [
        (b".\r\n", b"", b""),
        (b"\r\n.\r\n", b"\r\n", b""),
        (b"a\r\n.\r\n", b"a\r\n", b""),
        (b"a\r\n.\r\nQUIT\r\n", b"a\r\n", b"QUIT\r\n"),
        (b"..\r\n.\r\n", b".\r\n", b""),  # RFC 5321 4.5.2: exactly one dot goes
        (b"...\r\n.\r\n", b"..\r\n", b""),
        (b".a\r\n.\r\n", b"a\r\n", b""),  # RFC 5321 4.5.2: the first is deleted before any text
        (b"a\r\n..b\r\n...c\r\n.\r\n", b"a\r\n.b\r\n..c\r\n", b""),
        (b"a.\r\n.\r\n", b"a.\r\n", b""),
        (b"\r\n\r\n.\r\n", b"\r\n\r\n", b""),
        (b"..\r\n..\r\n..\r\n.\r\n.\r\n", b".\r\n.\r\n.\r\n", b".\r\n"),
    ],
)
def test_content_is_unstuffed_and_ends_at_the_dot_wherever_chunks_are_cut(
    octets: bytes, content: bytes, rest: bytes
) -> None:
    for size in range(1, len(octets) + 1):
        found, scanner = scan(octets, size)
        assert (found, scanner.finished, scanner.rest, scanner.fault) == (content, True, rest, None), size
        assert scanner.size_octets == len(content)


SMUGGLED = b"MAIL FROM:<mallory@example.net>\r\n"


@pytest.mark.parametrize(
    "false_end",
    [
        b"\n.\n",
        b"\r.\r",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r\n.\r",
        b"\r.\r\n",
        b"\n\n.\r\n",
        b"\r\r\n.\r\r\n",
        b"\r\n.\r\r\n",
    ],
)
def test_a_false_end_is_data_and_the_whole_is_refused(false_end: bytes) -> None:
    octets = b"Subject: x\r\n\r\nhello" + false_end + SMUGGLED + b"\r\n.\r\nQUIT\r\n"  # RFC 5321 2.3.8, 4.1.1.4
    for size in range(1, len(octets) + 1):
        _, scanner = scan(octets, size)
        assert scanner.finished
        assert scanner.fault is ContentFault.BARE_LINE_END, size
        assert scanner.rest == b"QUIT\r\n"


def test_a_frame_that_has_ended_takes_nothing() -> None:
    frame = DotFrame()
    frame.feed(b".\r\n")
    with pytest.raises(ValueError, match="ended"):
        frame.feed(b"more")


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
def test_line_length_counts_across_chunks(size: int) -> None:
    fits = b"x\r\n" + b"y" * 50 + b"\r\n" + b"." * 51 + b"\r\n" + b"z" * 50 + b"\r\n.\r\n"
    assert scan(fits, size, max_line_octets=50)[1].fault is None
    for too_long in (b"y" * 51 + b"\r\n.\r\n", b"a\r\n" + b"y" * 51 + b"\r\nb\r\n.\r\n", b"y" * 500 + b"\r\n.\r\n"):
        _, scanner = scan(too_long, size, max_line_octets=50)
        assert scanner.fault is ContentFault.LINE_TOO_LONG
        assert scanner.finished


@pytest.mark.parametrize("size", [1, 3, 10_000])
def test_size_limit_counts_what_size_counts(size: int) -> None:
    octets = b"..345678\r\n" * 10 + b".\r\n"  # 9 octets a line without the stuffed dot (RFC 1870 5)
    assert scan(octets, size, max_octets=90)[1].fault is None
    _, scanner = scan(octets, size, max_octets=89)
    assert scanner.fault is ContentFault.TOO_BIG  # RFC 1870 6.3
    assert scanner.finished


def test_memory_is_bounded_by_the_chunk() -> None:
    frame = DotFrame()
    for _ in range(200):
        out = frame.feed(b"q" * 65_534 + b"\r\n")
        assert len(out) <= 65_540
        assert len(frame._held) <= 4


def stuffed(content: bytes) -> bytes:
    """The sender's octets on the wire (RFC 5321 4.5.2), computed line by line for comparison."""
    lines = content.split(b"\r\n")
    return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines) + b".\r\n"


PIECES = st.sampled_from([b".", b"..", b"\r\n", b"a", b"\r\n.", b"\r\n.\r\n", b"text", b" "])


@given(st.lists(PIECES, max_size=30).map(b"".join), st.lists(st.integers(1, 9), min_size=1, max_size=60))
def test_what_a_sender_stuffs_comes_back_at_any_cut(content: bytes, cuts: list[int]) -> None:
    if content and not content.endswith(b"\r\n"):
        content += b"\r\n"
    wire, frame, found, at, turn = stuffed(content) + b"NOOP\r\n", DotFrame(), b"", 0, 0
    while not frame.finished:
        size = cuts[turn % len(cuts)]
        found, at, turn = found + frame.feed(wire[at : at + size]), at + size, turn + 1
    assert found == content
    assert frame.rest + wire[at:] == b"NOOP\r\n"


@given(st.lists(st.sampled_from([b"\r", b"\n", b".", b"a", b"\0", b"\r\n", b"\r\n.\r\n"]), max_size=40).map(b"".join))
def test_the_first_true_end_is_the_only_end(octets: bytes) -> None:
    expected = (b"\r\n" + octets).find(b"\r\n.\r\n")
    for size in (1, 2, 3, 5, 1000):
        _, scanner = scan(octets, size)
        assert scanner.finished == (expected >= 0)
        if scanner.finished:
            assert scanner.rest == octets[expected + 3 :]
            raw = octets[:expected]
            clean = raw.replace(b"\r\n", b"")
            assert (scanner.fault is None) == (not set(clean) & set(b"\r\n\0"))
