"""MAIL, RCPT and the octets after DATA."""

from __future__ import annotations

import random

import pytest
from aiosmtplib.esmtp import parse_esmtp_extensions
from hypothesis import given
from hypothesis import strategies as st

from restante.v1.submission_pb2 import DsnReturn, EnvelopeOptions, EnvelopeRecipient, NotifyCondition
from restante_gateways.relay.commands import (
    CHUNK_OCTETS,
    Offer,
    Parcel,
    mail,
    needs_seven_bit,
    problem,
    rcpt,
    recipient_problem,
    stuffed,
)

PLAIN = b"Subject: hello\r\n\r\nhello\r\n"
EIGHT = "Subject: hello\r\n\r\nhéllo\r\n".encode()
HEADER8 = "Subject: héllo\r\n\r\nhello\r\n".encode()
ALL = Offer(dsn=True, eight_bit=True, smtputf8=True, size=0)
NEVER, SUCCESS = NotifyCondition.NOTIFY_CONDITION_NEVER, NotifyCondition.NOTIFY_CONDITION_SUCCESS
FAILURE, DELAY = NotifyCondition.NOTIFY_CONDITION_FAILURE, NotifyCondition.NOTIFY_CONDITION_DELAY


def parcel(content: bytes = PLAIN, reverse_path: str = "alice@example.test", **options: object) -> Parcel:
    return Parcel.of(reverse_path, EnvelopeOptions(**options), content)  # type: ignore[arg-type]


def bob(path: str = "bob@example.net", *notify: NotifyCondition.ValueType, orcpt: str = "") -> EnvelopeRecipient:
    return EnvelopeRecipient(forward_path=path, notify=notify, original_recipient=orcpt)


def test_keywords_of_ehlo() -> None:
    found = Offer.of({"dsn": "", "size": "1000", "8bitmime": "", "starttls": ""})
    assert found == Offer(dsn=True, eight_bit=True, smtputf8=False, starttls=True, size=1000)
    assert Offer.of({}).size is None
    assert Offer.of({"size": ""}).size == Offer.of({"size": "big"}).size == Offer.of({"size": "9" * 40}).size == 0


@given(st.lists(st.text(alphabet="AUTHSIZE=dsn 09-\t\r\n\x00\udcff\u00e9", max_size=20)).map("\n".join))
def test_any_reply_to_ehlo_is_an_offer(text: str) -> None:
    found = Offer.of(*parse_esmtp_extensions(text))
    assert found.size is None or found.size >= 0


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("a.b@example.net", "a.b@example.net"),
        ("a..b@example.net", '"a..b"@example.net'),
        ("a.@example.net", '"a."@example.net'),
        (".a@example.net", '".a"@example.net'),
        ('"a..b"@example.net', '"a..b"@example.net'),
        ('"a b"@example.net', '"a b"@example.net'),
    ],
)
def test_stray_dots_go_on_in_quotes(path: str, written: str) -> None:  # RFC 5321 4.1.2
    assert mail(parcel(reverse_path=path), [bob()], Offer()) == (b"MAIL", f"FROM:<{written}>".encode())
    assert rcpt(bob(path), Offer()) == (b"RCPT", f"TO:<{written}>".encode())


@pytest.mark.parametrize(
    ("sent", "offer", "line"),
    [
        (parcel(), Offer(), b"MAIL FROM:<alice@example.test>"),
        (parcel(reverse_path=""), Offer(), b"MAIL FROM:<>"),  # RFC 3464 2, RFC 5321 6.1
        (parcel(), ALL, b"MAIL FROM:<alice@example.test> SIZE=25"),
        (parcel(PLAIN[:-2]), ALL, b"MAIL FROM:<alice@example.test> SIZE=25"),  # the wire ends its last line
        (parcel(EIGHT), ALL, b"MAIL FROM:<alice@example.test> SIZE=26 BODY=8BITMIME"),
        (parcel(EIGHT, body_8bit=True), ALL, b"MAIL FROM:<alice@example.test> SIZE=26 BODY=8BITMIME"),
        (
            parcel(dsn_return=DsnReturn.DSN_RETURN_FULL, envelope_id="QQ+2B314"),  # RFC 3461 5.2.1
            Offer(dsn=True),
            b"MAIL FROM:<alice@example.test> RET=FULL ENVID=QQ+2B314",
        ),
        (
            parcel(dsn_return=DsnReturn.DSN_RETURN_HEADERS, envelope_id="QQ+2B314"),
            Offer(),
            b"MAIL FROM:<alice@example.test>",
        ),
        (
            parcel(HEADER8, smtputf8=True),
            ALL,
            b"MAIL FROM:<alice@example.test> SIZE=26 BODY=8BITMIME SMTPUTF8",
        ),
        # SMTPUTF8 was requested, but the message does not need it: any server may get it (RFC 6531 3.4).
        (parcel(PLAIN, smtputf8=True), Offer(), b"MAIL FROM:<alice@example.test>"),
        (
            parcel(reverse_path="älice@example.test"),
            Offer(smtputf8=True),
            "MAIL FROM:<älice@example.test> SMTPUTF8".encode(),
        ),
    ],
)
def test_mail_carries_what_the_server_knows(sent: Parcel, offer: Offer, line: bytes) -> None:
    assert b" ".join(mail(sent, [bob()], offer)) == line


