"""Failure reports (RFC 9991): what is collected, the limits of what is sent, and the reading of received ones."""

from __future__ import annotations

import email
import logging
import secrets
from dataclasses import replace
from email import policy

import pytest
from sqlalchemy import func, select

from restante.errors import MessageRefused
from restante.v1.checks_pb2 import (
    CHECK_RESULT_FAIL,
    CHECK_RESULT_PASS,
    CHECK_RESULT_SOFTFAIL,
    DMARC_POLICY_REJECT,
    SPF_IDENTITY_MAILFROM,
    DmarcCheck,
    MessageChecks,
    SpfCheck,
)
from restante.v1.submission_pb2 import EnvelopeRecipient
from restante.v1.transport_pb2 import AcceptBegin, AcceptMessageRequest
from restante_mail.feedback import failure_message
from restante_mail.feedback.failure import FailureReport
from restante_mail.mime.facts import scan
from restante_process.config import Reports
from restante_server.api.services.accept_message import accept_message
from restante_server.db import schema
from restante_server.db.operation import Write
from restante_server.directory import domains
from restante_server.directory.check_rules import OnFailure
from restante_server.transport.feedback import archive, failure_incidents, failure_sending, failure_tally, received
from restante_server.transport.feedback.archive import Direction, Kind
from restante_server.transport.feedback.failure_reports import parsed
from restante_server.transport.feedback.failure_sending import Limits
from restante_server.transport.feedback.failure_tally import FailureTally
from restante_server.transport.feedback.outgoing import Reporter
from restante_server.transport.schedule import DAY, HOUR, MINUTE
from restante_server.transport.states import State
from tests.server.transport.world import FOREVER, MESSAGE, TRACE, World

REPORTER = Reporter("Example Test", "postmaster@mx.example.test", "mx.example.test")
LIMITS = Limits(of_domain=10, in_all=200)
FAILED = DmarcCheck(
    result=CHECK_RESULT_FAIL,
    author_domain="example.org",
    policy_domain="example.org",
    organizational_domain="example.org",
    policy=DMARC_POLICY_REJECT,
    record="v=DMARC1; p=reject; ruf=mailto:f@example.org",
    failures_to=["f@example.org"],
)
SPF = SpfCheck(
    result=CHECK_RESULT_SOFTFAIL, identity=SPF_IDENTITY_MAILFROM, domain="mail.example.org", record="v=spf1 -all"
)


@pytest.fixture
def reporting(world: World) -> World:
    """A world that reports the failures of all domains."""
    world.transport.settings = replace(world.transport.settings, keeps_headers=True)
    world.core.failures = FailureTally(
        "mx.example.test", frozenset("*"), frozenset((REPORTER.address, "carol@example.test"))
    )
    return world


async def take(
    world: World,
    dmarc: DmarcCheck = FAILED,
    *,
    client: str = "192.0.2.1",
    reverse_path: str = "dave@mail.example.org",
    recipients: tuple[str, ...] = ("alice@example.test",),
    content: bytes = MESSAGE,
) -> None:
    start = AcceptBegin(
        request_id=secrets.token_bytes(16),
        reverse_path=reverse_path,
        recipients=[EnvelopeRecipient(forward_path=one) for one in recipients],
        client_address=client,
        trace_field=TRACE,
    )
    checks = MessageChecks(spf=[SPF], dmarc=dmarc)
    request = AcceptMessageRequest(start=start, content=content, checks=checks)
    await accept_message(world.call(world.gateway(), FOREVER), request)


def now(world: World, later: int = 0) -> int:
    return world.call(world.gateway()).now + later


async def send(world: World, later: int = 0, limits: Limits = LIMITS) -> int:
    """Write what was collected, and send what is due."""
    await world.core.failures.flush(world.db)
    return await failure_sending.send(world.db, world.transport.settings, REPORTER, limits, now(world, later))


async def sent(world: World) -> list[FailureReport]:
    """The reports that are kept as sent, the earliest first."""
    kept = await world.db.read(archive.page, Kind.DMARC_FAILURE, Direction.SENT, "", None, 1_000)
    documents = await world.db.read(archive.documents, [one.report_id for one in kept])
    return [parsed(documents[one.report_id]) for one in reversed(kept)]


