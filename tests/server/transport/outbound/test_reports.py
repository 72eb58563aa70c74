"""Delivery reports, read by the standard library (RFC 3464, RFC 3461)."""

from __future__ import annotations

from email import message_from_bytes, policy
from email.message import EmailMessage
from quopri import decodestring
from typing import Any

import pytest

from restante.v1.submission_pb2 import DsnReturn, EnvelopeOptions, EnvelopeRecipient, NotifyCondition
from restante.v1.transport_pb2 import OutcomeKind
from restante_server.transport.states import State
from tests.gateways.relay.conftest import running
from tests.harness.outbound_queue import OutboundQueue
from tests.harness.smtp_peer import smtp_peer
from tests.server.transport.world import MESSAGE, World

NEVER = NotifyCondition.NOTIFY_CONDITION_NEVER
SUCCESS = NotifyCondition.NOTIFY_CONDITION_SUCCESS
FAILURE = NotifyCondition.NOTIFY_CONDITION_FAILURE
DELAY = NotifyCondition.NOTIFY_CONDITION_DELAY
RELAYED = OutcomeKind.OUTCOME_KIND_RELAYED
FAILED = OutcomeKind.OUTCOME_KIND_FAILED
LETTER = b"From: alice@example.test\r\nTo: eve@example.net\r\nSubject: Hello\r\n\r\n" + b"All of it.\r\n" * 10


def read(octets: bytes) -> tuple[EmailMessage, list[dict[str, str]], EmailMessage]:
    """(the report, the blocks of its status, the returned part)."""
    report = message_from_bytes(octets, policy=policy.default)
    assert isinstance(report, EmailMessage)
    assert report.get_content_type() == "multipart/report"
    assert report["Content-Type"].params["report-type"] == "delivery-status"
    assert report["Auto-Submitted"] == "auto-replied"
    assert not report.defects
    text, status, returned = report.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert status.get_content_type() in ("message/delivery-status", "message/global-delivery-status")
    parts: Any = status.get_payload()
    blocks = [dict(block.items()) for block in parts]
    assert isinstance(returned, EmailMessage)
    return report, blocks, returned


async def fail(world: World, options: EnvelopeOptions | None = None, **fields: object) -> None:
    """Fail a message of alice's at the server of its recipient eve."""
    recipient = EnvelopeRecipient(forward_path="eve@example.net", original_recipient="rfc822;e+2Bve@example.com")
    await world.submit("alice", LETTER, recipients=[recipient], options=options, **fields)
    (lease,) = await world.lease()
    said = "550 5.1.1 <eve@example.net> no such user, and a line that goes on and on for more than a line of a header"
    await world.report_all(lease, FAILED, "5.1.1", diagnostic=said, remote_host="mx.example.net")
    await world.settle()


async def test_a_failure_is_reported_with_its_reason_and_the_header(world: World) -> None:
    # RFC 3464 2
    await fail(world, EnvelopeOptions(envelope_id="a+2Db"))
    (letter,) = await world.letters("alice")
    assert letter.head.startswith(b"Return-Path: <>\r\nDelivered-To: alice@example.test\r\n")
    report, (of_message, of_eve), returned = read(letter.content)
    assert report["From"] == "Mail Delivery System <postmaster@example.test>"
    assert report["To"] == "alice@example.test"
    assert of_message["Reporting-MTA"] == "dns; mx.example.test"
    assert of_message["Original-Envelope-Id"] == "a-b"
    assert "Arrival-Date" in of_message
    assert of_eve["Final-Recipient"] == "rfc822; eve@example.net"
    assert of_eve["Original-Recipient"] == "rfc822; e+ve@example.com"
    assert of_eve["Action"] == "failed"
    assert of_eve["Status"] == "5.1.1"
    assert of_eve["Remote-MTA"] == "dns; mx.example.net"
    assert " ".join(of_eve["Diagnostic-Code"].split()).startswith("smtp; 550 5.1.1 <eve@example.net> no such user")
    assert returned.get_content_type() == "text/rfc822-headers"
    assert "Subject: Hello" in returned.get_content()
    assert b"All of it." not in letter.content


async def test_the_whole_message_is_returned_when_asked_for_and_not_too_long(world: World) -> None:
    await fail(world, EnvelopeOptions(dsn_return=DsnReturn.DSN_RETURN_FULL))
    (letter,) = await world.letters("alice")
    returned = read(letter.content)[2]
    assert returned.get_content_type() == "message/rfc822"
    assert b"".join(LETTER.partition(b"From:")[1:]) in letter.content


