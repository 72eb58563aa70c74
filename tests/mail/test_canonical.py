"""Line ends: RFC 5322 2.3, RFC 5321 2.3.8."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.canonical import Canonicaliser, NulFound, canonicalise, line_ends

TABLE = [
    (b"", b"", False),
    (b"a\r\nb\r\n", b"a\r\nb\r\n", False),
    (b"a\nb\n", b"a\r\nb\r\n", True),
    (b"a\rb\r\n", b"a\r\nb\r\n", True),
    (b"a", b"a", False),
    (b"a\r\nb", b"a\r\nb", False),
    (b"a\nb", b"a\r\nb", True),
    (b"a\r", b"a\r\n", True),
    (b"\r\r\n\n", b"\r\n\r\n\r\n", True),
    (b"a\n\rb", b"a\r\n\r\nb", True),
]
octets = st.text(alphabet="\r\nab.", max_size=60).map(str.encode)


@pytest.mark.parametrize(("came", "canonical", "changed"), TABLE)
def test_bare_line_ends_become_crlf_and_a_missing_last_one_stays_missing(
    came: bytes, canonical: bytes, changed: bool
) -> None:
    result = canonicalise(came)
    assert (result.octets, result.changed) == (canonical, changed)


def test_canonical_octets_are_not_copied() -> None:
    came = b"a\r\n" * 1000
    assert canonicalise(came).octets is came


@given(octets)
def test_canonicalising_twice_changes_nothing_more(came: bytes) -> None:
    once = canonicalise(came)
    assert once.changed == (once.octets != came)
    assert not canonicalise(once.octets).changed
    assert line_ends(once.octets).canonical


@given(octets, st.lists(st.integers(0, 60), max_size=6))
def test_pieces_give_what_the_whole_gives(came: bytes, cuts: list[int]) -> None:
    stream = Canonicaliser()
    bounds = sorted({0, len(came), *(cut for cut in cuts if cut < len(came))})
    got = b"".join(stream.feed(came[a:b]) for a, b in itertools.pairwise(bounds)) + stream.finish()
    assert got == canonicalise(came).octets
    assert stream.changed == canonicalise(came).changed


def test_nul_is_refused_with_its_place_in_the_whole() -> None:
    with pytest.raises(NulFound) as raised:
        canonicalise(b"ab\0c\r\n")
    assert raised.value.offset == 2
    stream = Canonicaliser()
    stream.feed(b"ab\r")
    with pytest.raises(NulFound) as raised:
        stream.feed(b"\nc\0")
    assert raised.value.offset == 5


@pytest.mark.parametrize(
    ("came", "bare_cr", "bare_lf", "nul"),
    [
        (b"a\r\n", False, False, False),
        (b"a\n.\r\n", False, True, False),
        (b"a\r.\r\r\n", True, False, False),
        (b"a\0\r\n", False, False, True),
    ],
)
def test_smtp_refuses_what_cannot_be_made_canonical(came: bytes, bare_cr: bool, bare_lf: bool, nul: bool) -> None:
    found = line_ends(came)
    assert (found.bare_cr, found.bare_lf, found.nul) == (bare_cr, bare_lf, nul)
