"""Replies as octets: lines of at most 512, fitting enhanced codes, no injection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_gateways.smtp import replies
from restante_gateways.smtp.replies import Reply


def test_a_reply_is_one_line_with_its_enhanced_code() -> None:
    assert Reply(550, "5.1.1", "No such recipient").encode() == b"550 5.1.1 No such recipient\r\n"


def test_a_reply_without_enhanced_code() -> None:
    assert Reply(354, "", "Go ahead").encode() == b"354 Go ahead\r\n"


def test_several_lines_are_hyphenated_and_each_carries_the_code() -> None:
    assert Reply(250, "", "mx.example.test\nPIPELINING\nSIZE 10").encode() == (
        b"250-mx.example.test\r\n250-PIPELINING\r\n250 SIZE 10\r\n"
    )
    assert Reply(214, "2.0.0", "a\nb").encode() == b"214-2.0.0 a\r\n214 2.0.0 b\r\n"


@given(st.text(max_size=2000))
def test_no_text_breaks_the_line_or_the_limit(text: str) -> None:
    for line in Reply(450, "4.2.1", text).encode().split(b"\r\n")[:-1]:
        assert len(line) + 2 <= 512  # RFC 5321 4.5.3.1.5.5
        assert line.startswith((b"450-4.2.1 ", b"450 4.2.1 "))
        assert not set(line) & {*range(9), *range(10, 32), 127}


@pytest.mark.parametrize(("code", "enhanced"), [(250, "5.0.0"), (550, "4.1.1"), (99, ""), (550, "5.1"), (600, "")])
def test_codes_that_contradict_each_other_cannot_be_made(code: int, enhanced: str) -> None:
    with pytest.raises(ValueError):
        Reply(code, enhanced, "x")


def test_what_is_unknown_is_temporary() -> None:
    assert replies.OTHERWISE.encode().startswith(b"451 4.3.0 ")


def test_every_final_reply_carries_an_enhanced_code() -> None:
    for name, reply in vars(replies).items():
        if isinstance(reply, Reply) and reply.code not in {334, 354}:  # RFC 2034 3: all but these and the greetings
            assert reply.enhanced, name
