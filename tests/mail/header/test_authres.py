"""Reading the results in an Authentication-Results field of another server, in bounded time."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.header.authres import MethodResult, method_results
from restante_mail.header.comments import without_comments


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("mx.example.org; none", []),
        ("mx.example.org 1; spf=pass smtp.mailfrom=a@b.example", [("spf", "pass", {"smtp.mailfrom": "a@b.example"})]),
        (
            'i=2; mx; dkim=PASS (good; d=x) reason="a; b=c" header.b="a/b\\"c" header.d = b.example; arc=none (x',
            [
                ("dkim", "pass", {"reason": "a; b=c", "header.b": 'a/b"c', "header.d": "b.example"}, "good; d=x"),
                ("arc", "none", {}, "x"),
            ],
        ),
        ("mx; dkim/1=fail header.b=ab==", [("dkim", "fail", {"header.b": "ab=="})]),
        ("mx; dmarc", []),
        ("mx; ; =x; dmarc=", []),
        ('mx; dmarc=pass "unclosed', [("dmarc", "pass", {})]),
        ('mx "dmarc=pass; spf=pass', []),
        ("", []),
    ],
)
def test_results_are_read(value: str, expected: list[Any]) -> None:
    assert method_results(value) == [MethodResult(*one) for one in expected]


@given(st.text(st.sampled_from('";()=\\ /.ai1') | st.characters(), max_size=200))
def test_any_text_is_read(text: str) -> None:
    for one in method_results(text):
        assert one.method
        assert one.result == one.result.lower()


@pytest.mark.parametrize("piece", ['\\"', "a", "a.", "a= ", ";", '"', "/", "a ", " ", "1/", "(", "()", "x=y;"])
@pytest.mark.parametrize("begin", ["", '"', '()"', 'a="', "a=b "])
def test_reading_takes_linear_time(begin: str, piece: str) -> None:
    text = begin + piece * 8_000
    began = time.process_time()
    assert len(method_results(text)) <= 100
    without_comments(text)
    assert time.process_time() - began < 0.25
