"""`restante admin reports tls`: TLS reports, and the counted sessions from which they are made (RFC 8460)."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import click

from restante.calls import Calls
from restante.v1 import methods
from restante.v1.reports_pb2 import ReportDirection
from restante.v1.tls_pb2 import ListTlsSessionsRequest, TlsPolicyKind, TlsResultType, TlsSessionCount
from restante.v1.tls_reports_pb2 import (
    ListTlsReportRowsRequest,
    ListTlsReportRowsResponse,
    ListTlsReportsRequest,
    TlsReport,
    TlsReportDelivery,
    TlsReportDeliveryState,
    TlsReportRow,
)
from restante_cli.admin.context import Admin
from restante_cli.failures import run
from restante_cli.output import cell, output_option, print_json, say, show

COLUMNS = ("id", "direction", "organization", "policy_domain", "begins_at", "sessions", "failed", "address", "web")
DELIVERY_COLUMNS = ("url", "state", "attempts", "outcome", "next_attempt_at", "finished_at")
ROW_COLUMNS = ("domain", "policy", "result", "sessions", "host", "reason")
SESSION_COLUMNS = ("day", "domain", "policy", "result", "sessions", "host", "reason", "reported_at")
POLICIES = {
    TlsPolicyKind.TLS_POLICY_KIND_NONE: "none",
    TlsPolicyKind.TLS_POLICY_KIND_STS: "MTA-STS",
    TlsPolicyKind.TLS_POLICY_KIND_TLSA: "DANE",
}
RESULTS = {
    number: name.removeprefix("TLS_RESULT_TYPE_").lower().replace("_", "-") if number else "success"
    for name, number in TlsResultType.items()
}


@click.command()
@click.option("--domain", default="", metavar="DOMAIN", help="List only reports about this domain.")
@click.option("--direction", type=click.Choice(["sent", "received"]), help="List only these.")
@output_option
@click.pass_obj
def tls(admin: Admin, domain: str, direction: str | None, form: str) -> None:
    """List the TLS reports that were sent and received, the latest first, with their deliveries to web servers."""
    request = ListTlsReportsRequest(policy_domain=domain, page_size=200)
    if direction is not None:
        request.direction = ReportDirection.Value(f"REPORT_DIRECTION_{direction.upper()}")
    run(_list(admin, request, form))


async def _list(admin: Admin, request: ListTlsReportsRequest, form: str) -> None:
    async with admin.calls() as calls:
        pages = calls.pages(methods.LIST_TLS_REPORTS, request)
        rows = [_report(each) async for page in pages for each in page.reports]
    show(form, COLUMNS, rows, right=("id", "sessions", "failed"))


@click.command("tls-sessions")
@click.option("--domain", default="", metavar="DOMAIN", help="List only sessions for recipients of this domain.")
@click.option("--failures", is_flag=True, help="List only sessions that did not meet the domain's policy.")
@output_option
@click.pass_obj
def tls_sessions(admin: Admin, domain: str, failures: bool, form: str) -> None:
    """List the counted TLS sessions with other servers by day, policy and result, the latest day first."""
    run(_sessions(admin, ListTlsSessionsRequest(policy_domain=domain, failures_only=failures, page_size=500), form))


async def _sessions(admin: Admin, request: ListTlsSessionsRequest, form: str) -> None:
    async with admin.calls() as calls:
        rows = [_count(each) async for page in calls.pages(methods.LIST_TLS_SESSIONS, request) for each in page.counts]
    show(form, SESSION_COLUMNS, rows, right=("sessions",))


async def show_tls(calls: Calls, report_id: int, form: str) -> None:
    """Show a TLS report with its rows and deliveries. Raises ReportNotFound."""
    rows: list[dict[str, Any]] = []
    page = ListTlsReportRowsResponse()
    request = ListTlsReportRowsRequest(report_id=report_id, page_size=1_000)
    async for page in calls.pages(methods.LIST_TLS_REPORT_ROWS, request):
        rows += map(_row, page.rows)
    report = _report(page.report)
    if form == "json":
        print_json({**report, "rows": rows})
        return
    say(
        f"Report {report['id']} of {report['organization']} about {report['policy_domain']}, "
        f"{cell(report['begins_at'])} to {cell(report['ends_at'])}"
    )
    say(f"Sessions: {report['sessions']}, of which {report['failed']} did not meet the policy")
    show(form, ROW_COLUMNS, rows, right=("sessions",))
    if report["deliveries"]:
        say("\nWeb servers that get it:\n")
        show(form, DELIVERY_COLUMNS, report["deliveries"], right=("attempts",))


def _report(report: TlsReport) -> dict[str, Any]:
    deliveries = list(map(_delivery, report.deliveries))
    return {
        "id": report.report_id,
        "direction": ReportDirection.Name(report.direction).removeprefix("REPORT_DIRECTION_").lower(),
        "organization": report.organization,
        "external_id": report.external_id,
        "policy_domain": report.policy_domain,
        "begins_at": report.begins_at.ToDatetime(UTC),
        "ends_at": report.ends_at.ToDatetime(UTC),
        "sessions": report.session_count,
        "failed": report.failed_count,
        "address": report.address,
        "web": "; ".join(_in_short(one) for one in deliveries),
        "created_at": report.created_at.ToDatetime(UTC),
        "deliveries": deliveries,
    }


def _delivery(delivery: TlsReportDelivery) -> dict[str, Any]:
    state = TlsReportDeliveryState.Name(delivery.state).removeprefix("TLS_REPORT_DELIVERY_STATE_").lower()
    return {
        "url": delivery.url,
        "state": state,
        "attempts": delivery.attempt_count,
        "outcome": delivery.detail,
        **{
            name: getattr(delivery, name).ToDatetime(UTC) if delivery.HasField(name) else None
            for name in ("next_attempt_at", "finished_at")
        },
    }


def _in_short(delivery: dict[str, Any]) -> str:
    return f"{delivery['state']}: {delivery['outcome']}" if delivery["outcome"] else str(delivery["state"])


def _row(row: TlsReportRow) -> dict[str, Any]:
    return {
        "domain": row.policy_domain,
        "policy": POLICIES.get(row.kind, "other"),
        "policy_lines": list(row.policy_lines),
        "mx_patterns": list(row.mx_patterns),
        "result": row.result or "success",
        "sessions": row.failure.session_count,
        "host": row.failure.receiving_host,
        "host_address": row.failure.receiving_address,
        "relay_address": row.failure.sending_address,
        "reason": row.failure.reason,
    }


def _count(count: TlsSessionCount) -> dict[str, Any]:
    failure = count.failure
    return {
        "day": count.day.ToDatetime(UTC).date().isoformat(),
        "domain": count.policy_domain,
        "policy": POLICIES.get(count.kind, "unknown"),
        "policy_lines": list(count.policy_lines),
        "result": RESULTS.get(failure.result, "unknown"),
        "sessions": failure.session_count,
        "host": failure.receiving_host,
        "host_address": failure.receiving_address,
        "relay_address": failure.sending_address,
        "reason": failure.reason,
        "reported_at": count.reported_at.ToDatetime(UTC) if count.HasField("reported_at") else None,
    }
