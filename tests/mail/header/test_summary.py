"""Typed facts of a header, and message ids (RFC 5322 3.6)."""

from __future__ import annotations

from datetime import datetime

import pytest

from restante_mail.header.addresses import Address
from restante_mail.header.fields import fields, message_ids
from restante_mail.header.summary import envelope, read_header, summary
from restante_mail.limits import Limits
from restante_mail.mime.facts import scan
from tests.mail.material import crlf


def test_the_facts_of_a_header_are_text() -> None:
    facts = scan(
        crlf(
            "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n from here\nFrom: =?utf-8?q?J=C3=B6rg?= <j@example.test>\n"
            "To: grp: a@example.test;, b@example.test\nCc: c@example.test\nCc: d@example.test\n"
            "Date: Tue, 1 Sep 2026 10:00:00 +0200 (CEST)\nMessage-ID: <1@example.test>\n"
            "In-Reply-To: <2@example.test>\nReferences: <3@example.test>\n <2@example.test>\n\n"
        )
    ).summary
    assert facts.subject == "Grüße from here"
    assert facts.from_ == (Address("Jörg", "j@example.test"),)
    assert facts.to == (Address("", "a@example.test", "grp"), Address("", "b@example.test"))
    assert facts.cc == (Address("", "c@example.test"), Address("", "d@example.test"))
    assert facts.sender == facts.reply_to == facts.bcc == ()  # as they stand: only ENVELOPE fills them in
    assert facts.sent_at == datetime.fromisoformat("2026-09-01T10:00:00+02:00")
    assert facts.sent_offset_minutes == 120
    assert facts.message_id == "1@example.test"
    assert facts.in_reply_to == ("2@example.test",)
    assert facts.references == ("3@example.test", "2@example.test")


def test_an_empty_header_has_empty_facts() -> None:
    facts = summary(read_header(b""))
    assert (facts.subject, facts.from_, facts.sent_at, facts.message_id, facts.references) == ("", (), None, "", ())


@pytest.mark.parametrize(
    ("raw", "ids"),
    [
        ("<a@b> <c@d>", ("a@b", "c@d")),
        ("<a@b><c@d>", ("a@b", "c@d")),
        ("Your message of Tue <a@b> (comment <c>)", ("a@b", "c")),
        ("a@b, c@d", ("a@b", "c@d")),
        ("words only", ()),
        ("<a b@c>", ()),
        ("<a@b", ()),
        ("", ()),
    ],
)
def test_message_ids_are_found(raw: str, ids: tuple[str, ...]) -> None:
    assert message_ids(raw) == ids


def test_of_many_references_the_last_are_kept() -> None:
    assert message_ids("".join(f"<{number}@x>" for number in range(2_000)), limit=2) == ("1998@x", "1999@x")


def test_addresses_are_bounded_for_all_lists_together() -> None:
    header = read_header(b"To: a@b, a@b\r\nCc: a@b, a@b\r\nBcc: a@b\r\n\r\n", Limits(addresses=3))
    assert {name: found.items for name, found in header.people.items()} == {"to": 2, "cc": 1}


def test_a_header_is_read_to_its_limit_and_no_half_field() -> None:
    header = read_header(b"Subject: one\r\nFrom: alice@example.test\r\n\r\n", Limits(header_octets=30))
    assert header.raw == {"subject": "one"}


def test_fields_know_their_octets() -> None:
    block = b"From x\r\nA: 1\r\n 2\r\njunk\r\nB :3\r\n\r\n"
    found = list(fields(block))
    assert [(field.name, block[field.start : field.end]) for field in found] == [
        (b"A", b"A: 1\r\n 2\r\n"),
        (b"B", b"B :3\r\n"),
    ]
    assert [block[field.value_start : field.end] for field in found] == [b" 1\r\n 2\r\n", b"3\r\n"]


def japanese(text: str) -> bytes:
    return text.encode("iso-2022-jp")


def test_raw_iso_2022_jp_is_read_although_its_octets_look_like_quotes_and_brackets() -> None:  # RFC 1468
    block = (
        b"Subject: " + japanese("会議の案内") + b" [1]\r\n " + japanese("続き") + b"\r\n"
        b"From: " + japanese("アーサー") + b" <arthur@example.jp>, " + japanese("あい") + b" <ai@example.jp>\r\n"
        b'To: "' + japanese("アー") + b'" <bob@example.jp>\r\nCc: carol@example.jp (' + japanese("アベ") + b")\r\n\r\n"
    )
    assert b'%"!<' in block
    found = summary(read_header(block))
    assert found.subject == "会議の案内 [1] 続き"
    assert found.from_ == (Address("アーサー", "arthur@example.jp"), Address("あい", "ai@example.jp"))
    assert found.to == (Address("アー", "bob@example.jp"),)
    assert found.cc == (Address("アベ", "carol@example.jp"),)
    assert "アーサー".encode() in envelope(read_header(block))


@pytest.mark.parametrize(
    ("raw", "subject"),
    [
        (b"\x1b$B2q5D", "会議"),  # the escape back to ASCII is missing
        (b"\x1b$B2q\x1b(J-\x1b(I1249\x1b(Ba", "会-ｱｲｴｹa"),
        (b"\x1b$B2q\x1b(B =?utf-8?q?=C3=BC?=", "会 ü"),
        (b"\x1b[31mred\x1b[0m", "[31mred [0m"),  # no charset: a control is a space
    ],
)
def test_odd_raw_iso_2022_jp(raw: bytes, subject: str) -> None:
    assert summary(read_header(b"Subject: " + raw + b"\r\n\r\n")).subject == subject
