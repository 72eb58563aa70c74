"""AdminService: reports of single failures of DMARC."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from restante.errors import InvalidArgument, PermissionDenied, ReportNotFound
from restante.v1 import failure_reports_pb2 as v1
from restante.v1 import methods
from restante.v1.reports_pb2 import REPORT_DIRECTION_RECEIVED, REPORT_DIRECTION_SENT
from restante_mail.feedback.failure import FailureReport
from restante_server.db.operation import Write
from restante_server.transport.feedback import archive
from restante_server.transport.feedback.archive import Direction
from restante_server.transport.feedback.failure_reports import new_report
from tests.server.api.people import ADMIN, Bench, gateway

REPORT = FailureReport(
    policy_domain="example.test",
    source_address="192.0.2.1",
    reverse_path="",
    authentication_results="mx.example.net; dmarc=fail",
    failed=("dkim", "spf"),
    delivery="reject",
    arrived_at=datetime(2029, 1, 1, 10, tzinfo=UTC),
    incidents=3,
    dkim_domain="example.test",
    dkim_identity="@example.test",
    dkim_selector="s",
    spf_domain="example.test",
    spf_record="v=spf1 -all",
    user_agent="Other",
    header=b"From: a@example.test\r\n",
)


async def keep(bench: Bench, *directions: Direction, report: FailureReport = REPORT) -> None:
    for number, direction in enumerate(directions):
        one = replace(report, policy_domain=f"{number}.example.test")
        new = new_report(one, "Example", "a@example.net", str(number))
        await bench.core.db.write(Write(lambda tx, new=new, to=direction: archive.keep(tx, to, new, 5)))  # type: ignore[misc]


async def listed(bench: Bench, **filters: Any) -> list[v1.FailureReport]:
    found, token = [], ""
    while True:
        request = v1.ListFailureReportsRequest(page_size=2, page_token=token, **filters)
        answer = await bench.run(methods.LIST_FAILURE_REPORTS, request, ADMIN)
        found += answer.reports
        token = answer.next_page_token
        if not token:
            return found


async def test_reports_are_listed_latest_first_and_filtered(bench: Bench) -> None:
    await keep(bench, Direction.SENT, Direction.RECEIVED, Direction.SENT)
    found = await listed(bench)
    assert [report.external_id for report in found] == ["2", "1", "0"]
    assert [report.external_id for report in await listed(bench, direction=REPORT_DIRECTION_RECEIVED)] == ["1"]
    assert [report.external_id for report in await listed(bench, policy_domain="0.EXAMPLE.test")] == ["0"]
    first = found[0]
    assert (first.direction, first.organization, first.policy_domain) == (
        REPORT_DIRECTION_SENT,
        "Example",
        "2.example.test",
    )
    assert (first.failure, first.source_address, first.incident_count) == ("dmarc", "192.0.2.1", 3)
    assert first.arrived_at.ToDatetime(UTC) == REPORT.arrived_at


async def test_a_report_has_all_that_it_says(bench: Bench) -> None:
    await keep(bench, Direction.RECEIVED)
    (report,) = await listed(bench)
    answer = await bench.run(methods.GET_FAILURE_REPORT, v1.GetFailureReportRequest(report_id=report.report_id), ADMIN)
    assert answer.report == report
    assert answer.details == v1.FailureReportDetails(
        reverse_path="",
        failed_mechanisms=["dkim", "spf"],
        delivery_result="reject",
        authentication_results="mx.example.net; dmarc=fail",
        dkim_domain="example.test",
        dkim_identity="@example.test",
        dkim_selector="s",
        spf_domain="example.test",
        spf_record="v=spf1 -all",
        user_agent="Other",
        header="From: a@example.test\r\n",
    )


async def test_what_a_report_does_not_say_is_absent(bench: Bench) -> None:
    await keep(bench, Direction.RECEIVED, report=FailureReport("x.test"))
    (report,) = await listed(bench)
    answer = await bench.run(methods.GET_FAILURE_REPORT, v1.GetFailureReportRequest(report_id=report.report_id), ADMIN)
    assert not answer.report.HasField("arrived_at") and not answer.details.HasField("reverse_path")
    assert answer.report.incident_count == 1


async def test_unknown_reports_and_directions_are_refused(bench: Bench) -> None:
    with pytest.raises(ReportNotFound):
        await bench.run(methods.GET_FAILURE_REPORT, v1.GetFailureReportRequest(report_id=7), ADMIN)
    with pytest.raises(InvalidArgument):
        await listed(bench, direction=9)


async def test_gateways_have_no_right_to_reports(bench: Bench) -> None:
    caller, _ = gateway("smtp")
    with pytest.raises(PermissionDenied):
        await bench.run(methods.LIST_FAILURE_REPORTS, v1.ListFailureReportsRequest(), caller)
