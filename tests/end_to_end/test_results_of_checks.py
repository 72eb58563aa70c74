"""Checked mail from acceptance to the API: columns, conditions, copies, the trace, metrics and counts for reports."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from restante import query
from restante.checked import short_line
from restante.errors import InvalidArgument, MessageRefused
from restante.link import CoreLink
from restante.rows import Message
from restante.v1 import checks_pb2 as v1
from restante.v1 import methods
from restante.v1.admin_pb2 import TraceMessagesRequest, UpdateDomainRequest
from restante.v1.search_pb2 import Restriction
from restante.v1.submission_pb2 import EnvelopeRecipient
from restante.v1.transport_pb2 import AcceptBegin, AcceptMessageRequest
from restante_server.db.schema import dmarc_row
from tests.harness.local_core import LocalCore, open_local_core, prepare_store

CONTENT = b"From: info@bank.example\r\nSubject: %s\r\n\r\nHello.\r\n"
SPF = v1.SpfCheck(result=v1.CHECK_RESULT_PASS, identity=v1.SPF_IDENTITY_MAILFROM, domain="bank.example")
DKIM = v1.DkimCheck(result=v1.CHECK_RESULT_PASS, domain="bank.example", selector="s1", key_bits=2048)
PASSED = v1.MessageChecks(
    spf=[SPF],
    dkim=[DKIM],
    dmarc=v1.DmarcCheck(result=v1.CHECK_RESULT_PASS, author_domain="bank.example", policy=v1.DMARC_POLICY_NONE),
)
FAILED = v1.MessageChecks(
    spf=[v1.SpfCheck(result=v1.CHECK_RESULT_NEUTRAL, identity=v1.SPF_IDENTITY_MAILFROM, domain="bank.example")],
    dmarc=v1.DmarcCheck(
        result=v1.CHECK_RESULT_FAIL,
        author_domain="bank.example",
        policy_domain="bank.example",
        policy=v1.DMARC_POLICY_REJECT,
        record="v=DMARC1; p=reject; rua=mailto:dmarc@bank.example",
        report_to=["dmarc@bank.example"],
    ),
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checked") / "template"
    prepare_store(directory)
    return directory


@pytest.fixture
async def core(template: Path, tmp_path: Path) -> AsyncIterator[LocalCore]:
    async with open_local_core(template, tmp_path / "core") as core:
        yield core


async def accept(core: LocalCore, subject: bytes, checks: v1.MessageChecks | None) -> int:
    link = await core.link("smtp", CoreLink)
    begin = AcceptBegin(
        request_id=secrets.token_bytes(16),
        reverse_path="info@bank.example",
        recipients=[EnvelopeRecipient(forward_path="alice@example.test")],
        client_address="192.0.2.1",
        trace_field="Received: from bank.example by mx.example.test; Mon, 1 Jan 2029 10:00:00 +0000\r\n",
    )
    request = AcceptMessageRequest(start=begin, content=CONTENT % subject, checks=checks)
    return (await link.execute(methods.ACCEPT_MESSAGE, request)).transport_id


async def found(core: LocalCore, restriction: Restriction | None = None) -> dict[str, Message]:
    alice = await core.user("alice")
    return {one.summary.subject: one async for one in alice.messages.query(None, restriction)}


async def test_results_are_shown_found_and_kept_by_copies(core: LocalCore) -> None:
    for subject, checks in ((b"good", PASSED), (b"bad", FAILED), (b"unknown", None)):
        await accept(core, subject, checks)
    all_of_them = await found(core)
    assert all_of_them["good"].checks == PASSED
    assert short_line(all_of_them["good"].checks) == "spf=pass dkim=pass (bank.example) dmarc=pass"
    assert short_line(all_of_them["bad"].checks) == "spf=neutral dmarc=fail"
    assert short_line(all_of_them["unknown"].checks) == ""
    assert all_of_them["bad"].checks.dmarc.record  # but not the addresses that get reports
    assert not all_of_them["bad"].checks.dmarc.report_to
    for restriction, subjects in (
        (query.checked("dmarc", "fail"), {"bad"}),
        (query.checked("dmarc", "fail", "pass"), {"bad", "good"}),
        (query.checked("dmarc"), {"bad", "good"}),
        (query.checked("dkim"), {"good"}),
        (query.negation(query.checked("spf", "pass")), {"bad", "unknown"}),
        (query.checked("arc"), set()),
        (
            Restriction(checks=v1.CheckRestriction(check=v1.CHECK_METHOD_SPF, results=[v1.CHECK_RESULT_UNSPECIFIED])),
            {"unknown"},
        ),
        (query.all_of(query.checked("spf"), query.text("subject", "goo")), {"good"}),
    ):
        assert (await found(core, restriction)).keys() == subjects
    alice = await core.user("alice")
    await alice.messages.copy([all_of_them["good"].message_id], "Archive")
    copies = [one async for one in alice.messages.query("Archive")]
    assert [one.checks for one in copies] == [PASSED]
    for bad in (
        v1.CheckRestriction(),
        v1.CheckRestriction(check=v1.CHECK_METHOD_SPF, results=[99]),  # type: ignore[list-item]
    ):
        with pytest.raises(InvalidArgument):
            await found(core, Restriction(checks=bad))


async def test_the_trace_has_the_results_and_the_reason(core: LocalCore) -> None:
    taken = await accept(core, b"bad", FAILED)
    (trace,) = (await core.admin.execute(methods.TRACE_MESSAGES, TraceMessagesRequest(transport_id=taken))).traces
    assert trace.checks.dmarc.result == v1.CHECK_RESULT_FAIL
    (event,) = trace.events
    assert event.detail == "2.1.5 delivered to Junk: DMARC fails for bank.example, whose policy is reject"
    alice = await core.user("alice")
    assert [one.summary.subject async for one in alice.messages.query("Junk")] == ["bad"]


async def test_metrics_and_reports_count_results_and_verdicts(core: LocalCore) -> None:
    await accept(core, b"good", PASSED)
    await accept(core, b"bad", FAILED)
    reject = v1.FailedCheckPolicy.FAILED_CHECK_POLICY_REJECT
    await core.admin.execute(methods.UPDATE_DOMAIN, UpdateDomainRequest(name="example.test", failed_dmarc=reject))
    with pytest.raises(MessageRefused):
        await accept(core, b"bad", FAILED)
    value = core.process.registry.get_sample_value
    assert value("restante_mail_checks_total", {"check": "dmarc", "result": "pass"}) == 1
    assert value("restante_mail_checks_total", {"check": "dmarc", "result": "fail"}) == 1
    assert value("restante_mail_checks_total", {"check": "spf", "result": "pass"}) == 1
    assert value("restante_mail_verdicts_total", {"check": "dmarc", "treatment": "junk"}) == 1
    assert value("restante_mail_verdicts_total", {"check": "dmarc", "treatment": "refuse"}) == 1
    db = core.process.core.db
    await core.process.core.dmarc_tally.flush(db)
    rows = [json.loads(facts) for facts in await db.read(lambda tx: tx.scalars(select(dmarc_row.c.facts)).all())]
    assert {row["disposition"] for row in rows} == {"quarantine", "reject"}
    assert {row["source_address"] for row in rows} == {"192.0.2.1"}
    for row in rows:
        reasons = [reason["kind"] for reason in row["overrides"]]
        assert reasons == (["local_policy"] if row["disposition"] == "quarantine" else [])
