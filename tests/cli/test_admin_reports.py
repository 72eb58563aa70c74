"""`restante admin reports tls` over a core of this process."""

from __future__ import annotations

import asyncio
import json
import secrets
from pathlib import Path

import pytest
from click.testing import CliRunner
from google.protobuf.timestamp_pb2 import Timestamp

from restante.link import CoreLink
from restante.v1 import methods
from restante.v1 import tls_pb2 as v1
from restante_cli.admin import admin
from tests.harness.local_core import open_local_core, prepare_store


@pytest.fixture
def template(tmp_path: Path) -> Path:
    prepare_store(tmp_path / "template")
    return tmp_path / "template"


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

        async def shown(*options: str) -> str:
            arguments = ["--data", str(tmp_path / "data"), "reports", "tls", *options]
            done = await asyncio.to_thread(CliRunner().invoke, admin, arguments)
            assert done.exit_code == 0, done.stderr
            return done.stdout

        table = await shown()
        assert "MTA-STS" in table and "success" in table and "12" in table and "certificate-expired" in table
        (one,) = json.loads(await shown("--failures", "--output", "json"))
        assert (one["domain"], one["policy"], one["result"]) == ("example.net", "MTA-STS", "certificate-expired")
        assert (one["sessions"], one["host"], one["reason"]) == (3, "mx.example.net", "too old")
        assert one["day"] == f"{now.ToDatetime():%Y-%m-%d}" and one["reported_at"] is None
        assert json.loads(await shown("--domain", "other.example", "--output", "json")) == []
