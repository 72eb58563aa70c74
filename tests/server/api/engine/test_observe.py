"""The metrics of a core, and its log of failed logins for operators."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from restante.client import Client
from restante.errors import AuthenticationFailed
from restante.v1 import methods
from restante.v1.admin_pb2 import CreateDomainRequest
from restante.v1.session_pb2 import Scope
from restante.v1.submission_pb2 import EnvelopeRecipient
from restante.v1.transport_pb2 import AcceptBegin, AcceptMessageRequest
from restante_process.config import Config
from restante_server import gauges
from restante_server.api.engine.observe import CallObserver
from restante_server.observe import MailFigures, StoreObserver
from restante_server.security_log import SecurityLog
from tests.server.api.served import Served, request_id, served

MAIL = b"From: carol@example.net\r\nSubject: x\r\n\r\nhello\r\n"
DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "metrics.md"


def value(core: Served, name: str, **labels: str) -> float:
    found = core.process.registry.get_sample_value(f"restante_{name}", labels)
    assert found is not None, name
    return found


async def test_writes_reads_and_what_waits_are_metrics(tmp_path: Path) -> None:
    async with served(tmp_path) as core:
        names = ("write_transaction_duration_seconds_count", "write_operations_total", "read_duration_seconds_count")
        before = [value(core, name) for name in names]
        request = CreateDomainRequest(name="example.org", request_id=request_id())
        await core.call("AdminService/CreateDomain", request, identity="admin")
        await core.core.db.read(lambda tx: None)
        assert all(value(core, name) > then for name, then in zip(names, before, strict=True))
        assert value(core, "write_replays_total") == 0
        assert value(core, "write_pipeline_waiting") == value(core, "write_pipeline_bytes") == 0


async def test_mail_that_is_taken_and_delivered_is_counted_once_with_its_time(tmp_path: Path) -> None:
    async with served(tmp_path) as core:
        link = await core.link("smtp")
        begin = AcceptBegin(
            request_id=request_id(),
            reverse_path="carol@example.net",
            trace_field="Received: by mx.example.test; Sat, 28 Nov 2026 10:00:00 +0000\r\n",
            recipients=[EnvelopeRecipient(forward_path=f"{name}@example.test") for name in ("alice", "bob")],
        )
        for _ in range(2):  # the second repeats the same acceptance
            await link.execute(methods.ACCEPT_MESSAGE, AcceptMessageRequest(start=begin, content=MAIL))
        await link.close()
        assert value(core, "mail_acceptance_duration_seconds_count", kind="acceptance") == 1
        assert value(core, "mail_recipients_total", outcome="delivered") == 2
        assert value(core, "mail_delivery_duration_seconds_count") == 2


async def test_the_queue_the_mail_and_the_room_are_looked_up(tmp_path: Path) -> None:
    async with served(tmp_path) as core:
        async with Client.connect(
            core.tls_address,
            user="alice@example.test",
            password="alice-demo",
            root_certificates=core.authority.certificate,
        ) as client:
            await client.submissions.submit(
                await client.drafts.compose(to=["carol@example.net"], subject="Lunch", text="See you at noon.")
            )
        await core.process._look()
        assert value(core, "mail_acceptance_duration_seconds_count", kind="submission") == 1
        assert value(core, "queue_recipients", state="pending") == 1
        assert value(core, "queue_recipients", state="leased") == 0
        assert 0 <= value(core, "queue_oldest_age_seconds", state="pending") < 60
        assert value(core, "mailboxes") == 3
        assert value(core, "database_size_bytes") > 100_000
        assert value(core, "storage_free_bytes", place="contents") > 0
        assert value(core, "storage_reserve_bytes") == 1_000_000
        await core.process._look_at_certificates()
        expiry = "restante_certificate_expiry_timestamp_seconds"
        found = core.process.registry.get_sample_value(expiry, {"name": "localhost"})
        assert found is not None and found > 1_700_000_000


async def test_a_failed_login_is_counted_and_its_name_stands_in_the_security_log_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with served(tmp_path, CORE__LOG_CALLS="all") as core:
        for name in ("bob", 'no%sbody\n"'):
            with pytest.raises(AuthenticationFailed):
                await core.session(name, Scope.SCOPE_IMAP, identity="imap", password="a-secret")
        assert value(core, "login_failures_total", protocol="imap", reason="AUTHENTICATION_FAILED") == 2
    file = tmp_path / "data" / "security.log"
    lines: list[dict[str, Any]] = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["name"] for line in lines] == ["bob@example.test", 'no%sbody\n"@example.test']
    assert lines[0] | {"timestamp": "", "client": ""} == {
        "timestamp": "", "level": "warning", "process": "core", "event": "login failed", "protocol": "imap",
        "reason": "AUTHENTICATION_FAILED", "name": "bob@example.test", "client": "",
    }  # fmt: skip
    assert "a-secret" not in file.read_text()
    printed = "".join(capfd.readouterr())
    assert "Authenticate" in printed
    assert "bob@example.test" not in printed


def _exposed(*, sqlite: bool, tmp_path: Path) -> set[str]:
    registry = CollectorRegistry()
    CallObserver(registry)
    MailFigures(registry)
    StoreObserver(registry, sqlite=sqlite)
    gauges.StoreGauges(registry, Config(data=str(tmp_path)))
    SecurityLog(registry, tmp_path / "security.log")
    return set(re.findall(r"^# TYPE (\S+)", generate_latest(registry).decode(), re.MULTILINE))


def test_metrics_of_sqlite_are_shown_for_sqlite_alone(tmp_path: Path) -> None:
    assert {name for name in _exposed(sqlite=True, tmp_path=tmp_path) if "sqlite" in name}
    assert not {name for name in _exposed(sqlite=False, tmp_path=tmp_path) if "sqlite" in name}


def test_every_metric_of_the_core_is_documented_and_named_as_prometheus_asks(tmp_path: Path) -> None:
    documented = set(re.findall(r"`(restante_\w+)", DOCUMENT.read_text()))
    exposed = _exposed(sqlite=True, tmp_path=tmp_path)
    assert exposed - documented == set()
    assert not {name for name in exposed if re.search(r"octets|milliseconds|minutes|days|_kb", name)}
