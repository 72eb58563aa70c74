"""Canonicalization (RFC 6376 3.4)."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.authentication.dkim.canonicalization import Canonicalization, new_body, relaxed_field

RELAXED, SIMPLE = Canonicalization.RELAXED, Canonicalization.SIMPLE


def written(form: Canonicalization, *pieces: bytes) -> bytes:
    body = new_body(form)
    return b"".join([*(octets for piece in pieces for octets in body.feed(piece)), *body.finish()])


@pytest.mark.parametrize(
    ("octets", "relaxed"),
    [
        (b"A: X\r\n", b"a:X\r\n"),  # RFC 6376 3.4.5
        (b"B : Y\t\r\n\tZ  \r\n", b"b:Y Z\r\n"),
        (b"Subject:\r\n", b"subject:\r\n"),
        (b"Subject: \t \r\n", b"subject:\r\n"),
        (b"SubJect:a:b\r\n", b"subject:a:b\r\n"),
        (b"To:  a@b,\r\n    c@d ,\r\n\te@f\r\n", b"to:a@b, c@d , e@f\r\n"),
        (b"X: \xc3\xa4  \xff\r\n", b"x:\xc3\xa4 \xff\r\n"),
    ],
)
def test_a_relaxed_field(octets: bytes, relaxed: bytes) -> None:
    assert relaxed_field(octets) == relaxed


BODIES = [
    # body, simple, relaxed
    (b" C \r\nD \t E\r\n\r\n\r\n", b" C \r\nD \t E\r\n", b" C\r\nD E\r\n"),  # RFC 6376 3.4.5
    (b"", b"\r\n", b""),  # RFC 6376 3.4.3 and 3.4.4: an empty body
    (b"\r\n", b"\r\n", b""),
    (b"\r\n\r\n\r\n", b"\r\n", b""),
    (b" \r\n", b" \r\n", b""),
    (b" \r\n\t\r\n", b" \r\n\t\r\n", b""),
    (b"a", b"a\r\n", b"a\r\n"),
    (b"a ", b"a \r\n", b"a\r\n"),
    (b"a\r\n", b"a\r\n", b"a\r\n"),
    (b"a\r\n \r\n", b"a\r\n \r\n", b"a\r\n"),
    (b"\r\n\r\na\r\n", b"\r\n\r\na\r\n", b"\r\n\r\na\r\n"),
    (b"a\r\n\r\n\r\nb\r\n\r\n", b"a\r\n\r\n\r\nb\r\n", b"a\r\n\r\n\r\nb\r\n"),
    (b"a\t \t b  \t\r\n", b"a\t \t b  \t\r\n", b"a b\r\n"),
    (b"\t\ta\r\n", b"\t\ta\r\n", b" a\r\n"),
    (b"a\r", b"a\r\r\n", b"a\r\r\n"),  # bare CR and LF are octets of a line
    (b"a \r", b"a \r\r\n", b"a \r\r\n"),
    (b"a\n", b"a\n\r\n", b"a\n\r\n"),
    (b"a\r\r\n\r\n", b"a\r\r\n", b"a\r\r\n"),
    (b"a\r\n\n\r\n", b"a\r\n\n\r\n", b"a\r\n\n\r\n"),
    (b"\n\r\n\r\n", b"\n\r\n", b"\n\r\n"),
]


@pytest.mark.parametrize(("body", "simple", "relaxed"), BODIES)
def test_a_body(body: bytes, simple: bytes, relaxed: bytes) -> None:
    assert (written(SIMPLE, body), written(RELAXED, body)) == (simple, relaxed)


@pytest.mark.parametrize(("body", "simple", "relaxed"), BODIES)
def test_a_body_octet_by_octet(body: bytes, simple: bytes, relaxed: bytes) -> None:
    pieces = [body[at : at + 1] for at in range(len(body))]
    assert (written(SIMPLE, *pieces), written(RELAXED, *pieces)) == (simple, relaxed)


def relaxed_by_lines(body: bytes) -> bytes:
    """The rules of RFC 6376 3.4.4, line by line."""
    lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)


def simple_by_lines(body: bytes) -> bytes:
    """The rule of RFC 6376 3.4.3."""
    while body.endswith(b"\r\n"):
        body = body[:-2]
    return body + b"\r\n"


OCTETS = st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"\r", b"\n", b"a", b"bc", b" \r\n", b"\xff"])).map(b"".join)


@given(OCTETS, st.lists(st.integers(0, 40)))
def test_pieces_of_any_size_give_the_same_body(body: bytes, cuts: list[int]) -> None:
    places = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})
    pieces = [body[start:end] for start, end in pairwise(places)]
    assert written(RELAXED, *pieces) == relaxed_by_lines(body)
    assert written(SIMPLE, *pieces) == simple_by_lines(body)


@pytest.mark.parametrize("form", [SIMPLE, RELAXED])
def test_many_blank_lines_are_held_as_their_number(form: Canonicalization) -> None:
    body = new_body(form)
    held = [octets for _ in range(1_000) for octets in body.feed(b"\r\n" * 1_000)]
    assert held == []
    after = list(body.feed(b"x\r\n"))
    assert max(map(len, after)) < 10_000
    assert b"".join(after) == b"\r\n" * 1_000_000 + b"x"
