"""TLS reports: AdminService lists them, TransportService leases deliveries."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from restante.errors import InvalidArgument, LeaseLost, PermissionDenied, ReportNotFound, RestanteError
from restante.methods import Method
from restante.v1 import methods, tls_pb2
from restante.v1 import reports_pb2 as reports
from restante.v1 import tls_reports_pb2 as v1
from restante_mail.authentication.tls_report import Failure, PolicySessions, TlsReport, report_json
from restante_mail.authentication.tls_result import PolicyKind, TlsPolicy, TlsResult
from restante_mail.feedback import tls_json
from restante_server.db.operation import Write
from restante_server.transport.feedback import archive
from restante_server.transport.feedback.archive import Direction
from restante_server.transport.feedback.tls_received import new_report
from tests.server.api.people import ADMIN, Bench, gateway

SENT, RECEIVED = reports.REPORT_DIRECTION_SENT, reports.REPORT_DIRECTION_RECEIVED
FAILED = Failure(TlsResult.STS_POLICY_INVALID, 2, "192.0.2.1", "mx.example.test", "192.0.2.2", "no mode")


def document(number: int) -> bytes:
    policies = (
        PolicySessions(TlsPolicy(f"{number}.example.test", PolicyKind.STS, ("mode: enforce",), ("mx",)), 5, (FAILED,)),
        PolicySessions(TlsPolicy(f"{number}.example.test"), 1, ()),
    )
    start = datetime(2026, 11, 29, tzinfo=UTC)
    return report_json(TlsReport("Example", "tls@example.net", str(number), start, policies))


async def keep(bench: Bench, *directions: Direction) -> None:
    for number, direction in enumerate(directions):
        octets = document(number)
        new = new_report(tls_json.read(octets), octets)
        write = Write(lambda tx, new=new, to=direction: archive.keep(tx, to, new, 5))  # type: ignore[misc]
        await bench.core.db.write(write)


async def listed(bench: Bench, **filters: Any) -> list[str]:
    found, token = [], ""
    while True:
        request = v1.ListTlsReportsRequest(page_size=2, page_token=token, **filters)
        answer = await bench.run(methods.LIST_TLS_REPORTS, request, ADMIN)
        found += [report.external_id for report in answer.reports]
        token = answer.next_page_token
        if not token:
            return found


async def test_reports_are_listed_latest_first_and_filtered(bench: Bench) -> None:
    await keep(bench, Direction.SENT, Direction.RECEIVED, Direction.SENT, Direction.SENT, Direction.RECEIVED)
    assert await listed(bench) == ["4", "3", "2", "1", "0"]
    assert await listed(bench, direction=RECEIVED) == ["4", "1"]
    assert await listed(bench, direction=SENT) == ["3", "2", "0"]
    assert await listed(bench, policy_domain="2.EXAMPLE.test") == ["2"]
    dmarc = await bench.run(methods.LIST_DMARC_REPORTS, reports.ListDmarcReportsRequest(), ADMIN)
    assert not dmarc.reports


async def test_a_report_has_its_rows_by_pages(bench: Bench) -> None:
    await keep(bench, Direction.RECEIVED)
    (report,) = (await bench.run(methods.LIST_TLS_REPORTS, v1.ListTlsReportsRequest(), ADMIN)).reports
    assert (report.direction, report.session_count, report.failed_count, report.address) == (
        RECEIVED,
        8,
        2,
        "tls@example.net",
    )
    request = v1.ListTlsReportRowsRequest(report_id=report.report_id, page_size=2)
    first = await bench.run(methods.LIST_TLS_REPORT_ROWS, request, ADMIN)
    assert first.report == report
    success, failure = first.rows
    assert (success.kind, success.result, success.failure.session_count) == (tls_pb2.TLS_POLICY_KIND_STS, "", 5)
    assert list(success.policy_lines) == ["mode: enforce"] and list(success.mx_patterns) == ["mx"]
    assert failure.result == "sts-policy-invalid"
    assert failure.failure == tls_pb2.TlsFailure(
        result=tls_pb2.TLS_RESULT_TYPE_STS_POLICY_INVALID,
        session_count=2,
        sending_address="192.0.2.1",
        receiving_host="mx.example.test",
        receiving_address="192.0.2.2",
        reason="no mode",
    )
    request.page_token = first.next_page_token
    second = await bench.run(methods.LIST_TLS_REPORT_ROWS, request, ADMIN)
    assert [row.kind for row in second.rows] == [tls_pb2.TLS_POLICY_KIND_NONE] and not second.next_page_token


@pytest.mark.parametrize(
    ("method", "request_", "error"),
    [
        (methods.LIST_TLS_REPORT_ROWS, v1.ListTlsReportRowsRequest(report_id=7), ReportNotFound),
        (methods.LIST_TLS_REPORTS, v1.ListTlsReportsRequest(direction=9), InvalidArgument),  # type: ignore[arg-type]
    ],
)
async def test_bad_requests_are_refused(
    bench: Bench, method: Method[Any, Any], request_: Any, error: type[RestanteError]
) -> None:
    with pytest.raises(error):
        await bench.run(method, request_, ADMIN)


@pytest.mark.parametrize(
    ("method", "request_", "error"),
    [
        (methods.LEASE_TLS_REPORTS, v1.LeaseTlsReportsRequest(), InvalidArgument),
        (methods.LEASE_TLS_REPORTS, v1.LeaseTlsReportsRequest(max_leases=101), InvalidArgument),
        (methods.READ_TLS_REPORT, v1.ReadTlsReportRequest(report_id=1, lease_id=1), LeaseLost),
        (methods.READ_TLS_REPORT, v1.ReadTlsReportRequest(offset_octets=-1), InvalidArgument),
        (methods.SETTLE_TLS_REPORT, v1.SettleTlsReportRequest(report_id=1, lease_id=1), LeaseLost),
        (methods.SETTLE_TLS_REPORT, v1.SettleTlsReportRequest(detail="x" * 501), InvalidArgument),
    ],
)
async def test_bad_requests_of_a_relay_are_refused(
    bench: Bench, method: Method[Any, Any], request_: Any, error: type[RestanteError]
) -> None:
    caller, _ = gateway("relay")
    with pytest.raises(error):
        await bench.run(method, request_, caller)


async def test_each_call_has_its_callers(bench: Bench) -> None:
    smtp, _ = gateway("smtp")
    for method, request, caller in (
        (methods.LIST_TLS_REPORTS, v1.ListTlsReportsRequest(), smtp),
        (methods.LEASE_TLS_REPORTS, v1.LeaseTlsReportsRequest(max_leases=1), smtp),
        (methods.READ_TLS_REPORT, v1.ReadTlsReportRequest(), ADMIN),
        (methods.SETTLE_TLS_REPORT, v1.SettleTlsReportRequest(), ADMIN),
    ):
        with pytest.raises(PermissionDenied):
            await bench.run(method, request, caller)