async def test_mail_that_went_round_elsewhere_is_returned_by_its_header(world: World) -> None:
    options = EnvelopeOptions(dsn_return=DsnReturn.DSN_RETURN_FULL)
    await world.submit("alice", LETTER, recipients=["eve@example.net"], options=options)
    (lease,) = await world.lease()
    await world.report_all(lease, FAILED, "5.4.6", diagnostic="554 5.4.6 too many hops", remote_host="mx.example.net")
    await world.settle()
    (letter,) = await world.letters("alice")
    assert read(letter.content)[2].get_content_type() == "text/rfc822-headers"
    assert b"All of it." not in letter.content


async def test_a_long_message_is_returned_by_its_header(world: World) -> None:
    long = LETTER + b"More of it, again and again.\r\n" * 20_000
    options = EnvelopeOptions(dsn_return=DsnReturn.DSN_RETURN_FULL)
    recipients = [EnvelopeRecipient(forward_path="dora@example.test")]
    await world.add_account("dora@example.test", quota_octets=10)
    await world.submit("alice", upload_id=await world.upload("alice", long), recipients=recipients, options=options)
    await world.settle()
    (letter,) = await world.letters("alice")
    assert read(letter.content)[2].get_content_type() == "text/rfc822-headers"
    assert len(letter.content) < 10_000


@pytest.mark.parametrize(
    ("notify", "kind", "passed_on", "actions"),
    [
        ([], FAILED, False, ["failed"]),
        ([], RELAYED, False, []),
        ([NEVER], FAILED, False, []),
        ([SUCCESS], FAILED, False, []),
        ([SUCCESS, FAILURE], FAILED, True, ["failed"]),
        ([SUCCESS], RELAYED, False, ["relayed"]),
        ([SUCCESS], RELAYED, True, []),
        ([DELAY], FAILED, False, []),
        ([NEVER, FAILURE], FAILED, False, []),
    ],
)
async def test_reports_are_sent_as_notify_says(
    world: World,
    notify: list[NotifyCondition.ValueType],
    kind: OutcomeKind.ValueType,
    passed_on: bool,
    actions: list[str],
) -> None:
    # RFC 3461 4.1, 5.2
    await world.submit("alice", LETTER, recipients=[EnvelopeRecipient(forward_path="eve@example.net", notify=notify)])
    (lease,) = await world.lease()
    await world.report_all(lease, kind, "2.0.0" if kind == RELAYED else "5.0.0", dsn_passed_on=passed_on)
    await world.settle()
    assert [read(letter.content)[1][1]["Action"] for letter in await world.letters("alice")] == actions


async def test_an_expansion_to_several_is_reported_once(world: World) -> None:
    # RFC 3461 5.2.7.3
    await world.add_alias("team@example.test", "bob@example.test", "carol@example.test")
    await world.add_alias("one@example.test", "bob@example.test")
    for path in ("team@example.test", "one@example.test"):
        recipient = EnvelopeRecipient(forward_path=path, notify=[SUCCESS])
        await world.accept([recipient], reverse_path="alice@example.test")
    await world.settle()
    found = [read(letter.content)[1][1:] for letter in await world.letters("alice")]
    assert sorted([(block["Action"], block["Final-Recipient"]) for block in blocks] for blocks in found) == [
        [("delivered", "rfc822; bob@example.test")],
        [("expanded", "rfc822; team@example.test")],
    ]


async def test_a_report_to_a_sender_elsewhere_is_queued(world: World) -> None:
    await world.accept(["alice@example.test", "nobody@example.test"])
    (lease,) = await world.lease()
    assert (lease.reverse_path, lease.recipients[0].recipient.forward_path) == ("", "dave@example.org")
    octets = await world.read_outbound(lease)
    assert read(octets)[1][1]["Final-Recipient"] == "rfc822; nobody@example.test"
    assert len(octets) == lease.size_octets


async def test_a_report_to_a_sender_that_does_not_exist_is_only_traced(world: World) -> None:
    answer = await world.accept(["alice@example.test", "nobody@example.test"], reverse_path="ghost@example.test")
    await world.settle()
    assert await world.lease() == []
    assert await world.states(answer.transport_id + 1) == [("ghost@example.test", State.FAILED, "5.1.1")]


async def test_an_international_address_is_reported_in_utf_8(world: World) -> None:
    # RFC 6533 3
    await world.add_account("zoë@example.test")
    await world.accept(["alice@example.test", "nöbody@example.test"], reverse_path="zoë@example.test")
    await world.settle()
    (letter,) = await world.letters("zoë")
    assert "Final-Recipient: utf-8; nöbody@example.test\r\n".encode() in letter.content
    assert read(letter.content)[0]["To"] == "zoë@example.test"


