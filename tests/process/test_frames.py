"""Frames of Execute between processes of one machine."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_process.frames import (
    MAX_HELLO_OCTETS,
    FrameReader,
    FrameTooLarge,
    Kind,
    MalformedFrame,
    frame,
    hello,
    parse_hello,
)

Frames = list[tuple[Kind, bytes]]
FRAMES = st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=300)), max_size=20)


def read(reader: FrameReader, *pieces: bytes) -> Frames:
    """All frames of some octets, fed one piece after the other."""
    found: Frames = []
    for piece in pieces:
        reader.feed(piece)
        while (one := reader.next_frame()) is not None:
            found.append(one)
    return found


@given(FRAMES, st.lists(st.integers(0, 6_000)))
def test_frames_cut_anywhere_are_read_whole(frames: Frames, cuts: list[int]) -> None:
    octets = b"".join(frame(*each) for each in frames)
    places = [0, *sorted(cut for cut in cuts if cut < len(octets)), len(octets)]
    pieces = [octets[start:end] for start, end in itertools.pairwise(places)]
    assert read(FrameReader(300), *pieces) == frames


@given(FRAMES)
def test_frames_are_read_octet_by_octet(frames: Frames) -> None:
    octets = b"".join(frame(*each) for each in frames)
    assert read(FrameReader(300), *(octets[at : at + 1] for at in range(len(octets)))) == frames


@given(st.binary(max_size=200), st.integers(1, 50))
def test_junk_is_refused_or_waits_for_more_and_never_fails_otherwise(junk: bytes, size: int) -> None:
    reader = FrameReader(100)
    try:
        found = read(reader, *(junk[at : at + size] for at in range(0, len(junk), size)))
    except MalformedFrame:
        return
    assert junk.startswith(b"".join(frame(*each) for each in found))


def test_a_frame_above_the_limit_is_refused_by_its_head_alone() -> None:
    reader = FrameReader(100)
    assert read(reader, frame(Kind.MESSAGE, bytes(100))) == [(Kind.MESSAGE, bytes(100))]
    reader.feed(frame(Kind.MESSAGE, bytes(101))[:5])
    with pytest.raises(FrameTooLarge, match="101 octets; at most 100"):
        reader.next_frame()


@pytest.mark.parametrize("kind", [0, 5, 255])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    with pytest.raises(MalformedFrame, match="unknown kind"):
        read(FrameReader(100), bytes([0, 0, 0, 0, kind]))


def test_the_first_frame_carries_the_metadata() -> None:
    metadata = {"restante-identity": "imap", "restante-secret": "s" * 64}
    ((kind, content),) = read(FrameReader(MAX_HELLO_OCTETS), hello(metadata))
    assert kind is Kind.HELLO and parse_hello(content) == metadata


@pytest.mark.parametrize("content", [b"x", b"name:", b": value", b"\xff: value", b"a: b\n\nc: d"])
def test_other_first_frames_are_refused(content: bytes) -> None:
    with pytest.raises(MalformedFrame):
        parse_hello(content)
