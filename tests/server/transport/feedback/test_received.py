"""Reading the reports of other servers from a mailbox."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from restante_mail.feedback import aggregate_xml, attachments
from restante_mail.feedback.aggregate import AggregateReport, PublishedPolicy
from restante_mail.header.addresses import Address
from restante_mail.mime.compose import Attached, Outgoing, compose
from restante_server.db.operation import Write
from restante_server.store.listing import EPOCH
from restante_server.transport.feedback import archive, received
from restante_server.transport.feedback.aggregate_reports import new_report
from restante_server.transport.feedback.archive import Direction, Kind
from tests.server.transport.feedback.rows import FULL, ROW
from tests.server.transport.world import MESSAGE, START, World

REPORT = AggregateReport(
    organization="Example",
    email="postmaster@example.net",
    report_id="1@example.net",
    begin=1_764_374_400,
    end=1_764_460_799,
    published=PublishedPolicy("example.test", "quarantine"),
    rows=((ROW, 3), (FULL, 2)),
)
GZIP = Attached("a!b!1!2.xml.gz", "application/gzip", attachments.compress(aggregate_xml.write(REPORT)))


def letter(*attached: Attached) -> bytes:
    author = Address("", "postmaster@example.net")

    return compose(Outgoing([author], EPOCH, "report@example.net", text="A report.", attachments=attached))


async def read(world: World, *addresses: str) -> int:
    return await received.read(world.db, world.core.contents.directory, addresses, START)


async def test_a_report_in_the_mailbox_is_kept_once(world: World) -> None:
    await world.add_alias("reports@example.test", "bob@example.test", "dave@example.org")
    await world.accept(["reports@example.test"], letter(GZIP))
    await world.accept(["bob@example.test"])
    assert await read(world, "reports@example.test") == 1
    assert await read(world, "reports@example.test") == 0
    await world.accept(["bob@example.test"], letter(GZIP))
    assert await read(world, "reports@example.test") == 0  # the same report again
    (kept,) = await world.db.read(archive.page, Kind.DMARC_AGGREGATE, None, "", None, 10)
    assert (kept.direction, kept.organization, kept.policy_domain) == (Direction.RECEIVED, "Example", "example.test")
    assert (kept.total_count, kept.failed_count, kept.address) == (5, 2, "postmaster@example.net")
    got = await world.db.read(archive.get, Kind.DMARC_AGGREGATE, kept.report_id)
    assert got == (kept, aggregate_xml.write(REPORT))
    assert aggregate_xml.read(got[1]) == REPORT


async def test_other_mailboxes_and_unknown_addresses_are_not_read(world: World) -> None:
    await world.accept(["alice@example.test"], letter(GZIP))
    assert await read(world, "bob@example.test", "nobody@example.test", "dave@example.org") == 0


async def test_a_bad_attachment_is_logged_and_stops_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    bad = replace(GZIP, octets=b"\x1f\x8b" + b"\xff" * 50)
    holiday = Attached("holiday.jpg", "image/jpeg", b"\xff\xd8")
    await world.accept(["bob@example.test"], letter(bad, holiday))
    await world.accept(["bob@example.test"], letter(replace(GZIP, media_type="application/octet-stream")))
    with caplog.at_level(logging.WARNING):
        assert await read(world, "bob@example.test") == 1
    (record,) = caplog.records
    assert "cannot be read: the GZIP file is damaged" in record.getMessage()


async def test_a_message_that_is_too_large_is_passed_over(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await world.accept(["bob@example.test"], letter(GZIP))
    await world.accept(["bob@example.test"], MESSAGE)
    monkeypatch.setattr(received, "MAX_MESSAGE_OCTETS", len(MESSAGE) + 1)
    assert await read(world, "bob@example.test") == 0
    assert "too large" in caplog.text


async def test_reports_are_forgotten_after_their_time(world: World) -> None:
    for number in range(3):
        report = replace(REPORT, report_id=str(number))
        await world.db.write(
            Write(lambda tx, report=report, at=number: archive.keep(tx, Direction.SENT, new_report(report, "a"), at))  # type: ignore[misc]
        )
    assert await world.db.write(Write(lambda tx: archive.forget(tx, 2, 1))) == 1
    assert await world.db.write(Write(lambda tx: archive.forget(tx, 2, 10))) == 1
    (left,) = await world.db.read(archive.page, Kind.DMARC_AGGREGATE, Direction.SENT, "example.test", None, 10)
    assert left.external_id == "2"
    assert await world.db.read(archive.page, Kind.DMARC_AGGREGATE, Direction.RECEIVED, "", None, 10) == []
    assert await world.db.read(archive.page, Kind.DMARC_AGGREGATE, None, "", left.report_id, 10) == []


async def test_received_reports_are_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(archive, "MAX_RECEIVED", 2)
    for number in range(4):
        document = aggregate_xml.write(replace(REPORT, report_id=str(number)))
        await world.accept(["bob@example.test"], letter(replace(GZIP, octets=attachments.compress(document))))
    assert await read(world, "bob@example.test") == 2
    assert "2 received reports (DMARC_AGGREGATE) are not kept" in caplog.text
