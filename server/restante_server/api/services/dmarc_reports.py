"""AdminService: DMARC aggregate reports."""

from __future__ import annotations

from sqlalchemy import Connection

from restante.errors import InvalidArgument, ReportNotFound
from restante.v1 import checks_pb2, methods
from restante.v1 import reports_pb2 as v1
from restante_mail.feedback import aggregate_xml
from restante_mail.feedback.aggregate import PublishedPolicy, Row
from restante_server.api.engine.access import administrators
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.services import convert, pages
from restante_server.directory import addresses
from restante_server.transport.feedback import archive
from restante_server.transport.feedback.archive import Direction, Kept, Kind

handlers = Handlers()

_POLICIES = {
    "": checks_pb2.DMARC_POLICY_UNSPECIFIED,
    "none": checks_pb2.DMARC_POLICY_NONE,
    "quarantine": checks_pb2.DMARC_POLICY_QUARANTINE,
    "reject": checks_pb2.DMARC_POLICY_REJECT,
}


@handlers.read(methods.LIST_DMARC_REPORTS, rule=administrators)
def list_dmarc_reports(tx: Connection, call: Call, request: v1.ListDmarcReportsRequest) -> v1.ListDmarcReportsResponse:
    """See AdminService.ListDmarcReports."""
    domain = addresses.ascii_domain(request.policy_domain) if request.policy_domain else ""
    direction = direction_of(request.direction)
    page = pages.Page.asked(f"dmarc reports {request.direction} {domain}", request, call.result_octets)
    (number,) = page.key
    found = archive.page(
        tx, Kind.DMARC_AGGREGATE, direction, domain, pages.number(number) if number else None, page.most
    )
    answer = v1.ListDmarcReportsResponse()
    return page.fill(answer, answer.reports, found, _report, lambda last: (str(last.report_id),))


@handlers.read(methods.LIST_DMARC_REPORT_ROWS, rule=administrators, slow=True)
def list_dmarc_report_rows(
    tx: Connection, call: Call, request: v1.ListDmarcReportRowsRequest
) -> v1.ListDmarcReportRowsResponse:
    """See AdminService.ListDmarcReportRows."""
    page = pages.Page.asked(f"dmarc report {request.report_id}", request, call.result_octets)
    (number,) = page.key
    first = pages.number(number) if number else 0
    found = archive.get(tx, Kind.DMARC_AGGREGATE, request.report_id)
    if found is None:
        raise ReportNotFound(report_id=request.report_id)
    kept, report = found[0], aggregate_xml.read(found[1])
    rows = list(enumerate(report.rows[first : first + page.most], first + 1))
    answer = v1.ListDmarcReportRowsResponse(report=_report(kept), published=_published(report.published))
    return page.fill(answer, answer.rows, rows, lambda one: _row(*one[1]), lambda one: (str(one[0]),))


def direction_of(value: int) -> Direction | None:
    """The direction in a request; None: both. Raises InvalidArgument."""
    if not value:
        return None
    try:
        return Direction(value)
    except ValueError:
        raise InvalidArgument(field="direction", problem="must be a known value") from None


def _report(kept: Kept) -> v1.DmarcReport:
    return v1.DmarcReport(
        report_id=kept.report_id,
        direction=v1.ReportDirection.ValueType(int(kept.direction)),
        organization=kept.organization,
        external_id=kept.external_id,
        policy_domain=kept.policy_domain,
        begins_at=convert.timestamp(kept.begin_at),
        ends_at=convert.timestamp(kept.end_at),
        message_count=kept.total_count,
        failed_count=kept.failed_count,
        address=kept.address,
        created_at=convert.timestamp(kept.created_at),
    )


def _published(policy: PublishedPolicy) -> v1.DmarcPublishedPolicy:
    return v1.DmarcPublishedPolicy(
        policy=_POLICIES[policy.policy],
        subdomain_policy=_POLICIES[policy.subdomain_policy],
        nonexistent_policy=_POLICIES[policy.nonexistent_policy],
        testing=policy.testing,
    )


def _row(row: Row, count: int) -> v1.DmarcReportRow:
    made = v1.DmarcReportRow(
        source_address=row.source_address,
        message_count=count,
        disposition=row.disposition,
        dkim_aligned=row.dkim_aligned,
        spf_aligned=row.spf_aligned,
        header_from=row.header_from,
        envelope_from=row.envelope_from,
        envelope_to=row.envelope_to,
        override_reasons=[f"{one.kind}: {one.comment}" if one.comment else one.kind for one in row.overrides],
        dkim=[
            checks_pb2.DkimCheck(
                result=_result(one.result), domain=one.domain, selector=one.selector, problem=one.explanation
            )
            for one in row.dkim
        ],
    )
    if row.spf is not None:
        made.spf.CopyFrom(
            checks_pb2.SpfCheck(result=_result(row.spf.result), domain=row.spf.domain, problem=row.spf.explanation)
        )
    return made


def _result(keyword: str) -> checks_pb2.CheckResult.ValueType:
    """The result with this keyword (RFC 8601 2.7); UNSPECIFIED for another word."""
    known = checks_pb2.CheckResult.DESCRIPTOR.values_by_name.get(f"CHECK_RESULT_{keyword.upper()}")
    return checks_pb2.CheckResult.ValueType(known.number if known is not None else 0)
