"""Header edits, RFC 6409 8, RFC 5321 4.4 and RFC 8601 5."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_mail.header.edits import HeaderEdit, received_edit, resending_completed, submission_edit
from restante_mail.header.fields import header_end
from tests.mail.material import crlf

NOW = datetime(2026, 9, 1, 10, 0, tzinfo=UTC)
FROM = b"From: alice@example.test\r\n"
ADDED = b"Date: Tue, 01 Sep 2026 10:00:00 +0000\r\nMessage-ID: <new@example.test>\r\n"


def submitted(content: bytes) -> bytes:
    return submission_edit(content, NOW, "new@example.test", "alice@example.test").apply(content)


def test_what_is_missing_is_added_and_blind_copies_are_removed() -> None:  # RFC 6409 8
    content = crlf("From: a@x\nBCC: b@x,\n c@x\nSubject: s\nresent-bcc: d@x\nX: y\n\nBcc: body\n")
    assert submitted(content) == ADDED + crlf("From: a@x\nSubject: s\nX: y\n\nBcc: body\n")


def test_what_is_there_stays_octet_for_octet() -> None:
    content = crlf("date: whatever\nMESSAGE-ID: x\nFrom:   a@x\n\t(y)\n\nbody\n")
    assert submission_edit(content, NOW, "new@example.test", "alice@example.test").apply(content) is content


RESENT_DATE = b"Resent-Date: Tue, 01 Sep 2026 10:00:00 +0000\r\n"
RESENT_ID = b"Resent-Message-ID: <new@example.test>\r\n"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Resent-From: b@x\nFrom: a@x\n\n", RESENT_DATE + RESENT_ID + crlf("Resent-From: b@x\nFrom: a@x\n\n")),
        (
            "Received: x\nRESENT-TO: c@x\nresent-from: b@x\nFrom: a@x\n\n",
            crlf("Received: x\n") + RESENT_DATE + RESENT_ID + crlf("RESENT-TO: c@x\nresent-from: b@x\nFrom: a@x\n\n"),
        ),
        (
            "resent-date: y\nResent-From: b@x\nFrom: a@x\n\n",
            RESENT_ID + crlf("resent-date: y\nResent-From: b@x\nFrom: a@x\n\n"),
        ),
        (  # an earlier resending has its own
            "Resent-From: c@x\nX: y\nResent-From: b@x\nResent-Date: y\nResent-Message-ID: z\nFrom: a@x\n\n",
            RESENT_DATE + RESENT_ID + crlf("Resent-From: c@x\nX: y\nResent-From: b@x\nResent-Date: y\n")
            + crlf("Resent-Message-ID: z\nFrom: a@x\n\n"),
        ),
    ],
)  # fmt: skip
def test_a_resending_gets_the_date_and_the_id_that_it_lacks(header: str, expected: bytes) -> None:  # RFC 5322 3.6.6
    assert resending_completed(crlf(header), NOW, "new@example.test") == expected


@pytest.mark.parametrize(
    "header",
    [
        "From: a@x\n\n", "Resent-To: b@x\nFrom: a@x\n\n", "Subject: about Resent-From\n\n", "",
        "Resent-Message-ID: z\nResent-From: b@x\nResent-Date: y\nFrom: a@x\n\n",
    ],
)  # fmt: skip
def test_a_header_without_a_resending_or_with_a_whole_one_stays(header: str) -> None:
    assert resending_completed(crlf(header), NOW, "new@example.test") == crlf(header)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", FROM + ADDED + b"\r\n"),
        (crlf("\nbody\n"), FROM + ADDED + crlf("\nbody\n")),
        (crlf("just text\n"), FROM + ADDED + crlf("\njust text\n")),
        (crlf("Bcc: a@x\n\n"), FROM + ADDED + crlf("\n")),
        (crlf("Bcc: a@x\n"), FROM + ADDED),
    ],
)
def test_contents_without_a_whole_header(content: bytes, expected: bytes) -> None:
    assert submitted(content) == expected


def test_forged_trace_is_stripped() -> None:  # RFC 5321 4.4, RFC 8601 5
    content = crlf(
        "Return-Path: <x@y>\nDelivered-To: a@x\nAuthentication-Results: MX.example.test; spf=pass\n"
        "Authentication-Results: other.example; spf=pass\n"
        'Authentication-Results: (c) "mx.example.test" 1; dkim=pass\n'
        "authentication-results:\n mx.example.test\n ; none\nReceived: from x\nFrom: a@x\n\nReturn-Path: body\n"
    )  # fmt: skip
    edit = received_edit(content, ["mx.example.test"])
    expected = crlf(
        "Authentication-Results: other.example; spf=pass\nReceived: from x\nFrom: a@x\n\nReturn-Path: body\n"
    )
    assert edit.apply(content) == expected


@pytest.mark.parametrize(
    ("value", "ours"),
    [
        ("mx.example.test; spf=pass", True),
        ("mx.example.test.; spf=pass", True),
        ("MX.Example.TEST. 1; spf=pass", True),
        ("mx.example.test/1; spf=pass", True),
        ("mx.example.test (by us); spf=pass", True),
        ("(a (b)) mx.example.test(c) 1; spf=pass", True),
        ("mx(a).example.test; spf=pass", True),
        ("mx . example . test ; spf=pass", True),
        ("\r\n mx\r\n .example.test.; spf=pass", True),
        ('"mx.example.test"; spf=pass', True),
        ('"mx\\.example.test."; spf=pass', True),
        ("mx.example.test", True),
        ("other.example; spf=pass", False),
        ("mx.example.test.other.example; spf=pass", False),
        ("xmx.example.test; spf=pass", False),
        ("other.example mx.example.test; spf=pass", False),
        ("; spf=pass", False),
    ],
)
def test_our_name_is_known_in_any_spelling(value: str, ours: bool) -> None:  # RFC 8601 5
    content = f"Authentication-Results: {value}\r\nFrom: a@x\r\n\r\n".encode()
    assert bool(received_edit(content, ["mx.example.test"])) is ours


def test_an_international_name_is_known_in_unicode_and_in_a_labels() -> None:
    for name in ("m\u00fcller.example", "M\u00dcLLER.example.", "xn--mller-kva.example"):
        content = f"Authentication-Results: {name}; spf=pass\r\n\r\n".encode()
        assert received_edit(content, ["xn--mller-kva.example"])


@pytest.mark.parametrize("octets", [b"", b"\r\n", b"A: b\r\n\r\nbody", b"A: b\r\n", b"\r\n\r\nx"])
def test_the_header_ends_behind_the_first_blank_line(octets: bytes) -> None:
    expected = {b"": 0, b"\r\n": 2, b"A: b\r\n\r\nbody": 8, b"A: b\r\n": 6, b"\r\n\r\nx": 2}
    assert header_end(octets) == expected[octets]


@given(st.lists(st.sampled_from(["Bcc: x", " fold", "A: b", "Return-Path: y", "junk", "", "Date: d"]), max_size=9))
def test_edits_keep_all_other_octets_in_order(lines: list[str]) -> None:
    content = "".join(line + "\r\n" for line in lines).encode()
    for edit in (submission_edit(content, NOW, "i@x", "a@x"), received_edit(content, [])):
        edited = edit.apply(content)
        assert edited == edit.front + b"".join(content[start:end] for start, end in edit.kept(len(content)))
        assert edit.apply(memoryview(content)) == edited
        again = received_edit(edited, []) if edit.front == b"" else submission_edit(edited, NOW, "i@x", "a@x")
        assert not again


def test_an_edit_without_effect_is_false() -> None:
    assert not HeaderEdit()
    assert HeaderEdit(front=b"x")