async def test_a_failure_is_reported_with_the_header_alone(reporting: World) -> None:
    dmarc = DmarcCheck()
    dmarc.CopyFrom(FAILED)
    dmarc.failures_to[:] = ["bob@example.test", "f@example.org"]
    await take(reporting, dmarc)
    assert await send(reporting) == 2
    await reporting.transport.deliver()
    (letter,) = await reporting.letters("bob")
    message = email.message_from_bytes(letter.content, policy=policy.default)
    assert (message["From"], message["To"]) == ("postmaster@mx.example.test", "bob@example.test")
    assert b"Return-Path: <>" in letter.head
    report = failure_message.find(letter.content, scan(letter.content).tree)
    assert report.arrived_at is not None
    assert report == FailureReport(
        policy_domain="example.org",
        source_address="192.0.2.1",
        reverse_path="dave@mail.example.org",
        authentication_results=(
            "mx.example.test; spf=softfail smtp.mailfrom=mail.example.org; "
            "dmarc=fail header.from=example.org policy.dmarc=reject"
        ),
        failed=("dkim", "spf"),
        delivery="spam",
        arrived_at=report.arrived_at,
        spf_domain="mail.example.org",
        spf_record="v=spf1 -all",
        user_agent="Restante",
        header=(
            b"From: Dave <dave@example.org>\r\nSubject: Lunch\r\nMessage-ID: <lunch@example.org>\r\n"
            b"Date: Mon, 1 Jan 2029 10:00:00 +0000\r\n"
        ),
    )
    assert b"alice" not in letter.content and b"At noon" not in letter.content


async def test_the_report_waits_in_the_queue_as_generated_mail(reporting: World) -> None:
    await take(reporting)
    await send(reporting)
    (lease,) = await reporting.lease()
    assert (lease.destination, lease.reverse_path) == ("example.org", "")
    assert b"message/feedback-report" in await reporting.read_outbound(lease)
    assert await reporting.states(lease.transport_id) == [("f@example.org", State.LEASED, "")]
    table = schema.transport_message
    source = select(table.c.signing_domain).where(table.c.transport_id == lease.transport_id)
    assert await reporting.db.read(lambda tx: tx.scalar(source)) == "mx.example.test"  # signed by its author's domain


async def test_refused_mail_is_reported(reporting: World) -> None:
    await reporting.db.write(Write(lambda tx: domains.set_rules(tx, "example.test", failed_dmarc=OnFailure.REJECT)))
    with pytest.raises(MessageRefused):
        await take(reporting, content=b"Received: by x for <alice@example.test>; today\r\n" + MESSAGE)
    assert await send(reporting) == 1
    (report,) = await sent(reporting)
    assert report.delivery == "reject" and b"for <[hidden]>" in report.header


async def test_similar_failures_are_one_report_with_their_number(reporting: World) -> None:
    for _ in range(5):
        await take(reporting)
    assert await send(reporting) == 1
    for _ in range(3):
        await take(reporting)
        assert await send(reporting) == 0  # within the hour
    assert await send(reporting, HOUR + MINUTE) == 1
    assert [report.incidents for report in await sent(reporting)] == [5, 3]


async def test_different_clients_are_different_failures(reporting: World) -> None:
    for number in range(4):
        await take(reporting, client=f"192.0.2.{number}")
    assert await send(reporting) == 4


async def test_a_flood_is_held_by_the_limit_of_a_domain(reporting: World) -> None:
    other = DmarcCheck()
    other.CopyFrom(FAILED)
    other.policy_domain, other.failures_to[:] = "example.net", ["f@example.net"]
    for number in range(30):
        await take(reporting, client=f"192.0.2.{number}")
    await take(reporting, other)
    assert await send(reporting) == 11  # 10 to example.org, 1 to example.net
    assert await send(reporting, 30 * MINUTE) == 0
    assert await send(reporting, HOUR + MINUTE) == 10
    assert await send(reporting, 2 * HOUR + 2 * MINUTE) == 10
    assert await send(reporting, 3 * HOUR + 3 * MINUTE) == 0


async def test_all_reports_together_have_a_limit(reporting: World) -> None:
    for number in range(9):
        dmarc = DmarcCheck()
        dmarc.CopyFrom(FAILED)
        dmarc.policy_domain, dmarc.failures_to[:] = f"{number}.example", [f"f@{number}.example"]
        await take(reporting, dmarc)
    assert await send(reporting, limits=Limits(2, 4)) == 4
    assert await send(reporting, 15 * MINUTE, limits=Limits(2, 4)) == 0


async def test_failures_above_a_limit_are_forgotten_after_a_day(reporting: World) -> None:
    for number in range(5):
        await take(reporting, client=f"192.0.2.{number}")
    assert await send(reporting, limits=Limits(2, 200)) == 2
    assert await send(reporting, DAY + HOUR, limits=Limits(2, 200)) == 2
    assert await send(reporting, DAY + 3 * HOUR, limits=Limits(2, 200)) == 0
    count = select(func.count()).select_from(schema.failure_incident)
    assert await reporting.db.read(lambda tx: tx.scalar(count)) == 0


async def test_what_was_written_survives_a_restart(reporting: World) -> None:
    await take(reporting)
    await reporting.core.failures.flush(reporting.db)
    reporting.core.failures = FailureTally("mx.example.test", frozenset("*"))
    assert await send(reporting) == 1
    await take(reporting)
    assert await send(reporting) == 0  # the hour is remembered, too


