"""The scanner of contents: faults are found whatever the division, and nothing passes after one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_gateways.smtp.content import ContentFault, ContentScanner
from restante_gateways.smtp.data import DotFrame


def scan(
    octets: bytes, cuts: list[int], max_octets: int = 1 << 20, max_line: int = 1000
) -> tuple[bytes, ContentScanner]:
    """Feed pieces of the sizes `cuts`, in turn."""
    scanner, passed, at, turn = ContentScanner(max_octets, max_line), b"", 0, 0
    while at < len(octets):
        size = cuts[turn % len(cuts)]
        passed, at, turn = passed + scanner.feed(octets[at : at + size]), at + size, turn + 1
    scanner.finish()
    return passed, scanner


@pytest.mark.parametrize(
    ("octets", "fault"),
    [
        (b"", None),
        (b"a\r\n", None),
        (b"a", None),  # RFC 3030 2: a chunk may end anywhere, the last one too
        (b"\r\n.\r\n..\r\n", None),  # a dot means nothing here
        (b"a\rb\r\n", ContentFault.BARE_LINE_END),
        (b"a\nb\r\n", ContentFault.BARE_LINE_END),
        (b"\n", ContentFault.BARE_LINE_END),
        (b"a\r\n\r", ContentFault.BARE_LINE_END),
        (b"a\r\r\n", ContentFault.BARE_LINE_END),
        (b"a\n\r\n", ContentFault.BARE_LINE_END),
        (b"\r\n.\n", ContentFault.BARE_LINE_END),
        (b"a\0\r\n", ContentFault.NUL),
        (b"x" * 51 + b"\r\n", ContentFault.LINE_TOO_LONG),
        (b"x" * 50 + b"\r\n" + b"y" * 51, ContentFault.LINE_TOO_LONG),
        (b"x" * 50 + b"\r\n" + b"y" * 50, None),
        ((b"x" * 48 + b"\r\n") * 20, None),
        ((b"x" * 48 + b"\r\n") * 20 + b"z", ContentFault.TOO_BIG),
    ],
)
def test_the_fault_is_the_same_wherever_pieces_are_cut(octets: bytes, fault: ContentFault | None) -> None:
    for size in range(1, min(len(octets), 60) + 2):
        passed, scanner = scan(octets, [size], max_octets=1000, max_line=50)
        assert scanner.fault is fault, size
        assert octets.startswith(passed)
        if fault is None:
            assert passed == octets
            assert scanner.size_octets == len(octets)


def test_nothing_passes_after_a_fault() -> None:
    scanner = ContentScanner(1000, 1000)
    assert scanner.feed(b"good\r\n") == b"good\r\n"
    assert scanner.feed(b"bad\0\r\n") == b""
    assert scanner.feed(b"more\r\n") == b""
    assert scanner.fault is ContentFault.NUL
    assert scanner.discarded_octets == len(b"bad\0\r\nmore\r\n")


PIECES = st.sampled_from([b".", b"\r\n", b"a", b"\r\n.", b"\r", b"\n", b"\0", b"text " * 8, b"\r\n\r\n"])
CUTS = st.lists(st.integers(1, 9), min_size=1, max_size=40)


@given(st.lists(PIECES, max_size=30).map(b"".join), CUTS, CUTS)
def test_bdat_judges_and_passes_on_what_data_does(content: bytes, chunks: list[int], packets: list[int]) -> None:
    content += b"\r\n"
    stuffed = b"".join(b"." + line if line.startswith(b".") else line for line in content.splitlines(keepends=True))
    if any(end in content for end in (b"\r.", b"\n.")):  # `splitlines` has stuffed after bare line ends too
        stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
    by_chunks, chunked = scan(content, chunks, max_octets=150, max_line=60)
    frame, framed, by_dot, at, turn = DotFrame(), ContentScanner(150, 60), b"", 0, 0
    wire = stuffed + b".\r\n"
    while not frame.finished:
        size = packets[turn % len(packets)]
        by_dot, at, turn = by_dot + framed.feed(frame.feed(wire[at : at + size])), at + size, turn + 1
    framed.finish()
    assert (chunked.fault is None) == (framed.fault is None)
    if chunked.fault is None:
        assert by_chunks == by_dot == content