async def test_what_another_server_says_stays_in_its_line(world: World) -> None:
    await world.submit("alice", LETTER, recipients=["eve@example.net"])
    (lease,) = await world.lease()
    hostile = "550 no\r\n\r\n--boundary\r\nSubject: forged\x00\x07"
    await world.report_all(lease, FAILED, "5.0.0", diagnostic=hostile, remote_host="mx\r\nX: y")
    await world.settle()
    (letter,) = await world.letters("alice")
    _, (_, of_eve), _ = read(letter.content)
    assert of_eve["Diagnostic-Code"].startswith("smtp; 550 no")
    assert b"\r\nSubject: forged" not in letter.content
    assert b"\r\nX: y" not in letter.content
    assert MESSAGE not in letter.content


UMLAUTS = (
    "From: alice@example.test\r\nTo: eve@example.net\r\nSubject: Grüße\r\nMIME-Version: 1.0\r\n"
    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSchöne Grüße.\r\n"
).encode()


async def report_elsewhere(world: World, octets: bytes, path: str = "nobody@example.test") -> bytes:
    """The report to dave, elsewhere, about a message of his with a request for its full return."""
    options = EnvelopeOptions(dsn_return=DsnReturn.DSN_RETURN_FULL, body_8bit=True)
    await world.accept(["alice@example.test", path], octets, options=options)
    (lease,) = await world.lease()
    assert not lease.options.body_8bit
    assert not lease.options.smtputf8
    return await world.read_outbound(lease)


async def test_a_report_that_leaves_is_7_bit_and_its_header_can_be_read(world: World) -> None:
    # RFC 6522 4, RFC 6533 6, RFC 2046 5.2.1
    octets = await report_elsewhere(world, UMLAUTS)
    assert octets.isascii()
    _, _, returned = read(octets)
    assert returned.get_content_type() == "message/global-headers"
    assert returned["Content-Transfer-Encoding"] == "quoted-printable"
    assert decodestring(octets.partition(b"quoted-printable\r\n\r\n")[2]).find("Subject: Grüße\r\n".encode()) > 0


async def test_octets_of_no_charset_in_a_header_leave_encoded(world: World) -> None:
    octets = await report_elsewhere(world, UMLAUTS.decode().encode("latin-1"))
    assert octets.isascii()
    returned = read(octets)[2]
    assert returned.get_content_type() == "text/rfc822-headers"
    assert b"Subject: Gr\xfc\xdfe\r\n" in (returned.get_payload(decode=True) or b"")


async def test_a_7_bit_message_is_returned_whole_to_senders_elsewhere(world: World) -> None:
    octets = await report_elsewhere(world, MESSAGE)
    assert read(octets)[2].get_content_type() == "message/rfc822"
    assert b"At noon?\r\n" in octets


async def test_an_international_recipient_is_named_in_ascii_to_a_sender_in_ascii(world: World) -> None:
    # RFC 6533 3: utf-8-addr-xtext
    octets = await report_elsewhere(world, MESSAGE, "nöbody@example.test")
    assert octets.isascii()
    report, (_, block), _ = read(octets)
    assert block["Final-Recipient"] == "utf-8; n\\x{F6}body@example.test"
    assert "<nöbody@example.test>: 5.1.1" in next(report.iter_parts()).get_content()


async def test_an_8_bit_message_is_returned_whole_within_this_store(world: World) -> None:
    options = EnvelopeOptions(dsn_return=DsnReturn.DSN_RETURN_FULL)
    await world.submit("alice", UMLAUTS, recipients=["eve@example.net"], options=options)
    (lease,) = await world.lease()
    await world.report_all(lease, FAILED, "5.1.1")
    await world.settle()
    (letter,) = await world.letters("alice")
    assert read(letter.content)[2].get_content_type() == "message/global"  # its header is UTF-8: RFC 6532 3.7
    assert "Schöne Grüße.\r\n".encode() in letter.content


async def test_a_report_passes_a_server_that_takes_7_bit_content_only(world: World) -> None:
    # RFC 6152 3: an 8-bit body may not be sent to a server without 8BITMIME
    octets = await report_elsewhere(world, UMLAUTS)
    core = OutboundQueue()
    async with smtp_peer(extensions=("SIZE", "PIPELINING")) as peer, running(core, {"*": f"127.0.0.1:{peer.port}"}):
        assert await core.outcomes(core.put("dave@example.org", content=octets)) == [("relayed", "2.0.0")]
        (got,) = peer.messages
    assert got.content == octets
