"""Every reason of the core has an IMAP response."""

from __future__ import annotations

import grpc

from restante import errors
from restante_gateways.imap.errors import REPLIES, status_of


def test_every_reason_has_a_row() -> None:
    assert set(errors.BY_REASON.values()) == set(REPLIES)


def test_no_reply_is_more_than_a_line_of_ascii() -> None:
    for status in REPLIES.values():
        octets = status.encode(b"a1")
        assert octets.isascii() and octets.endswith(b"\r\n") and octets.count(b"\r\n") == 1


def test_what_is_full_or_away_says_so() -> None:
    assert status_of(errors.QuotaExceeded()).code == b"OVERQUOTA"
    assert status_of(errors.Draining()).code == b"UNAVAILABLE"
    assert status_of(errors.UnknownReason("", grpc.StatusCode.UNAVAILABLE)).code == b"UNAVAILABLE"
    assert status_of(errors.MailLoop()).code == b"SERVERBUG"


def test_a_refusal_says_which_field_and_why() -> None:
    named = errors.InvalidArgument(field="keyword", problem="longer than 250 octets")
    assert status_of(named).text == "keyword: longer than 250 octets"
    assert (
        status_of(errors.InvalidContent(problem="NUL at octet 7")).text
        == "The message is not acceptable: NUL at octet 7"
    )
    name = errors.FolderNameInvalid(problem="must not\r\nbe empty")
    assert status_of(name).text == "The folder name must not??be empty."
    assert status_of(errors.FolderNameInvalid()).text == "The folder name is invalid."
