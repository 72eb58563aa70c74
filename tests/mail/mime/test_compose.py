"""Messages from structured parts: the scanner and the standard library read the same parts back."""

from __future__ import annotations

import email
import email.message
import email.policy
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restante_mail.canonical import line_ends
from restante_mail.header.addresses import Address
from restante_mail.mime.compose import Attached, ComposeError, Outgoing, compose
from restante_mail.mime.decoders import decoded
from restante_mail.mime.facts import scan
from restante_mail.mime.text import part_text

PLAIN = Outgoing(
    from_=[Address("Alice", "alice@example.test")],
    sent_at=datetime(2026, 9, 1, 10, 0, tzinfo=timezone(timedelta(hours=2))),
    message_id="1@example.test",
)

visible = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=120)
names = visible.map(lambda text: " ".join(text.split()))
people = st.builds(
    Address,
    names,
    st.sampled_from(["bob@example.test", '"b o b"@example.test', "b.o+b@[192.0.2.1]", "bö@exämple.test"]),
    group=st.just(""),
)


@given(names, st.lists(people, max_size=4), st.lists(people, max_size=3))
def test_names_and_subjects_come_back(subject: str, to: list[Address], cc: list[Address]) -> None:
    content = compose(replace(PLAIN, subject=subject, to=to, cc=cc, bcc=cc))
    facts = scan(content).summary
    assert facts.subject == subject
    assert (facts.to, facts.cc, facts.bcc) == (tuple(to), tuple(cc), tuple(cc))
    assert facts.from_ == tuple(PLAIN.from_)
    assert line_ends(content).canonical
    assert max(map(len, content.split(b"\r\n"))) <= 998  # RFC 5322 2.1.1


def test_the_fields_that_tie_a_thread() -> None:
    facts = scan(compose(replace(PLAIN, in_reply_to=["2@x"], references=["3@x", "2@x"]))).summary
    assert (facts.message_id, facts.in_reply_to, facts.references) == ("1@example.test", ("2@x",), ("3@x", "2@x"))
    assert facts.sent_at == PLAIN.sent_at
    assert facts.sent_offset_minutes == 120


@settings(max_examples=50)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=200), st.binary(max_size=100), names)
def test_bodies_and_files_come_back(text: str, octets: bytes, name: str) -> None:
    content = compose(
        replace(PLAIN, text=text, html="<p>x", attachments=[
            Attached(name, "application/x", octets), Attached("i.png", "image/png", octets, content_id="i@x"),
        ])
    )  # fmt: skip
    tree = scan(content).tree
    alternative, file = tree.children
    plain, related = alternative.children
    assert [part.media_type for part in related.children] == ["text/html", "image/png"]
    assert "".join(part_text(content, plain)).split() == text.split()
    assert b"".join(decoded(content, file)) == octets
    assert b"".join(decoded(content, related.children[1])) == octets
    assert (file.filename, file.disposition) == (name, "attachment")
    assert related.children[1].content_id == "i@x"
    assert content.isascii()


def test_the_standard_library_reads_the_same() -> None:
    content = compose(
        replace(PLAIN, subject="Grüße", to=[Address("Müller, Bob", "bob@example.test")], text="ä", html="<p>ä")
    )
    message = email.message_from_bytes(content, policy=email.policy.default)
    assert message["subject"] == "Grüße"
    assert message["to"].addresses[0].display_name == "Müller, Bob"
    body = message.get_body(("plain",))
    assert isinstance(body, email.message.EmailMessage)
    assert body.get_content().strip() == "ä"
    assert not message.defects


def test_attached_messages_are_kept_octet_for_octet() -> None:
    inner = b"Subject:  inner\r\n\r\n\xff" + b"x" * 2_000 + b"\r\n"
    content = compose(replace(PLAIN, text="see", attachments=[Attached("m.eml", "message/rfc822", inner)] * 2))
    tree = scan(content).tree
    for part in tree.children[1:]:
        assert content[part.body_start : part.body_end] == inner
        assert (part.is_message, part.encoding) == (True, "8bit")


def test_other_fields_are_added_in_order() -> None:
    content = compose(
        replace(PLAIN, extra_fields=[("X-One", "a"), ("X-Two", "ü " * 80), ("X-One", "word " * 100 + "end")])
    )
    assert content.index(b"X-One: a\r\n") < content.index(b"X-Two: =?utf-8?")
    assert max(map(len, content.split(b"\r\n"))) < 80


CRLF = "x\r\nBcc: evil@example.test"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"subject": CRLF}, "subject"),
        ({"subject": "a\nb"}, "subject"),
        ({"subject": "a\0"}, "subject"),
        ({"to": [Address(CRLF, "a@x")]}, "to"),
        ({"to": [Address("", "a@x\r\nBcc: b@x")]}, "to"),
        ({"cc": [Address("", "a@x, b@x")]}, "cc"),
        ({"bcc": [Address("", "nobody")]}, "bcc"),
        ({"message_id": "a>\r\nX: y"}, "message_id"),
        ({"message_id": "a b"}, "message_id"),
        ({"references": ["<a@b>"]}, "references"),
        ({"extra_fields": [("X-A\r\nB", "c")]}, "extra_fields"),
        ({"extra_fields": [("X A", "c")]}, "extra_fields"),
        ({"extra_fields": [("Subject", "c")]}, "extra_fields"),
        ({"extra_fields": [("Content-Type", "c")]}, "extra_fields"),
        ({"extra_fields": [("X-A", CRLF)]}, "X-A"),
        ({"attachments": [Attached(CRLF, "a/b", b"")]}, "attachments"),
        ({"attachments": [Attached("a", "a/b\r\nX: y", b"")]}, "attachments"),
        ({"attachments": [Attached("a", "multipart/mixed", b"")]}, "attachments"),
        ({"attachments": [Attached("a", "a/b", b"", content_id="x>\r\nX: y")]}, "attachments"),
        ({"attachments": [Attached("a", "message/rfc822", b"\0")]}, "attachments"),
        ({"text": "a\0b"}, "text"),
        ({"html": "\ud800"}, "html"),
        ({"from_": []}, "from"),
        ({"from_": [Address("", "a@x"), Address("", "b@x")]}, "sender"),
        ({"sender": Address("", "x")}, "sender"),
    ],
)  # fmt: skip
def test_no_value_can_begin_another_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(ComposeError) as raised:
        compose(replace(PLAIN, **change))  # type: ignore[arg-type]
    assert raised.value.field == field
