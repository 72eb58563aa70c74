"""`restante admin reports failures`, and `show`, over a core of this process."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from restante_cli.admin import admin
from restante_mail.feedback.failure import FailureReport
from restante_server.db.operation import Write
from restante_server.transport.feedback import archive
from restante_server.transport.feedback.archive import Direction
from restante_server.transport.feedback.failure_reports import new_report
from tests.harness.local_core import open_local_core, prepare_store

REPORT = FailureReport(
    policy_domain="example.test",
    source_address="192.0.2.1",
    reverse_path="dave@example.org",
    failed=("dkim",),
    arrived_at=datetime(2029, 1, 1, 10, tzinfo=UTC),
    incidents=7,
    header=b"From: a@example.test\r\nSubject: \r\n a\r\n",
)


@pytest.fixture
def template(tmp_path: Path) -> Path:
    prepare_store(tmp_path / "template")
    return tmp_path / "template"


async def test_reports_of_failures_are_a_table_and_json(template: Path, tmp_path: Path) -> None:
    async with open_local_core(template, tmp_path / "data") as local:
        kept = new_report(REPORT, "example.net", "postmaster@example.net", "1@example.net")
        await local.process.core.db.write(
            Write(lambda tx: archive.keep(tx, Direction.RECEIVED, kept, time.time_ns() // 1_000))
        )

        async def shown(*arguments: str) -> str:
            command = ["--data", str(tmp_path / "data"), "reports", *arguments]
            done = await asyncio.to_thread(CliRunner().invoke, admin, command)
            assert done.exit_code == 0, done.stderr
            return done.stdout

        table = await shown("failures")
        assert "received" in table and "192.0.2.1" in table and "postmaster@example.net" in table
        (one,) = json.loads(await shown("failures", "--domain", "example.test", "--output", "json"))
        assert (one["policy_domain"], one["failure"], one["incidents"]) == ("example.test", "dmarc", 7)
        assert json.loads(await shown("failures", "--direction", "sent", "--output", "json")) == []
        text = await shown("show", str(one["id"]))
        assert "7 messages" in text and "Not aligned: dkim" in text and "  From: a@example.test" in text
        whole = json.loads(await shown("show", str(one["id"]), "--output", "json"))
        assert (whole["reverse_path"], whole["header"]) == ("dave@example.org", REPORT.header.decode())
