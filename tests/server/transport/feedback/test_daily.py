"""The daily DMARC reports: the message, its recipients, and that each report is sent once."""

from __future__ import annotations

import asyncio
import email
from dataclasses import replace
from email import policy

from restante_mail.feedback import aggregate_xml, attachments
from restante_mail.feedback.aggregate import PublishedPolicy, Row
from restante_server.transport.feedback import archive, counts, outgoing
from restante_server.transport.feedback.archive import Direction, Kind
from restante_server.transport.feedback.counts import Request
from restante_server.transport.feedback.daily import DailyAggregate
from restante_server.transport.feedback.outgoing import Reporter
from restante_server.transport.feedback.tally import Tally
from restante_server.transport.states import State
from tests.server.transport.feedback.rows import FULL, ROW
from tests.server.transport.world import World

DAY = 20_000
NOON = DAY * counts.DAY_SECONDS + 43_200
MORNING = (DAY + 1) * counts.DAY_SECONDS * 1_000_000 + 5 * 3_600_000_000
REPORTER = Reporter("Example Test", "postmaster@mx.example.test", "mx.example.test")
REQUEST = Request("v=DMARC1; p=quarantine; np=reject; aspf=s; fo=1", ("d@example.org", "alice@example.test"))


async def counted(world: World, *rows: Row, request: Request = REQUEST, domain: str = "example.org") -> None:
    tally = Tally()
    for row in rows:
        tally.count(domain, request, row, NOON)
    await tally.flush(world.db)


async def send(world: World, now: int = MORNING) -> int:
    return await outgoing.send(world.db, world.transport.settings, REPORTER, DailyAggregate(), now)


async def test_the_report_is_a_message_with_a_compressed_document(world: World) -> None:
    await counted(world, ROW, ROW, FULL)
    assert await send(world) == 1
    await world.transport.deliver()
    (letter,) = await world.letters("alice")
    message = email.message_from_bytes(letter.content, policy=policy.default)
    assert message["From"] == "postmaster@mx.example.test"
    assert message["To"] == "d@example.org, alice@example.test"
    assert message["Auto-Submitted"] == "auto-generated"
    (attached,) = message.iter_attachments()
    assert attached.get_content_type() == "application/gzip"
    report = aggregate_xml.read(attachments.decompress(attached.get_content()))
    assert (
        message["Subject"] == f"Report Domain: example.org Submitter: mx.example.test Report-ID: <{report.report_id}>"
    )
    begin, end = DAY * 86_400, DAY * 86_400 + 86_399
    identifier = report.report_id.replace("@", "").replace(".", "")
    assert attached.get_filename() == f"mx.example.test!example.org!{begin}!{end}!{identifier}.xml.gz"
    assert (report.organization, report.email, report.begin, report.end) == (
        "Example Test",
        "postmaster@mx.example.test",
        begin,
        end,
    )
    assert report.published == PublishedPolicy(
        "example.org", "quarantine", "quarantine", "reject", "r", "s", "1", discovery_method="treewalk"
    )
    assert report.rows == ((ROW, 2), (FULL, 1))
    (kept,) = await world.db.read(archive.page, Kind.DMARC_AGGREGATE, None, "", None, 10)
    assert (kept.direction, kept.external_id, kept.address) == (
        Direction.SENT,
        report.report_id,
        "d@example.org, alice@example.test",
    )


async def test_its_recipients_wait_like_any_others_and_get_no_reports(world: World) -> None:
    await counted(world, ROW)
    await send(world)
    (lease,) = await world.lease()
    assert (lease.destination, lease.reverse_path) == ("example.org", "")
    assert b"Report Domain: example.org" in await world.read_outbound(lease)
    assert [state for _, state, _ in await world.states(lease.transport_id)] == [State.LEASED, State.PENDING]


async def test_nothing_is_sent_before_the_day_is_over(world: World) -> None:
    await counted(world, ROW)
    assert await send(world, NOON * 1_000_000) == 0
    assert await send(world, (DAY + 1) * counts.DAY_SECONDS * 1_000_000 + 60_000_000) == 0
    assert await send(world) == 1


async def test_two_cores_send_one_report(world: World) -> None:
    await counted(world, ROW)
    assert sorted(await asyncio.gather(send(world), send(world))) == [0, 1]
    assert await send(world) == 0
    assert len(await world.db.read(archive.page, Kind.DMARC_AGGREGATE, None, "", None, 10)) == 1


async def test_a_domain_without_addresses_gets_none_and_its_counts_go(world: World) -> None:
    await counted(world, ROW, request=replace(REQUEST, addresses=()))
    assert await send(world) == 0
    assert await world.db.read(counts.due, DAY + 1, 10) == []


async def test_each_policy_domain_has_its_report(world: World) -> None:
    await counted(world, ROW)
    await counted(world, ROW, domain="example.net")
    assert await send(world) == 2
    assert {
        one.policy_domain for one in await world.db.read(archive.page, Kind.DMARC_AGGREGATE, None, "", None, 10)
    } == {
        "example.net",
        "example.org",
    }
