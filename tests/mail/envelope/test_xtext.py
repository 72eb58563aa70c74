"""xtext (RFC 3461 4): any text survives encoding and decoding, on one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.envelope.xtext import decode_xtext, encode_xtext, is_xtext


@pytest.mark.parametrize(
    ("text", "xtext"),
    [("QQ314159", "QQ314159"), ("a+b=c d", "a+2Bb+3Dc+20d"), ("ü", "+C3+BC"), ("", ""), ("~!", "~!")],
)
def test_text_as_xtext(text: str, xtext: str) -> None:
    assert encode_xtext(text) == xtext
    assert decode_xtext(xtext) == text
    assert is_xtext(xtext)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_any_text_without_controls_comes_back(text: str) -> None:
    assert is_xtext(encode_xtext(text))
    assert decode_xtext(encode_xtext(text)) == text


def test_codes_of_controls_are_left_as_written() -> None:
    assert decode_xtext("a+0D+0Ab+7F+00+20") == "a+0D+0Ab+7F+00 "
    assert decode_xtext("a+E9b") == "a\ufffdb"


@pytest.mark.parametrize("text", ["a b", "a=b", "a+b", "a+2b", "ü", "+"])
def test_not_xtext(text: str) -> None:
    assert not is_xtext(text)
