"""The summary of a listing: what a reply, a thread and a list need of the header."""

from __future__ import annotations

import pytest

from restante.v1.types_pb2 import MailAddress, MessageSummary
from restante_mail.mime.facts import scan
from restante_server.store.listing import MOST_REFERENCES, listing_of
from tests.mail.material import crlf


def summary_of(header: str) -> MessageSummary:
    return MessageSummary.FromString(listing_of(scan(crlf(f"{header}\n\nx\n"))).summary)


def test_a_summary_has_what_a_reply_needs() -> None:
    found = summary_of(
        "From: Alice <alice@example.org>\nSender: carol@example.org\n"
        "Reply-To: Team <team@example.org>, bob@example.org\nBcc: bob@example.org\n"
        "In-Reply-To: <2@example.org>\nReferences: <1@example.org>\n <2@example.org>\n"
        "List-Id: =?utf-8?q?B=C3=BCro?= <office.example.org>"
    )
    assert [each.address for each in found.sender] == ["carol@example.org"]
    assert list(found.reply_to) == [
        MailAddress(display_name="Team", address="team@example.org"),
        MailAddress(address="bob@example.org"),
    ]
    assert [each.address for each in found.bcc] == ["bob@example.org"]
    assert (found.in_reply_to, list(found.references)) == ("<2@example.org>", ["<1@example.org>", "<2@example.org>"])
    assert found.list_id == "office.example.org"


def test_absent_fields_are_empty() -> None:
    found = summary_of("From: alice@example.org")
    assert found == MessageSummary(authors=[MailAddress(address="alice@example.org")])


def test_of_many_references_the_first_and_the_last_are_kept() -> None:  # RFC 5537 3.4.4
    ids = [f"<{number}@example.org>" for number in range(500)]
    kept = list(summary_of("References: " + "\n ".join(ids)).references)
    assert kept == [ids[0], *ids[1 - MOST_REFERENCES :]]
    assert len(kept) == MOST_REFERENCES
    few = ids[:MOST_REFERENCES]
    assert list(summary_of("References: " + " ".join(few)).references) == few


@pytest.mark.parametrize(
    ("field", "list_id"),
    [
        ("<list.example.org>", "list.example.org"),
        ('"A <b> list" <list.example.org>', "list.example.org"),
        ("A list <\n list.example.org >", "list.example.org"),
        ("list.example.org", "list.example.org"),  # without brackets, as some programs write it
        ("A list list.example.org", "list.example.org"),
        ("<>", ""),
        ("", ""),
    ],
)
def test_list_ids(field: str, list_id: str) -> None:  # RFC 2919 3
    assert summary_of(f"List-Id: {field}").list_id == list_id
