"""TLS reports: AdminService lists those that were sent and received, TransportService delivers them to web servers."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection

from restante.errors import InvalidArgument, ReportNotFound
from restante.v1 import methods, tls_pb2
from restante.v1 import tls_reports_pb2 as v1
from restante.v1.reports_pb2 import ReportDirection
from restante_mail.feedback import tls_json
from restante_mail.feedback.tls_json import TlsFailures, TlsPolicyCounts
from restante_server.api.engine import access
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.services import convert, pages
from restante_server.db.clock import now_microseconds
from restante_server.directory import addresses
from restante_server.transport.feedback import archive, deliveries
from restante_server.transport.feedback.archive import Direction, Kept, Kind
from restante_server.transport.feedback.deliveries import Delivery
from restante_server.transport.outbound.dsn import clean
from restante_server.transport.tls.sessions import POLICY_KINDS, RESULTS

handlers = Handlers()

RELAY = access.identities("relay")
MAX_LEASES = 100
MAX_DETAIL_CHARACTERS = 500

_KINDS = {kind.value: tls_pb2.TlsPolicyKind.ValueType(number) for number, kind in POLICY_KINDS.items()}
_RESULTS = {
    result.value: tls_pb2.TlsResultType.ValueType(number) for number, result in RESULTS.items() if result is not None
}


@handlers.read(methods.LIST_TLS_REPORTS, rule=access.administrators)
def list_tls_reports(tx: Connection, call: Call, request: v1.ListTlsReportsRequest) -> v1.ListTlsReportsResponse:
    """See AdminService.ListTlsReports."""
    domain = addresses.ascii_domain(request.policy_domain) if request.policy_domain else ""
    direction = _direction(request.direction)
    page = pages.Page.asked(f"tls reports {request.direction} {domain}", request, call.result_octets)
    (number,) = page.key
    found = archive.page(tx, Kind.TLS, direction, domain, pages.number(number) if number else None, page.most)
    sent = deliveries.of_reports(tx, [kept.report_id for kept in found])
    answer = v1.ListTlsReportsResponse()
    return page.fill(
        answer,
        answer.reports,
        found,
        lambda kept: _report(kept, sent.get(kept.report_id, [])),
        lambda last: (str(last.report_id),),
    )


@handlers.read(methods.LIST_TLS_REPORT_ROWS, rule=access.administrators, slow=True)
def list_tls_report_rows(
    tx: Connection, call: Call, request: v1.ListTlsReportRowsRequest
) -> v1.ListTlsReportRowsResponse:
    """See AdminService.ListTlsReportRows."""
    page = pages.Page.asked(f"tls report {request.report_id}", request, call.result_octets)
    (number,) = page.key
    first = pages.number(number) if number else 0
    found = archive.get(tx, Kind.TLS, request.report_id)
    if found is None:
        raise ReportNotFound(report_id=request.report_id)
    kept, document = found
    rows = list(enumerate(_counts(tls_json.read(document).policies), 1))[first : first + page.most]
    sent = deliveries.of_reports(tx, [kept.report_id]).get(kept.report_id, [])
    answer = v1.ListTlsReportRowsResponse(report=_report(kept, sent))
    return page.fill(answer, answer.rows, rows, lambda one: _row(*one[1]), lambda one: (str(one[0]),))


@handlers.write(methods.LEASE_TLS_REPORTS, rule=RELAY)
def lease_tls_reports(tx: Connection, call: Call, request: v1.LeaseTlsReportsRequest) -> v1.LeaseTlsReportsResponse:
    """See TransportService.LeaseTlsReports."""
    if not 0 < request.max_leases <= MAX_LEASES:
        raise InvalidArgument(field="max_leases", problem=f"must be 1 to {MAX_LEASES}")
    leases = deliveries.lease(tx, now_microseconds(tx), request.max_leases)
    return v1.LeaseTlsReportsResponse(
        leases=[
            v1.TlsReportLease(
                report_id=one.report_id,
                lease_id=one.lease_id,
                url=one.url,
                policy_domain=one.policy_domain,
                size_octets=one.size_octets,
            )
            for one in leases
        ]
    )


@handlers.read(methods.READ_TLS_REPORT, rule=RELAY)
def read_tls_report(tx: Connection, call: Call, request: v1.ReadTlsReportRequest) -> v1.ReadTlsReportResponse:
    """See TransportService.ReadTlsReport."""
    if request.offset_octets < 0:
        raise InvalidArgument(field="offset_octets", problem="must not be negative")
    piece = deliveries.piece(tx, request.report_id, request.lease_id, request.offset_octets)
    return v1.ReadTlsReportResponse(piece=piece)


@handlers.write(methods.SETTLE_TLS_REPORT, rule=RELAY)
def settle_tls_report(tx: Connection, call: Call, request: v1.SettleTlsReportRequest) -> v1.SettleTlsReportResponse:
    """See TransportService.SettleTlsReport."""
    if len(request.detail) > MAX_DETAIL_CHARACTERS:
        raise InvalidArgument(field="detail", problem=f"must be at most {MAX_DETAIL_CHARACTERS} characters")
    detail = clean(request.detail)
    deliveries.settle(tx, request.report_id, request.lease_id, request.delivered, detail, now_microseconds(tx))
    return v1.SettleTlsReportResponse()


def _direction(value: int) -> Direction | None:
    if not value:
        return None
    try:
        return Direction(value)
    except ValueError:
        raise InvalidArgument(field="direction", problem="must be a known value") from None


def _report(kept: Kept, sent: list[Delivery]) -> v1.TlsReport:
    return v1.TlsReport(
        report_id=kept.report_id,
        direction=ReportDirection.ValueType(int(kept.direction)),
        organization=kept.organization,
        external_id=kept.external_id,
        policy_domain=kept.policy_domain,
        begins_at=convert.timestamp(kept.begin_at),
        ends_at=convert.timestamp(kept.end_at),
        session_count=kept.total_count,
        failed_count=kept.failed_count,
        address=kept.address,
        created_at=convert.timestamp(kept.created_at),
        deliveries=map(_delivery, sent),
    )


def _delivery(delivery: Delivery) -> v1.TlsReportDelivery:
    made = v1.TlsReportDelivery(
        url=delivery.url,
        state=v1.TlsReportDeliveryState.ValueType(delivery.state),
        attempt_count=delivery.attempt_count,
        detail=delivery.detail,
    )
    if delivery.next_attempt_at is not None:
        made.next_attempt_at.CopyFrom(convert.timestamp(delivery.next_attempt_at))
    if delivery.finished_at is not None:
        made.finished_at.CopyFrom(convert.timestamp(delivery.finished_at))
    return made


def _counts(policies: tuple[TlsPolicyCounts, ...]) -> Iterator[tuple[TlsPolicyCounts, TlsFailures | None]]:
    """Of each policy its successes (None), and then its failures."""
    for policy in policies:
        yield policy, None
        for failure in policy.failures:
            yield policy, failure


def _row(policy: TlsPolicyCounts, failure: TlsFailures | None) -> v1.TlsReportRow:
    row = v1.TlsReportRow(
        policy_domain=policy.domain,
        kind=_KINDS.get(policy.kind, tls_pb2.TLS_POLICY_KIND_UNSPECIFIED),
        policy_lines=policy.lines,
        mx_patterns=policy.patterns,
    )
    if failure is None:
        row.failure.session_count = policy.successful_count
        return row
    row.result = failure.result
    row.failure.CopyFrom(
        tls_pb2.TlsFailure(
            result=_RESULTS.get(failure.result, tls_pb2.TLS_RESULT_TYPE_UNSPECIFIED),
            sending_address=failure.sending_address,
            receiving_host=failure.receiving_host,
            receiving_address=failure.receiving_address,
            reason=failure.reason,
            session_count=failure.session_count,
        )
    )
    return row