def test_an_international_recipient_asks_for_smtputf8() -> None:
    words = mail(parcel(), [bob(), bob("böb@example.net")], ALL)
    assert words[-1] == b"SMTPUTF8"


@pytest.mark.parametrize(
    ("recipient", "offer", "line"),
    [
        (bob(), ALL, b"RCPT TO:<bob@example.net>"),
        (bob("Bob+X@Example.NET"), ALL, b"RCPT TO:<Bob+X@Example.NET>"),
        (bob('"b o>b"@example.net'), ALL, b'RCPT TO:<"b o>b"@example.net>'),
        (bob("bob@example.net", NEVER), ALL, b"RCPT TO:<bob@example.net> NOTIFY=NEVER"),
        (
            bob("bob@example.net", SUCCESS, FAILURE, DELAY, orcpt="rfc822;r+2Bob@example.org"),
            ALL,
            b"RCPT TO:<bob@example.net> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;r+2Bob@example.org",
        ),
        (bob("bob@example.net", SUCCESS, orcpt="rfc822;bob@example.org"), Offer(), b"RCPT TO:<bob@example.net>"),
    ],
)
def test_rcpt_carries_dsn_parameters_as_they_came(recipient: EnvelopeRecipient, offer: Offer, line: bytes) -> None:
    # RFC 3461 5.2.1
    assert b" ".join(rcpt(recipient, offer)) == line


@pytest.mark.parametrize(
    ("sent", "offer", "status"),
    [
        (parcel(), Offer(), ""),
        (parcel(EIGHT), Offer(), "5.6.3"),  # RFC 6152 3
        (parcel(PLAIN, body_8bit=True), Offer(), ""),  # declared, but there is none
        (parcel(HEADER8, smtputf8=True), Offer(eight_bit=True), "5.6.7"),  # RFC 6531 3.5
        (parcel(HEADER8), Offer(eight_bit=True), ""),  # an old 8-bit header goes as it came
        (parcel(HEADER8), Offer(), ""),  # to any server
        (parcel(reverse_path="älice@example.test"), Offer(eight_bit=True), "5.6.7"),
        (parcel(), Offer(size=24), "5.3.4"),  # RFC 1870 6.1
        (parcel(), Offer(size=25), ""),
        (parcel(), Offer(size=0), ""),
        (parcel(envelope_id="a b"), ALL, "5.5.4"),
        (parcel(envelope_id="a\r\nRSET"), ALL, "5.5.4"),
    ],
)
def test_a_message_that_the_server_cannot_have_is_not_offered(sent: Parcel, offer: Offer, status: str) -> None:
    refusal = problem(sent, offer, "mx.example.net")
    assert (refusal.status if refusal else "") == status
    assert refusal is None or refusal.final
    assert refusal is None or not refusal.remote_host  # the refusal is not the server's


def test_an_8_bit_header_without_smtputf8_is_8_bit_content_and_no_more() -> None:  # RFC 6152 3
    assert mail(parcel(HEADER8), [bob()], ALL)[2:] == (b"SIZE=26", b"BODY=8BITMIME")
    assert mail(parcel(HEADER8), [bob()], Offer()) == (b"MAIL", b"FROM:<alice@example.test>")