async def test_failures_of_a_failed_write_are_kept(reporting: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await take(reporting)
    with monkeypatch.context() as patch:
        patch.setattr(failure_incidents, "add", lambda tx, rows: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await reporting.core.failures.flush(reporting.db)
    await take(reporting)
    assert await send(reporting) == 1
    assert [report.incidents for report in await sent(reporting)] == [2]


@pytest.mark.parametrize(
    "change",
    [
        {"reverse_path": ""},
        {"reverse_path": REPORTER.address},
        {"recipients": ("alice@example.test", "Carol@example.test")},  # gets reports
        {"content": b"Auto-Submitted: auto-replied\r\n" + MESSAGE},
        {"content": b"Content-Type: multipart/report; report-type=feedback-report; boundary=x\r\n" + MESSAGE},
    ],
)
async def test_no_report_follows_a_report(reporting: World, change: dict[str, object]) -> None:  # RFC 9991 5.1
    await take(reporting, **change)  # type: ignore[arg-type]
    assert await send(reporting) == 0


@pytest.mark.parametrize(
    ("record", "result"),
    [
        ("v=DMARC1; p=reject", CHECK_RESULT_FAIL),
        ("v=DMARC1; p=reject; psd=y; ruf=mailto:f@example.org", CHECK_RESULT_FAIL),
        ("v=DMARC1; p=reject; ruf=mailto:f@example.org", CHECK_RESULT_PASS),
    ],
)
async def test_the_core_checks_that_a_report_is_wanted(reporting: World, record: str, result: int) -> None:
    dmarc = DmarcCheck()
    dmarc.CopyFrom(FAILED)
    dmarc.record, dmarc.result = record, result  # type: ignore[assignment]
    dmarc.spf_aligned = result == CHECK_RESULT_PASS
    await take(reporting, dmarc)
    assert await send(reporting) == 0


@pytest.mark.parametrize("names", [(), ("example.net",)])
async def test_only_configured_domains_get_reports(reporting: World, names: tuple[str, ...]) -> None:
    reporting.core.failures.domains = frozenset(names)
    await take(reporting)
    assert await send(reporting) == 0


async def test_nothing_is_reported_and_no_header_kept_by_default(world: World) -> None:
    assert Reports().failure_domains == ()
    assert not world.transport.settings.keeps_headers
    await take(world)
    assert await send(world) == 0


async def test_the_failures_in_memory_and_of_a_domain_are_bounded(
    reporting: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(failure_tally, "MAX_HELD", 8)
    monkeypatch.setattr(failure_incidents, "MAX_ROWS_OF_DOMAIN", 5)
    for number in range(10):
        await take(reporting, client=f"192.0.2.{number}")
    assert reporting.core.failures.left_out == 2
    with caplog.at_level(logging.WARNING):
        assert await send(reporting, limits=Limits(100, 100)) == 5
    assert reporting.core.failures.left_out == 0
    assert "5 failures of DMARC are not reported" in caplog.text


# --- Received reports -------------------------------------------------------------------------------------------------


async def read(world: World) -> int:
    return await received.read(world.db, world.core.contents.directory, ["bob@example.test"], now(world))


async def a_report(world: World) -> bytes:
    """A report as this server sends it."""
    await take(world)
    await send(world)
    (lease,) = await world.lease()
    return await world.read_outbound(lease)


async def test_a_received_report_is_kept_once(reporting: World) -> None:
    octets = await a_report(reporting)
    for _ in range(2):
        await reporting.accept(["bob@example.test"], octets, reverse_path="")
    assert await read(reporting) == 1
    assert await read(reporting) == 0
    (kept,) = await reporting.db.read(archive.page, Kind.DMARC_FAILURE, Direction.RECEIVED, "example.org", None, 10)
    assert (kept.organization, kept.address, kept.total_count) == (
        "mx.example.test",
        "postmaster@mx.example.test",
        1,
    )
    (own,) = await sent(reporting)
    found = await reporting.db.read(archive.get, Kind.DMARC_FAILURE, kept.report_id)
    assert found is not None and replace(parsed(found[1]), header=own.header) == own


async def test_a_bad_report_is_logged_and_stops_nothing(reporting: World, caplog: pytest.LogCaptureFixture) -> None:
    octets = await a_report(reporting)
    await reporting.accept(["bob@example.test"], octets.replace(b"auth-failure", b"abuse"), reverse_path="")
    await reporting.accept(["bob@example.test"], octets, reverse_path="")
    with caplog.at_level(logging.WARNING):
        assert await read(reporting) == 1
    (record,) = caplog.records
    assert "a DMARC failure report in message" in record.getMessage()
    assert 'Feedback-Type is "abuse"' in record.getMessage()
