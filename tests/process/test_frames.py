"""Frames of Execute between processes of one machine."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_process.frames import (
    FIRST_ROOM_OCTETS,
    MAX_HELLO_OCTETS,
    FrameBuffer,
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


def received(buffer: FrameBuffer, octets: bytes, most: int) -> Frames:
    """All frames of some octets, of which the buffer receives at most `most` at a time."""
    found: Frames = []
    while octets:
        room = buffer.room
        count = min(len(room), most, len(octets))
        if count:
            room[:count], octets = octets[:count], octets[count:]
            buffer.received(count)
        if not count or most % 2:  # otherwise only when the buffer is full
            found += [(kind, bytes(content)) for kind, content in iter(buffer.next_frame, None)]
    return found + [(kind, bytes(content)) for kind, content in iter(buffer.next_frame, None)]


@given(FRAMES, st.integers(1, 1_000))
def test_a_buffer_reads_frames_cut_anywhere(frames: Frames, most: int) -> None:
    octets = b"".join(frame(*each) for each in frames)
    assert received(FrameBuffer(300), octets, most) == frames


@pytest.mark.parametrize("most", [4_099, 1 << 20])
def test_a_buffer_grows_for_the_largest_frame_alone(most: int) -> None:
    sizes = [10, FIRST_ROOM_OCTETS, 3 * FIRST_ROOM_OCTETS, 5, FIRST_ROOM_OCTETS - 5, 200_000, 0]
    frames = [(Kind.MESSAGE, bytes([number]) * size) for number, size in enumerate(sizes)]
    buffer = FrameBuffer(1 << 20)
    assert received(buffer, b"".join(frame(*each) for each in frames), most) == frames
    assert buffer.next_frame() is None
    assert len(buffer.room) <= max(sizes) + 5 + FIRST_ROOM_OCTETS


def test_a_buffer_refuses_a_frame_by_its_head() -> None:
    for octets in (frame(Kind.MESSAGE, bytes(11)), b"\0\0\0\0\x09"):
        with pytest.raises(MalformedFrame):
            received(FrameBuffer(10), octets[:5], 5)


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
