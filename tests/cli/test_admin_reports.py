"""`restante admin reports` about TLS, over a core of this process."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Connection

from restante.link import CoreLink
from restante.v1 import methods
from restante.v1 import tls_pb2 as v1
from restante_cli.admin import admin
from restante_mail.authentication.tls_report import Failure, PolicySessions, TlsReport, report_json
from restante_mail.authentication.tls_result import TlsPolicy, TlsResult
from restante_mail.feedback import tls_json
from restante_mail.feedback.failure import FailureReport
from restante_server.db.operation import Write
from restante_server.transport.feedback import archive, deliveries, failure_reports
from restante_server.transport.feedback.tls_received import new_report
from tests.harness.local_core import open_local_core, prepare_store


@pytest.fixture
def template(tmp_path: Path) -> Path:
    prepare_store(tmp_path / "template")
    return tmp_path / "template"


async def shown(directory: Path, *options: str) -> str:
    done = await asyncio.to_thread(CliRunner().invoke, admin, ["--data", str(directory), "reports", *options])
    assert done.exit_code == 0, done.stderr
    return done.stdout


async def test_a_report_is_listed_and_shown_with_its_deliveries(template: Path, tmp_path: Path) -> None:
    policies = (PolicySessions(TlsPolicy("example.net"), 4, (Failure(TlsResult.TLSA_INVALID, 2, reason="no TLSA"),)),)
    document = report_json(TlsReport("Example", "a@example.test", "7", datetime(2026, 11, 29, tzinfo=UTC), policies))

    def keep(tx: Connection) -> None:
        report = new_report(tls_json.read(document), document)
        report_id = archive.keep(tx, archive.Direction.SENT, report, time.time_ns() // 1_000)
        assert report_id is not None
        failed = failure_reports.new_report(FailureReport("example.net"), "Example", "a@example.test", "8")
        archive.keep(tx, archive.Direction.SENT, failed, time.time_ns() // 1_000)
        deliveries.add(tx, report_id, ["https://example.net/tls"], time.time_ns() // 1_000)

    async with open_local_core(template, tmp_path / "data") as local:
        await local.process.core.db.write(Write(keep))
        table = await shown(local.directory, "tls", "--direction", "sent")
        assert "example.net" in table and "waiting" in table
        assert json.loads(await shown(local.directory, "tls", "--direction", "received", "--output", "json")) == []
        (one,) = json.loads(await shown(local.directory, "tls", "--output", "json"))
        assert (one["sessions"], one["failed"], one["deliveries"][0]["url"]) == (6, 2, "https://example.net/tls")
        text = await shown(local.directory, "show", str(one["id"]))
        assert "tlsa-invalid" in text and "no TLSA" in text and "https://example.net/tls" in text
        text = await shown(local.directory, "show", str(one["id"]), "--output", "json")
        whole = json.loads(text[text.index("{") :])  # behind the log of the core, which is in the same process
        assert [row["result"] for row in whole["rows"]] == ["success", "tlsa-invalid"]
        assert "Failure" in await shown(local.directory, "show", str(int(one["id"]) + 1))
        arguments = ["--data", str(local.directory), "reports", "show", "99"]
        done = await asyncio.to_thread(CliRunner().invoke, admin, arguments)
        assert done.exit_code == 1 and "99" in done.stderr


async def test_counted_sessions_are_a_table_and_json(template: Path, tmp_path: Path) -> None:
    failure = v1.TlsFailure(
        result=v1.TLS_RESULT_TYPE_CERTIFICATE_EXPIRED,
        receiving_host="mx.example.net",
        reason="too old",
        session_count=3,
    )
    counted = v1.TlsSessions(
        policy_domain="example.net", kind=v1.TLS_POLICY_KIND_STS, successful_count=12, failures=[failure]
    )
    now = Timestamp()
    now.GetCurrentTime()
    async with open_local_core(template, tmp_path / "data") as local:
        relay: CoreLink = await local.link("relay")
        request = v1.ReportTlsSessionsRequest(request_id=secrets.token_bytes(16), counted_at=now, sessions=[counted])
        await relay.execute(methods.REPORT_TLS_SESSIONS, request)

        table = await shown(local.directory, "tls-sessions")
        assert "MTA-STS" in table and "success" in table and "12" in table and "certificate-expired" in table
        (one,) = json.loads(await shown(local.directory, "tls-sessions", "--failures", "--output", "json"))
        assert (one["domain"], one["policy"], one["result"]) == ("example.net", "MTA-STS", "certificate-expired")
        assert (one["sessions"], one["host"], one["reason"]) == (3, "mx.example.net", "too old")
        assert one["day"] == f"{now.ToDatetime():%Y-%m-%d}" and one["reported_at"] is None
        others = ("--domain", "other.example", "--output", "json")
        assert json.loads(await shown(local.directory, "tls-sessions", *others)) == []
