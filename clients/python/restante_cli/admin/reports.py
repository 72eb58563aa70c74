"""`restante admin reports`: reports between mail servers."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import click

from restante.calls import Calls
from restante.errors import ReportNotFound
from restante.v1 import methods
from restante.v1.checks_pb2 import CheckResult, DmarcPolicy
from restante.v1.reports_pb2 import (
    DmarcReport,
    DmarcReportRow,
    ListDmarcReportRowsRequest,
    ListDmarcReportRowsResponse,
    ListDmarcReportsRequest,
    ReportDirection,
)
from restante_cli.admin import failure_reports, tls_reports
from restante_cli.admin.context import Admin
from restante_cli.failures import run
from restante_cli.groups import Group
from restante_cli.mail.context import Number
from restante_cli.output import cell, output_option, print_json, say, show

REPORT = Number("report number", "restante admin reports dmarc")
COLUMNS = ("id", "direction", "organization", "policy_domain", "begins_at", "messages", "failed", "address")
ROW_COLUMNS = ("source", "messages", "disposition", "dkim", "spf", "header_from", "envelope_from", "reasons")


@click.group(cls=Group)
def reports() -> None:
    """Reports between mail servers: about mail in a domain's name (DMARC), and about TLS."""


reports.add_command(failure_reports.failures)


@reports.command()
@click.option("--domain", default="", metavar="DOMAIN", help="List only reports about this domain.")
@click.option("--direction", type=click.Choice(["sent", "received"]), help="List only these.")
@output_option
@click.pass_obj
def dmarc(admin: Admin, domain: str, direction: str | None, form: str) -> None:
    """List the DMARC aggregate reports that were sent and received, the latest first."""
    request = ListDmarcReportsRequest(policy_domain=domain, page_size=200)
    if direction is not None:
        request.direction = ReportDirection.Value(f"REPORT_DIRECTION_{direction.upper()}")
    run(_list(admin, request, form))


async def _list(admin: Admin, request: ListDmarcReportsRequest, form: str) -> None:
    async with admin.calls() as calls:
        pages = calls.pages(methods.LIST_DMARC_REPORTS, request)
        rows = [_report(each) async for page in pages for each in page.reports]
    show(form, COLUMNS, rows, right=("id", "messages", "failed"))


reports.add_command(tls_reports.tls)
reports.add_command(tls_reports.tls_sessions)


@reports.command("show")
@click.argument("report_id", metavar="ID", type=REPORT)
@output_option
@click.pass_obj
def show_report(admin: Admin, report_id: int, form: str) -> None:
    """Show a report with its rows. ID is its number in `dmarc`, `tls` or `failures`."""
    run(_show(admin, report_id, form))


async def _show(admin: Admin, report_id: int, form: str) -> None:
    async with admin.calls() as calls:
        for shown in SHOWN[:-1]:
            try:
                return await shown(calls, report_id, form)
            except ReportNotFound:
                continue
        await SHOWN[-1](calls, report_id, form)


async def _show_dmarc(calls: Calls, report_id: int, form: str) -> None:
    rows: list[dict[str, Any]] = []
    page = ListDmarcReportRowsResponse()
    request = ListDmarcReportRowsRequest(report_id=report_id, page_size=1_000)
    async for page in calls.pages(methods.LIST_DMARC_REPORT_ROWS, request):
        rows += map(_row, page.rows)
    report, published = _report(page.report), page.published
    policies = {
        "policy": _policy(published.policy),
        "subdomain_policy": _policy(published.subdomain_policy),
        "nonexistent_policy": _policy(published.nonexistent_policy),
        "testing": published.testing,
    }
    if form == "json":
        print_json({**report, "published": policies, "rows": rows})
        return
    say(
        f"Report {report['id']} of {report['organization']} about {report['policy_domain']}, "
        f"{cell(report['begins_at'])} to {cell(report['ends_at'])}"
    )
    say(f"Policy: {policies['policy']}" + (", testing" if published.testing else ""))
    say(f"Messages: {report['messages']}, of which {report['failed']} passed neither DKIM nor SPF aligned")
    show(form, ROW_COLUMNS, rows, right=("messages",))


def _report(report: DmarcReport) -> dict[str, Any]:
    return {
        "id": report.report_id,
        "direction": ReportDirection.Name(report.direction).removeprefix("REPORT_DIRECTION_").lower(),
        "organization": report.organization,
        "external_id": report.external_id,
        "policy_domain": report.policy_domain,
        "begins_at": report.begins_at.ToDatetime(UTC),
        "ends_at": report.ends_at.ToDatetime(UTC),
        "messages": report.message_count,
        "failed": report.failed_count,
        "address": report.address,
        "created_at": report.created_at.ToDatetime(UTC),
    }


def _row(row: DmarcReportRow) -> dict[str, Any]:
    signatures = [f"{_result(one.result)} {one.domain}" for one in row.dkim]
    return {
        "source": row.source_address,
        "messages": row.message_count,
        "disposition": row.disposition,
        "dkim_aligned": row.dkim_aligned,
        "spf_aligned": row.spf_aligned,
        "dkim": ("aligned" if row.dkim_aligned else "not aligned") + "".join(f"; {one}" for one in signatures),
        "spf": ("aligned" if row.spf_aligned else "not aligned")
        + (f"; {_result(row.spf.result)} {row.spf.domain}" if row.HasField("spf") else ""),
        "header_from": row.header_from,
        "envelope_from": row.envelope_from,
        "envelope_to": row.envelope_to,
        "reasons": list(row.override_reasons),
    }


def _policy(value: DmarcPolicy.ValueType) -> str:
    return DmarcPolicy.Name(value).removeprefix("DMARC_POLICY_").lower() if value else ""


def _result(value: CheckResult.ValueType) -> str:
    return CheckResult.Name(value).removeprefix("CHECK_RESULT_").lower() if value else "unknown"


SHOWN = (_show_dmarc, tls_reports.show_tls, failure_reports.show_failure)
"""Each shows the report of its kind, or raises ReportNotFound: a number is of one report of any kind."""
