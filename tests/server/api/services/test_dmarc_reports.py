"""AdminService: DMARC aggregate reports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from restante.errors import InvalidArgument, PermissionDenied, ReportNotFound, RestanteError
from restante.methods import Method
from restante.v1 import checks_pb2, methods
from restante.v1 import reports_pb2 as v1
from restante_mail.feedback.aggregate import AggregateReport, PublishedPolicy
from restante_server.db.operation import Write
from restante_server.transport.feedback import archive
from restante_server.transport.feedback.aggregate_reports import new_report
from restante_server.transport.feedback.archive import Direction
from tests.server.api.people import ADMIN, Bench, gateway
from tests.server.transport.feedback.rows import FULL, ROW

SENT, RECEIVED = v1.REPORT_DIRECTION_SENT, v1.REPORT_DIRECTION_RECEIVED
REPORT = AggregateReport(
    "Example",
    "postmaster@example.net",
    "1@example.net",
    1_764_374_400,
    1_764_460_799,
    PublishedPolicy("example.test", "quarantine", nonexistent_policy="reject", testing=True),
    ((ROW, 3), (FULL, 2)),
)


async def keep(bench: Bench, *directions: Direction) -> None:
    for number, direction in enumerate(directions):
        report = replace(REPORT, report_id=str(number), published=PublishedPolicy(f"{number}.example.test", "none"))
        new = new_report(report, "a@example.net")
        write = Write(lambda tx, new=new, to=direction: archive.keep(tx, to, new, 5))  # type: ignore[misc]
        await bench.core.db.write(write)


async def listed(bench: Bench, **filters: Any) -> list[str]:
    found, token = [], ""
    while True:
        request = v1.ListDmarcReportsRequest(page_size=2, page_token=token, **filters)
        answer = await bench.run(methods.LIST_DMARC_REPORTS, request, ADMIN)
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


async def test_a_report_has_its_policy_and_rows_by_pages(bench: Bench) -> None:
    await bench.core.db.write(
        Write(lambda tx: archive.keep(tx, Direction.RECEIVED, new_report(REPORT, "a@example.net"), 7))
    )
    (report,) = (await bench.run(methods.LIST_DMARC_REPORTS, v1.ListDmarcReportsRequest(), ADMIN)).reports
    assert (report.direction, report.organization, report.message_count, report.failed_count) == (
        RECEIVED,
        "Example",
        5,
        2,
    )
    request = v1.ListDmarcReportRowsRequest(report_id=report.report_id, page_size=1)
    first = await bench.run(methods.LIST_DMARC_REPORT_ROWS, request, ADMIN)
    assert first.report == report
    assert first.published == v1.DmarcPublishedPolicy(
        policy=checks_pb2.DMARC_POLICY_QUARANTINE, nonexistent_policy=checks_pb2.DMARC_POLICY_REJECT, testing=True
    )
    assert [(row.source_address, row.message_count, row.dkim_aligned) for row in first.rows] == [("192.0.2.1", 3, True)]
    request.page_token = first.next_page_token
    second = await bench.run(methods.LIST_DMARC_REPORT_ROWS, request, ADMIN)
    (row,) = second.rows
    assert not second.next_page_token
    assert row.override_reasons == ["local_policy: trusted"]
    assert list(row.dkim) == [
        checks_pb2.DkimCheck(
            result=checks_pb2.CHECK_RESULT_FAIL, domain="example.net", selector="s", problem="the body has changed"
        )
    ]
    assert row.spf == checks_pb2.SpfCheck(result=checks_pb2.CHECK_RESULT_SOFTFAIL, domain="example.net")


@pytest.mark.parametrize(
    ("method", "request_", "error"),
    [
        (methods.LIST_DMARC_REPORT_ROWS, v1.ListDmarcReportRowsRequest(report_id=7), ReportNotFound),
        (methods.LIST_DMARC_REPORTS, v1.ListDmarcReportsRequest(direction=9), InvalidArgument),  # type: ignore[arg-type]
    ],
)
async def test_bad_requests_are_refused(
    bench: Bench, method: Method[Any, Any], request_: Any, error: type[RestanteError]
) -> None:
    with pytest.raises(error):
        await bench.run(method, request_, ADMIN)


async def test_gateways_have_no_right_to_reports(bench: Bench) -> None:
    caller, _ = gateway("smtp")
    with pytest.raises(PermissionDenied):
        await bench.run(methods.LIST_DMARC_REPORTS, v1.ListDmarcReportsRequest(), caller)