@pytest.mark.parametrize(
    ("content", "offer", "needed"),
    [
        (PLAIN, Offer(), False),
        (EIGHT, ALL, False),
        (EIGHT, Offer(), True),
        (HEADER8, Offer(), False),
        (PLAIN + b"x" * 999 + b"\r\n", ALL, True),
        (PLAIN + b"x" * 998 + b"\r\n", Offer(), False),
        (b"Subject: " + b"x" * 999 + PLAIN, Offer(), False),
    ],
)
def test_a_body_that_the_server_cannot_take_is_converted(content: bytes, offer: Offer, needed: bool) -> None:
    # RFC 6152 3, RFC 5321 4.5.3.1.6
    assert needs_seven_bit(parcel(content), offer) == needed
    told = Parcel.of("alice@example.test", EnvelopeOptions(), content, "it is signed")
    assert not needs_seven_bit(told, offer)
    refusal = problem(told, offer, "mx.example.net")
    if refusal is not None:
        assert refusal.status == "5.6.3" and "it is signed" in refusal.diagnostic


INJECTIONS = [
    "bob@example.net\r\nRSET",
    "bob@example.net\nRSET",
    "bob@example.net> NOTIFY=NEVER",
    "bob@example.net>",
    "<bob@example.net",
    "bob @example.net",
    '"b\r\nob"@example.net',
    '"bob@example.net',
    "bob@example.net\0",
    "bob",
    "@example.net",
    "a@b@example.net",
    "bob@[127.0.0.1]> X=[1]",
]


@pytest.mark.parametrize("path", INJECTIONS)
def test_a_path_that_is_more_than_a_path_never_goes(path: str) -> None:
    refusal = recipient_problem(bob(path), ALL, "mx.example.net")
    assert refusal is not None and refusal.final and refusal.status == "5.1.3"
    refusal = problem(parcel(reverse_path=path), ALL, "mx.example.net")
    assert refusal is not None and refusal.final and refusal.status == "5.1.7"


@pytest.mark.parametrize("orcpt", ["rfc822;a b", "rfc822;a\r\nDATA", "rfc822;a\0"])
def test_an_orcpt_that_is_more_than_a_parameter_never_goes(orcpt: str) -> None:
    refusal = recipient_problem(bob(orcpt=orcpt), ALL, "mx.example.net")
    assert refusal is not None and refusal.final and refusal.status == "5.5.4"


def test_an_international_recipient_is_not_mangled_for_a_server_that_lacks_smtputf8() -> None:  # RFC 6531 3.2
    refusal = recipient_problem(bob("böb@example.net"), Offer(), "mx.example.net")
    assert refusal is not None and (refusal.status, refusal.final, refusal.remote_host) == ("5.6.7", True, "")
    assert "mx.example.net" in refusal.diagnostic
    assert recipient_problem(bob("böb@example.net"), ALL, "mx.example.net") is None
    assert recipient_problem(bob("bob@[127.0.0.1]"), Offer(), "mx.example.net") is None


def unstuffed(octets: bytes) -> bytes:
    assert octets.endswith(b".\r\n")
    lines = octets[:-3].split(b"\r\n")
    assert all(line != b"." for line in lines)
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        (b"a\r\n", b"a\r\n.\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"..a\r\n.b\r\n", b"...a\r\n..b\r\n.\r\n"),
        (b"a.b\r\n", b"a.b\r\n.\r\n"),
        (b"no end", b"no end\r\n.\r\n"),
        (b"", b".\r\n"),
    ],
)
def test_dots_are_doubled_and_the_end_is_a_line(content: bytes, sent: bytes) -> None:  # RFC 5321 4.5.2
    assert b"".join(stuffed(content)) == sent


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_pieces_never_break_a_dot_at_a_line_start(size: int) -> None:
    chance = random.Random(size)
    for _ in range(500):
        content = (
            b"".join(chance.choice([b".", b"a", b"\r\n", b"\r\n."]) for _ in range(chance.randrange(30))) + b"\r\n"
        )
        assert unstuffed(b"".join(stuffed(content, size))) == content


def test_pieces_are_small() -> None:
    sizes = [len(piece) for piece in stuffed(b"x" * 70 + b"\r\n" + b"y" * (3 * CHUNK_OCTETS) + b"\r\n")]
    assert max(sizes) <= CHUNK_OCTETS + 1
