"""The daily TLS reports: the message, its recipients, and that each report is sent once."""

from __future__ import annotations

import asyncio
import email
import gzip
import json
import secrets
from email import policy

import pytest
from sqlalchemy import Connection, select

from restante.v1 import tls_pb2
from restante_mail.feedback import tls_json
from restante_server.db import schema
from restante_server.db.operation import Write
from restante_server.transport.feedback import archive, deliveries, outgoing, tls_reports
from restante_server.transport.feedback.archive import Direction
from restante_server.transport.feedback.archive import Kind as ReportKind
from restante_server.transport.feedback.outgoing import Reporter
from restante_server.transport.feedback.tls_reports import DailyTls
from restante_server.transport.tls import sessions
from restante_server.transport.tls.sessions import DAY, POLICY_KINDS, RESULTS, Kind
from tests.server.transport.world import World

REPORTER = Reporter("Example Test", "postmaster@mx.example.test", "mx.example.test")
RECORD = "v=TLSRPTv1; rua=mailto:tls@example.org,mailto:alice@example.test,https://example.org/reports"
SUCCESS = Kind("example.org", 2, ("version: STSv1", "mode: enforce"), ("mx.example.org",))
EXPIRED = SUCCESS._replace(result=3, receiving_host="mx.example.org", reason="has expired")


async def counted(world: World, day: int, record: str = RECORD, domain: str = "example.org") -> None:
    kinds = [(kind._replace(policy_domain=domain), count) for kind, count in ((SUCCESS, 5), (EXPIRED, 2))]

    def add(tx: Connection) -> None:
        sessions.add(tx, day, kinds, [(domain, record)])

    await world.db.write(Write(add))


async def send(world: World, ahead: int = 0) -> int:
    moment = today(world) * DAY + DAY // 2 + ahead
    return await outgoing.send(world.db, world.transport.settings, REPORTER, DailyTls(), moment)


def today(world: World) -> int:
    return world.call(world.gateway("relay")).now // DAY


async def test_the_report_is_a_message_with_compressed_json(world: World) -> None:  # RFC 8460 5.3
    day = today(world) - 1
    await counted(world, day)
    assert await send(world) == 1
    await world.transport.deliver()
    (letter,) = await world.letters("alice")
    message = email.message_from_bytes(letter.content, policy=policy.default)
    assert message.get_content_type() == "multipart/report" and message.get_param("report-type") == "tlsrpt"
    assert message["TLS-Report-Domain"] == "example.org" and message["TLS-Report-Submitter"] == "mx.example.test"
    assert message["To"] == "tls@example.org, alice@example.test"
    text, attached = message.iter_parts()
    assert text.get_content_type() == "text/plain" and attached.get_content_type() == "application/tlsrpt+gzip"
    report = json.loads(gzip.decompress(attached.get_content()))
    assert message["Subject"] == (
        f"Report Domain: example.org Submitter: mx.example.test Report-ID: <{report['report-id']}>"
    )
    name = attached.get_filename() or ""
    assert name.startswith(f"mx.example.test!example.org!{day * 86_400}!{day * 86_400 + 86_399}!")
    (one,) = report["policies"]
    assert one["policy"]["policy-type"] == "sts" and one["policy"]["mx-host"] == ["mx.example.org"]
    assert one["summary"] == {"total-successful-session-count": 5, "total-failure-session-count": 2}
    (failure,) = one["failure-details"]
    assert failure["result-type"] == "certificate-expired" and failure["failed-session-count"] == 2


async def test_no_policy_about_tls_holds_a_report_up(world: World) -> None:  # RFC 8460 3
    await counted(world, today(world) - 1)
    await send(world)
    (lease,) = await world.lease()
    assert lease.tls_optional and lease.destination == "example.org"
    await world.accept(["bob@example.test"])
    assert not any(lease.tls_optional for lease in await world.lease())


