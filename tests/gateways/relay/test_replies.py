"""Replies are cut out of octets in any pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_gateways.relay.replies import MAX_LINE_OCTETS, MAX_REPLY_OCTETS, Answer, NotSmtp, ReplyReader


def read(octets: bytes, expected: int, size: int = 1 << 20) -> list[Answer]:
    reader = ReplyReader()
    reader.expect(expected)
    for start in range(0, len(octets), size):
        reader.feed(octets[start : start + size])
    found = []
    while (answer := reader.next()) is not None:
        found.append(answer)
    return found


@pytest.mark.parametrize(
    ("octets", "answers"),
    [
        (b"250 2.1.0 ok\r\n", [Answer(250, "2.1.0 ok")]),
        (b"250\r\n", [Answer(250, "")]),
        (b"250 ok\n", [Answer(250, "ok")]),
        (b"550-5.1.1 no such\r\n550 5.1.1 user\r\n", [Answer(550, "5.1.1 no such\n5.1.1 user")]),
        (b"250 a\r\n450 b\r\n354 c\r\n", [Answer(250, "a"), Answer(450, "b"), Answer(354, "c")]),
        (b"550 caf\xe9\r\n", [Answer(550, "caf\udce9")]),
        (b"250-a\r\n250", []),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_replies(octets: bytes, answers: list[Answer], size: int) -> None:  # RFC 5321 4.2
    assert read(octets, 10, size) == answers


@pytest.mark.parametrize(
    "octets",
    [
        b"\xff\xfe\r\n",
        b"\r\n",
        b"25\r\n",
        b"999 x\r\n",
        b"100 x\r\n",
        b" 25 x\r\n",
        "²50 x\r\n".encode(),
        b"250 " + b"x" * MAX_LINE_OCTETS,
        b"250-x\r\n" * MAX_REPLY_OCTETS,
    ],
)
def test_other_octets_are_an_error(octets: bytes) -> None:
    with pytest.raises(NotSmtp):
        read(octets, 1, 100)


def test_octets_that_nobody_awaits_are_not_paired_with_a_later_command() -> None:
    reader = ReplyReader()
    reader.feed(b"421 idle\r\n")
    reader.expect(1)
    reader.feed(b"250 ok\r\n421 4.4.2 bye\r\n25")
    assert reader.next() == Answer(250, "ok")
    reader.expect(2)
    reader.feed(b"550 no\r\n250 left over\r\n")
    assert reader.next() == Answer(550, "no")
    reader.expect_none()
    reader.expect(1)
    assert not reader.is_ready
    reader.feed(b"250 mine\r\n")
    assert reader.next() == Answer(250, "mine") and reader.next() is None


@given(
    st.lists(
        st.tuples(st.integers(200, 599), st.lists(st.text("abc .-5", max_size=20), min_size=1, max_size=4)), max_size=8
    ),
    st.integers(1, 40),
)
def test_whatever_the_pieces_the_replies_are_the_same(replies: list[tuple[int, list[str]]], size: int) -> None:
    octets = b"".join(
        f"{code}{' ' if index == len(lines) - 1 else '-'}{line}\r\n".encode()
        for code, lines in replies
        for index, line in enumerate(lines)
    )
    wanted = [Answer(code, "\n".join(line.strip() for line in lines)) for code, lines in replies]
    assert read(octets, len(replies), size) == wanted
