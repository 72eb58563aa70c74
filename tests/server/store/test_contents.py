"""Sections of a content that is loaded with its octets: the Reader of one, and `cut`, which reads any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from restante_mail.mime import parts
from restante_mail.mime.decoders import Decoding
from restante_mail.mime.facts import scan
from restante_mail.mime.sections import Kind
from restante_server.store import contents
from restante_server.store.contents import Location, Stored, Wanted

HEADS = (b"", b"Return-Path: <bob@example.org>\r\nSubject: added\r\n")
MESSAGES = (
    b"Subject: one\r\nFrom: a@example.org\r\n\r\nbody\r\n",
    b"Subject: no blank line\r\n",
    b"\r\nno header\r\n",
    b"Subject: no body\r\n\r\n",
    b"no header at all\r\n",
)
SECTIONS = (
    Wanted(),
    Wanted(kind=Kind.HEADER),
    Wanted(kind=Kind.TEXT),
    Wanted(kind=Kind.HEADER, fields=("subject", "Return-Path")),
    Wanted(kind=Kind.HEADER, fields=("subject",), exclude=True),
)
WITHOUT_TRANSACTION: Any = None  # the octets are loaded


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("octets", MESSAGES)
@pytest.mark.parametrize("wanted", SECTIONS)
def test_a_reader_makes_the_whole_section(head: bytes, octets: bytes, wanted: Wanted) -> None:
    structure = parts.encode(scan(octets).tree)
    read = contents.reader(wanted)
    assert read is not None
    stored = Stored(1, len(octets), Location.DATABASE, None, structure, octets)
    made = read(head, octets, structure if contents.need_structure([wanted]) else b"")
    assert contents.cut(WITHOUT_TRANSACTION, Path(), stored, head, wanted, 1_000) == (made, len(made))


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted(path=(1,)),
        Wanted(path=(1,), kind=Kind.MIME),
        Wanted(offset=1),
        Wanted(length=0),
        Wanted(kind=Kind.HEADER, fields=("subject",), length=10),
        Wanted(path=(1,), decoding=Decoding.TEXT),
    ],
)
def test_other_sections_have_no_reader(wanted: Wanted) -> None:
    assert contents.reader(wanted) is None
    assert contents.need_structure([Wanted(), wanted])