async def test_a_report_is_signed_by_its_authors_domain(world: World) -> None:  # RFC 8460 3
    await counted(world, today(world) - 1)
    reporter = Reporter("Example Test", "postmaster@Example.test", "mx.example.test")
    await outgoing.send(world.db, world.transport.settings, reporter, DailyTls(), today(world) * DAY + DAY // 2)
    domains = select(schema.transport_message.c.signing_domain)
    assert await world.db.read(lambda tx: list(tx.scalars(domains))) == ["example.test"]


async def test_each_report_is_sent_once(world: World) -> None:
    await counted(world, today(world) - 1)
    await counted(world, today(world) - 2)
    assert sum(await asyncio.gather(send(world), send(world))) == 2
    assert await send(world) == 0
    found = await world.db.read(sessions.listing, "", False, None, 10)
    assert all(one.reported_at is not None for one in found)


async def test_a_day_is_reported_when_it_has_passed(world: World) -> None:
    await counted(world, today(world))
    assert await send(world) == 0
    assert await send(world, ahead=DAY) == 1


@pytest.mark.parametrize("record", ["v=TLSRPTv1; rua=http://example.org/reports", "v=TLSRPTv1; rua=mailto:x"])
async def test_a_domain_without_an_address_gets_no_report(world: World, record: str) -> None:
    await counted(world, today(world) - 1, record)
    assert await send(world) == 0
    assert (await world.db.read(sessions.listing, "", False, None, 1))[0].reported_at is None
    assert await world.db.read(sessions.due, today(world), 10) == []


async def test_web_servers_get_it_too_and_it_is_kept(world: World) -> None:  # RFC 8460 5.4
    day = today(world) - 1
    await counted(world, day)
    await counted(world, day, "v=TLSRPTv1; rua=https://only.example/", "only.example")
    assert await send(world) == 2
    only, both = await world.db.read(archive.page, ReportKind.TLS, Direction.SENT, "", None, 10)
    assert (only.policy_domain, only.address) == ("only.example", "")
    assert (both.policy_domain, both.address) == ("example.org", "tls@example.org, alice@example.test")
    assert (both.total_count, both.failed_count, both.begin_at) == (7, 2, day * DAY)
    sent = await world.db.read(deliveries.of_reports, [only.report_id, both.report_id])
    assert [one.url for one in sent[only.report_id]] == ["https://only.example/"]
    assert [one.url for one in sent[both.report_id]] == ["https://example.org/reports"]
    got = await world.db.read(archive.get, ReportKind.TLS, both.report_id)
    assert got is not None and tls_json.read(got[1]).report_id == both.external_id
    assert len(await world.lease()) == 1  # one message, and none to only.example


async def test_a_long_report_keeps_the_highest_counts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_reports, "MAX_DOCUMENT_OCTETS", 1_500)
    day = today(world) - 1
    many = [(EXPIRED._replace(reason=secrets.token_hex(20)), number + 1) for number in range(60)]
    await world.db.write(Write(lambda tx: sessions.add(tx, day, many, [("example.org", RECORD)])))
    await send(world)
    (kept,) = await world.db.read(archive.page, ReportKind.TLS, None, "", None, 10)
    got = await world.db.read(archive.get, ReportKind.TLS, kept.report_id)
    assert got is not None
    counts = sorted(one.session_count for one in tls_json.read(got[1]).policies[0].failures)
    assert 1 < len(counts) < 60 and counts == list(range(61 - len(counts), 61))


def test_numbers_are_those_of_the_contract() -> None:
    kinds = {number: kind.name for number, kind in POLICY_KINDS.items()}
    named = {name.removeprefix("TLS_POLICY_KIND_"): number for name, number in tls_pb2.TlsPolicyKind.items() if number}
    assert {name: number for number, name in kinds.items()} == named
    results = {result.name: number for number, result in RESULTS.items() if result is not None}
    assert results == {
        name.removeprefix("TLS_RESULT_TYPE_"): number for name, number in tls_pb2.TlsResultType.items() if number
    }
