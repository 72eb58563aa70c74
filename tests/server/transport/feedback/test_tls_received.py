"""TLS reports that other servers send by mail: recognized, judged by their DKIM signature, kept."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from restante.v1 import checks_pb2 as v1
from restante_mail.authentication.results import Checks
from restante_mail.authentication.tls_report import Failure, PolicySessions, TlsReport, report_json
from restante_mail.authentication.tls_result import PolicyKind, TlsPolicy, TlsResult
from restante_mail.feedback import attachments, tls_json
from restante_mail.header.addresses import Address
from restante_mail.mime.compose import Attached, Outgoing, compose
from restante_server.db.operation import Write
from restante_server.store.listing import EPOCH
from restante_server.transport import results
from restante_server.transport.feedback import archive, outgoing, received
from restante_server.transport.feedback.archive import Direction, Kind
from restante_server.transport.feedback.outgoing import Reporter
from restante_server.transport.feedback.tls_reports import DailyTls
from restante_server.transport.tls import sessions
from restante_server.transport.tls.sessions import DAY
from tests.server.transport.outbound.test_signatures import add_keys, verified
from tests.server.transport.world import START, World

POLICY = TlsPolicy("example.test", PolicyKind.STS, ("version: STSv1",), ("mx.example.test",))
FAILED = Failure(TlsResult.CERTIFICATE_EXPIRED, 7, "192.0.2.1", "mx.example.test")
REPORT = TlsReport(
    "Example",
    "tls@example.net",
    "1@example.net",
    datetime(2026, 11, 29, tzinfo=UTC),
    (PolicySessions(POLICY, 30, (FAILED,)),),
)
DOCUMENT = report_json(REPORT)
GZIP = Attached("a!b!1!2.json.gz", "application/tlsrpt+gzip", attachments.compress(DOCUMENT))
PLAIN = Attached("a!b!1!2.json", "application/tlsrpt+json", DOCUMENT)
SIGNED = v1.MessageChecks(dkim=[v1.DkimCheck(result=v1.CHECK_RESULT_PASS, domain="example.net", selector="s")])


def letter(attached: Attached, *, report_type: str = "tlsrpt", author: str = "tls@mail.example.net") -> bytes:
    return compose(
        Outgoing(
            [Address("", author)],
            EPOCH,
            "report@example.net",
            text="A report.",
            attachments=[attached],
            report_type=report_type,
        )
    )


async def read(world: World, content: bytes, checks: v1.MessageChecks | None = SIGNED) -> list[archive.Kept]:
    """The TLS reports that are kept after this message has come."""
    await world.accept(["bob@example.test"], content, checks=checks)
    await received.read(world.db, world.core.contents.directory, ["bob@example.test"], START)
    return await world.db.read(archive.page, Kind.TLS, None, "", None, 10)


@pytest.mark.parametrize(
    "attached",
    [
        GZIP,
        PLAIN,
        Attached("a!b!1!2.json.gz", "application/gzip", GZIP.octets),
        Attached("a!b!1!2.JSON", "application/octet-stream", DOCUMENT),
    ],
)
async def test_a_report_is_kept_once(world: World, attached: Attached) -> None:  # RFC 8460 5.3
    (kept,) = await read(world, letter(attached))
    assert (kept.direction, kept.organization, kept.external_id) == (Direction.RECEIVED, "Example", "1@example.net")
    assert (kept.policy_domain, kept.total_count, kept.failed_count) == ("example.test", 37, 7)
    assert kept.begin_at == int(REPORT.start.timestamp()) * 1_000_000 and kept.address == "tls@example.net"
    got = await world.db.read(archive.get, Kind.TLS, kept.report_id)
    assert got is not None and tls_json.read(got[1]).policies[0].failures[0].result == "certificate-expired"
    assert await world.db.read(archive.get, Kind.DMARC_AGGREGATE, kept.report_id) is None
    assert await read(world, letter(attached)) == [kept]


@pytest.mark.parametrize(
    "checks",
    [
        None,
        v1.MessageChecks(dkim=[v1.DkimCheck(result=v1.CHECK_RESULT_FAIL, domain="example.net", problem="x")]),
        v1.MessageChecks(dkim=[v1.DkimCheck(result=v1.CHECK_RESULT_PASS, domain="example.net", partial=True)]),
        v1.MessageChecks(dkim=[v1.DkimCheck(result=v1.CHECK_RESULT_PASS, domain="ample.net")]),
        v1.MessageChecks(dkim=[v1.DkimCheck(result=v1.CHECK_RESULT_PASS, domain="sub.mail.example.net")]),
        v1.MessageChecks(spf=[v1.SpfCheck(result=v1.CHECK_RESULT_PASS, identity=v1.SPF_IDENTITY_MAILFROM)]),
    ],
)
async def test_a_report_without_a_valid_signature_is_ignored(  # RFC 8460 3
    world: World, checks: v1.MessageChecks | None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert await read(world, letter(GZIP), checks) == []
    assert "a TLS report in message" in caplog.text and "no valid DKIM signature" in caplog.text


@pytest.mark.parametrize("author", ["tls@example.org", "", "tls@"])
async def test_the_signature_must_be_of_the_authors_domain(world: World, author: str) -> None:
    content = letter(GZIP).replace(b"tls@mail.example.net", author.encode())
    assert await read(world, content) == []


async def test_our_own_signed_report_is_one(world: World) -> None:
    await add_keys(world)
    now = world.call(world.gateway()).now
    day = now // DAY - 2
    kind = sessions.Kind("example.org", 2, ("version: STSv1",), ("mx.example.org",), 3, reason="has expired")
    record = ("example.org", "v=TLSRPTv1; rua=mailto:tls@example.org")
    await world.db.write(Write(lambda tx: sessions.add(tx, day, [(kind, 4)], [record])))
    reporter = Reporter("Example Test", "postmaster@mx.example.test", "mx.example.test")
    await outgoing.send(world.db, world.transport.settings, reporter, DailyTls(), now)
    (lease,) = await world.lease()
    content = await world.read_outbound(lease)
    checks = results.message_of(Checks(dkim=await verified(world, content)))
    sent, received_ = sorted(await read(world, content, checks), key=lambda kept: kept.direction)
    assert (sent.direction, received_.direction) == (Direction.SENT, Direction.RECEIVED)
    assert (received_.external_id, received_.failed_count) == (sent.external_id, 4)


async def test_two_authors_make_no_report(world: World) -> None:
    two = b"From: tls@example.net, b@example.org\r\n"
    content = letter(GZIP).replace(b"From: tls@mail.example.net\r\n", two)
    assert two in content and await read(world, content) == []


async def test_a_file_beside_other_mail_is_no_report(world: World) -> None:
    attached = Attached("plan.json", "application/json", b"{}")
    assert await read(world, letter(attached, report_type="")) == []


@pytest.mark.parametrize(
    ("octets", "problem"),
    [
        (attachments.compress(b"0" * (50 << 20)), "more than 4194304 octets"),
        (GZIP.octets[:-9], "not complete"),
        (b"{}", "date-range is no object"),
        (json.dumps({"policies": [[[[]]]]}).encode(), "date-range"),
    ],
)
async def test_a_hostile_report_stops_nothing(
    world: World, octets: bytes, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad: Any = Attached("a.json.gz", "application/tlsrpt+gzip", octets)
    with caplog.at_level(logging.WARNING):
        assert await read(world, letter(bad)) == []
    assert problem in caplog.text
    assert len(await read(world, letter(GZIP))) == 1
