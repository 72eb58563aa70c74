"""AdminService: reports of single failures of DMARC."""

from __future__ import annotations

from sqlalchemy import Connection

from restante.errors import ReportNotFound
from restante.v1 import failure_reports_pb2 as v1
from restante.v1 import methods, reports_pb2
from restante_mail.feedback.failure import FailureReport
from restante_server.api.engine.access import administrators
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.services import convert, pages
from restante_server.api.services.dmarc_reports import direction_of
from restante_server.directory import addresses
from restante_server.transport.feedback import archive
from restante_server.transport.feedback.archive import Kept, Kind
from restante_server.transport.feedback.failure_reports import parsed

handlers = Handlers()


@handlers.read(methods.LIST_FAILURE_REPORTS, rule=administrators, slow=True)
def list_failure_reports(
    tx: Connection, call: Call, request: v1.ListFailureReportsRequest
) -> v1.ListFailureReportsResponse:
    """See AdminService.ListFailureReports."""
    domain = addresses.ascii_domain(request.policy_domain) if request.policy_domain else ""
    direction = direction_of(request.direction)
    page = pages.Page.asked(f"failure reports {request.direction} {domain}", request, call.result_octets)
    (number,) = page.key
    before = pages.number(number) if number else None
    found = archive.page(tx, Kind.DMARC_FAILURE, direction, domain, before, page.most)
    documents = archive.documents(tx, [kept.report_id for kept in found])
    answer = v1.ListFailureReportsResponse()
    return page.fill(
        answer,
        answer.reports,
        found,
        lambda kept: _report(kept, parsed(documents[kept.report_id])),
        lambda last: (str(last.report_id),),
    )


@handlers.read(methods.GET_FAILURE_REPORT, rule=administrators)
def get_failure_report(tx: Connection, call: Call, request: v1.GetFailureReportRequest) -> v1.GetFailureReportResponse:
    """See AdminService.GetFailureReport."""
    found = archive.get(tx, Kind.DMARC_FAILURE, request.report_id)
    if found is None:
        raise ReportNotFound(report_id=request.report_id)
    kept, octets = found
    report = parsed(octets)
    return v1.GetFailureReportResponse(report=_report(kept, report), details=_details(report))


def _report(kept: Kept, report: FailureReport) -> v1.FailureReport:
    return v1.FailureReport(
        report_id=kept.report_id,
        direction=reports_pb2.ReportDirection.ValueType(int(kept.direction)),
        organization=kept.organization,
        external_id=kept.external_id,
        policy_domain=kept.policy_domain,
        failure=report.failure,
        source_address=report.source_address,
        incident_count=report.incidents,
        address=kept.address,
        arrived_at=convert.timestamp(kept.begin_at) if kept.begin_at else None,
        created_at=convert.timestamp(kept.created_at),
    )


def _details(report: FailureReport) -> v1.FailureReportDetails:
    return v1.FailureReportDetails(
        reverse_path=report.reverse_path,
        failed_mechanisms=report.failed,
        delivery_result=report.delivery,
        authentication_results=report.authentication_results,
        dkim_domain=report.dkim_domain,
        dkim_identity=report.dkim_identity,
        dkim_selector=report.dkim_selector,
        spf_domain=report.spf_domain,
        spf_record=report.spf_record,
        user_agent=report.user_agent,
        header=report.header.decode("ascii", "replace"),
    )
