"""Mail is counted for DMARC reports when it is accepted or refused."""

from __future__ import annotations

import secrets

import pytest

from restante.errors import MessageRefused
from restante.v1.checks_pb2 import (
    CHECK_RESULT_FAIL,
    CHECK_RESULT_PASS,
    DMARC_POLICY_REJECT,
    SPF_IDENTITY_MAILFROM,
    DmarcCheck,
    MessageChecks,
    SpfCheck,
)
from restante.v1.submission_pb2 import EnvelopeRecipient
from restante.v1.transport_pb2 import AcceptBegin, AcceptMessageRequest
from restante_mail.feedback.aggregate import Override, Row
from restante_server.api.services.accept_message import accept_message
from restante_server.db.operation import Write
from restante_server.directory import domains
from restante_server.directory.check_rules import OnFailure
from restante_server.store.requests import Key
from restante_server.transport.feedback import counts
from restante_server.transport.feedback.repeats import CountedRefusals
from restante_server.transport.hooks import Figures
from tests.server.transport.world import FOREVER, MESSAGE, TRACE, World

FAILED = DmarcCheck(
    result=CHECK_RESULT_FAIL,
    author_domain="example.org",
    policy_domain="example.org",
    policy=DMARC_POLICY_REJECT,
    record="v=DMARC1; p=reject; rua=mailto:d@example.org",
    report_to=["d@example.org"],
)
PASSED = DmarcCheck(
    result=CHECK_RESULT_PASS,
    author_domain="example.org",
    policy_domain="example.org",
    policy=DMARC_POLICY_REJECT,
    record=FAILED.record,
    spf_aligned=True,
    report_to=["d@example.org"],
)
SPF = SpfCheck(result=CHECK_RESULT_PASS, identity=SPF_IDENTITY_MAILFROM, domain="example.org")


async def take(world: World, dmarc: DmarcCheck | None, request_id: bytes = b"") -> None:
    start = AcceptBegin(
        request_id=request_id or secrets.token_bytes(16),
        reverse_path="dave@mail.example.org",
        recipients=[EnvelopeRecipient(forward_path="alice@example.test")],
        client_address="192.0.2.1",
        trace_field=TRACE,
    )
    checks = MessageChecks(spf=[SPF], dmarc=dmarc)
    await accept_message(
        world.call(world.gateway(), FOREVER), AcceptMessageRequest(start=start, content=MESSAGE, checks=checks)
    )


async def counted(world: World) -> dict[Row, int]:
    await world.core.dmarc_tally.flush(world.db)
    found: dict[Row, int] = {}
    for subject in await world.db.read(counts.due, 1 << 30, 10):
        assert subject.policy_domain == "example.org"
        loaded = await world.db.read(counts.load, subject)
        assert loaded is not None
        assert loaded[0] == counts.Request(FAILED.record, ("d@example.org",))
        found.update(loaded[1])
    return found


async def test_accepted_mail_is_counted_with_what_became_of_it(world: World) -> None:
    for dmarc in (PASSED, PASSED, FAILED, None):
        await take(world, dmarc)
    rows = await counted(world)
    assert {row.disposition: count for row, count in rows.items()} == {"pass": 2, "quarantine": 1}
    (junk,) = (row for row in rows if row.disposition == "quarantine")
    assert junk.envelope_from == "mail.example.org"
    assert junk.overrides == (Override("local_policy", "DMARC fails for example.org, whose policy is reject"),)


async def test_refused_mail_is_counted(world: World) -> None:
    await world.db.write(Write(lambda tx: domains.set_rules(tx, "example.test", failed_dmarc=OnFailure.REJECT)))
    with pytest.raises(MessageRefused):
        await take(world, FAILED)
    ((row, count),) = (await counted(world)).items()
    assert (row.disposition, row.overrides, count) == ("reject", (), 1)


class Verdicts(Figures):
    """Counts what is reported."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def judged(self, check: str, treatment: str) -> None:
        self.seen.append((check, treatment))


async def test_a_repeated_request_counts_once(world: World) -> None:
    world.transport.figures = verdicts = Verdicts()
    same = secrets.token_bytes(16)
    await take(world, FAILED, same)
    await take(world, FAILED, same)
    assert verdicts.seen == [("dmarc", "junk")]
    assert list((await counted(world)).values()) == [1]


async def test_a_repeated_request_that_is_refused_counts_once(world: World) -> None:
    world.transport.figures = verdicts = Verdicts()
    await world.db.write(Write(lambda tx: domains.set_rules(tx, "example.test", failed_dmarc=OnFailure.REJECT)))
    same, other = secrets.token_bytes(16), secrets.token_bytes(16)
    for request_id in (same, same, other, same):
        with pytest.raises(MessageRefused):
            await take(world, FAILED, request_id)
    assert verdicts.seen == [("dmarc", "refuse")] * 2
    assert list((await counted(world)).values()) == [2]


async def test_a_repeated_request_has_its_first_answer_although_the_domain_refuses_such_mail_now(world: World) -> None:
    world.transport.figures = verdicts = Verdicts()
    same = secrets.token_bytes(16)
    await take(world, FAILED, same)
    await world.db.write(Write(lambda tx: domains.set_rules(tx, "example.test", failed_dmarc=OnFailure.REJECT)))
    await take(world, FAILED, same)
    assert verdicts.seen == [("dmarc", "junk")]


def test_the_refusals_in_memory_are_bounded() -> None:
    counted_refusals = CountedRefusals(most=2)
    keys = [Key(0, "smtp", bytes([number])) for number in range(3)]
    assert [counted_refusals.is_new(key) for key in (keys[0], keys[1], keys[0], keys[2])] == [True, True, False, True]
    assert [counted_refusals.is_new(key) for key in (keys[0], keys[1])] == [False, True]


async def test_mail_of_domains_that_want_no_report_is_not_counted(world: World) -> None:
    silent = DmarcCheck()
    silent.CopyFrom(PASSED)
    del silent.report_to[:]
    await take(world, silent)
    assert await counted(world) == {}
