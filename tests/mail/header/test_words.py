"""Encoded words and parameters, RFC 2047 and RFC 2231."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.header.fields import content_value
from restante_mail.header.words import decode_parameters, decode_text

TEXTS = [
    ("plain", "plain"),
    ("=?utf-8?Q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
    ("=?utf-8?q?a_b?= c", "a b c"),
    (
        "=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?= =?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?=",
        "If you can read this you understand the example.",
    ),
    ("=?utf-8?q?a?=   =?utf-8?q?b?=", "ab"),  # RFC 2047 6.2
    ("=?utf-8?q?a?= x =?utf-8?q?b?=", "a x b"),
    ("=?utf-8?q?a?=\r\n =?utf-8?q?b?=", "ab"),
    ("=?utf-8?q?Gr=C3?= =?utf-8?q?=BC=C3=9Fe?=", "Grüße"),  # a character split between words, RFC 2047 6.2
    ("=?utf-8?B?w7w=?==?utf-8?B?w7w=?=", "üü"),
    ("=?utf-8?b?w7w?=", "ü"),  # padding forgotten
    ("=?utf-8?b?!?=", ""),
    ("=?utf-8?b?A?=", "=?utf-8?b?A?="),  # no octet at all
    ("=?iso-2022-jp?B?GyRCRnxLXBsoQg==?= =?iso-2022-jp?B?GyRCOGwbKEI=?=", "日本語"),
    ("=?utf-8*en?q?a?=", "a"),  # RFC 2231 5
    ("=?x-nobody-knows?q?=FC?=", "ü"),
    ("=?us-ascii?q?=FC?=", "ü"),
    ("=?utf-8?q?=FC?=", "ü"),
    ("=?gb2312?B?1tDOxA==?=", "中文"),
    ("Gr\xc3\xbc\xc3\x9fe", "Grüße"),  # raw UTF-8, one octet a character
    ("Gr\xfc\xdfe", "Grüße"),  # raw windows-1252
    ("a\r\n b", "a b"),
    ("a\x00\x01\x1bb", "a b"),
    ("=?utf-8?q?a=0D=0AX:_y?=", "a X: y"),  # no line end comes out of a word
    ("=?utf-8?q?unfinished", "=?utf-8?q?unfinished"),
]


@pytest.mark.parametrize(("raw", "text"), TEXTS, ids=[raw for raw, _ in TEXTS])
def test_encoded_words_are_resolved(raw: str, text: str) -> None:
    assert decode_text(raw) == text


@given(st.text(alphabet="=?utf-8qB_\xc3\xbc \t\r\n*'AB9", max_size=60))
def test_no_field_text_raises_or_holds_a_line_end(raw: str) -> None:
    text = decode_text(raw)
    assert "\n" not in text
    assert "\r" not in text


PARAMETERS = [
    ("text/plain; charset=utf-8", {"charset": "utf-8"}),
    ("text/plain;; CHARSET = utf-8 ;", {"charset": "utf-8"}),
    ("text/plain; charset=us-ascii (plain text)", {"charset": "us-ascii"}),
    ('x/y; name="a;b\\"c"', {"name": 'a;b"c'}),
    ("x/y; name=two words.txt; a=b", {"name": "two words.txt", "a": "b"}),
    ('x/y; name="never closed; a=b', {"name": "never closed; a=b"}),
    ('x/y; name=""', {"name": ""}),
    ("x/y; a=1; a=2", {"a": "1"}),
    ("x/y; filename*=utf-8''%e2%82%ac.txt", {"filename": "€.txt"}),
    ("x/y; filename*=utf-8'en'%e2%82%ac.txt; filename=plain.txt", {"filename": "€.txt"}),
    ("x/y; filename*0*=utf-8''%e2%82; filename*1*=%ac; filename*2=.txt", {"filename": "€.txt"}),  # RFC 2231 4.1
    ("x/y; filename*1=b; filename*0=a; filename*3=d", {"filename": "ab"}),  # up to the gap
    ("x/y; filename*1=b", {}),
    ("x/y; filename*=no-quotes", {"filename": "no-quotes"}),
    ("x/y; filename*=iso-8859-1''%FC", {"filename": "ü"}),
    ("x/y; filename*=nobody-knows''%FC", {"filename": "ü"}),
    ("x/y; name==?utf-8?q?=C3=BC?=.txt", {"name": "ü.txt"}),
    ('x/y; name="=?utf-8?q?=C3=BC?="', {"name": "ü"}),
    ("x/y; name=\xc3\xbc", {"name": "ü"}),
    ("x/y; filename*=utf-8''%0D%0AX:%20y", {"filename": " X: y"}),
    # Encoded words in pieces, whole or cut.
    ('x/y; name*0="=?utf-8?q?r=C3=A9?="; name*1="=?utf-8?q?sum=C3=A9?="', {"name": "résumé"}),
    ('x/y; name*0="=?utf-8?q?r=C3"; name*1="=A9?= x"', {"name": "ré x"}),
    ("x/y; name*0*=utf-8''%3D%3Futf-8%3Fq%3F=C3=A9%3F%3D", {"name": "é"}),
    ("x/y; name*=utf-8''%3D%3F%C3%A9", {"name": "=?é"}),
    # Comments, wherever they stand, and semicolons in them.
    ("x/y (a; b=c) ; d=e (f; g=h)", {"d": "e"}),
    ('x/y; d="(e; f)"; g=h', {"d": "(e; f)", "g": "h"}),
    ("x/y; name=a (1).txt; d=e (f)", {"name": "a (1).txt", "d": "e"}),
    ('x/y; name= (c) a.txt; filename="a (1).txt"', {"name": "a.txt", "filename": "a (1).txt"}),
    ("x/y (it's 5\" wide); d=e", {"d": "e"}),
    ("x/y (never closed; d=e", {}),
    # No type, and no semicolon behind one.
    ("filename=a.txt", {"filename": "a.txt"}),
    ('filename="a b.txt"; size=3', {"filename": "a b.txt", "size": "3"}),
    ("text/plain charset=utf-8; a=b", {"charset": "utf-8", "a": "b"}),
    ("x/y", {}),
    (";", {}),
    ("x/y; =; ;; a; b=", {"b": ""}),
]


@pytest.mark.parametrize(("raw", "parameters"), PARAMETERS, ids=[raw for raw, _ in PARAMETERS])
def test_parameters_are_read(raw: str, parameters: dict[str, str]) -> None:
    assert decode_parameters(content_value(raw).parameters) == parameters


def test_a_thousand_continuations_are_joined() -> None:
    raw = "x/y; " + "; ".join(f"filename*{number}={number % 10}" for number in range(1_000))
    assert decode_parameters(content_value(raw).parameters)["filename"] == "0123456789" * 100


@given(st.text(alphabet="text/plain; =\"\\*0'%(),\xe9\t", max_size=80))
def test_any_structured_value_has_parameter_names_in_lower_case(raw: str) -> None:
    assert all(name == name.lower() for name in decode_parameters(content_value(raw).parameters))


def test_c1_controls_are_no_text_of_a_line() -> None:
    assert decode_text("a\x85b =?iso-8859-1?q?=90x?=") == "a…b  x"  # windows-1252 has a character at 0x85, none at 0x90
