"""Modified UTF-7: one encoding for each name (RFC 3501 5.1.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_gateways.imap.grammar import utf7

SPELLINGS = [
    ("INBOX", b"INBOX"),
    ("", b""),
    ("R&D", b"R&-D"),  # RFC 3501 5.1.3
    ("Entwürfe", b"Entw&APw-rfe"),
    ("台北", b"&U,BTFw-"),
    ("~peter/mail/台北/日本語", b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"),  # RFC 3501 5.1.3
    ("😀", b"&2D3eAA-"),
    ("é&é", b"&AOk-&-&AOk-"),
    ("tab\there", b"tab&AAk-here"),
]


@pytest.mark.parametrize(("name", "octets"), SPELLINGS)
def test_names_are_spelled_and_read(name: str, octets: bytes) -> None:
    assert utf7.encode(name) == octets
    assert utf7.decode(octets) == name


@pytest.mark.parametrize(
    "octets",
    [
        b"&",
        b"&AOk",
        b"a&",
        b"&AGE-",
        b"&-&",
        b"\xc3\xa9",
        b"a\tb",
        b"a\0b",
        b"&*-",
        b"&2D0-",
        b"&AOl-x&",
        b"&AOk-&AOk-",
        b"&AOkA-",
        b"&AP-",
        b"&A-",
        b"&////-",
        b"&,,,,-x&AA-",
    ],
)
def test_other_spellings_are_refused(octets: bytes) -> None:
    with pytest.raises(utf7.Utf7Error):
        utf7.decode(octets)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_every_name_survives(name: str) -> None:
    assert utf7.decode(utf7.encode(name)) == name


@given(st.text(alphabet="aA&-,+/é台\x00 "), st.binary(max_size=12))
def test_what_is_read_has_that_one_spelling(text: str, octets: bytes) -> None:
    for spelled in (text.encode("utf-8"), octets, b"&" + octets + b"-"):
        try:
            name = utf7.decode(spelled)
        except utf7.Utf7Error:
            continue
        assert utf7.encode(name) == spelled


def test_a_lone_surrogate_has_no_spelling() -> None:
    with pytest.raises(utf7.Utf7Error):
        utf7.encode("\ud800")
