"""`restante admin reports failures`: reports of single failures of DMARC."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import click

from restante.calls import Calls
from restante.v1 import methods
from restante.v1.failure_reports_pb2 import (
    FailureReport,
    FailureReportDetails,
    GetFailureReportRequest,
    ListFailureReportsRequest,
)
from restante.v1.reports_pb2 import ReportDirection
from restante_cli.admin.context import Admin
from restante_cli.failures import run
from restante_cli.output import cell, one_line, output_option, print_json, say, show

COLUMNS = ("id", "direction", "policy_domain", "failure", "source", "incidents", "arrived_at", "address")


@click.command()
@click.option("--domain", default="", metavar="DOMAIN", help="List only reports about this domain.")
@click.option("--direction", type=click.Choice(["sent", "received"]), help="List only these.")
@output_option
@click.pass_obj
def failures(admin: Admin, domain: str, direction: str | None, form: str) -> None:
    """List the reports of single failures of DMARC that were sent and received, the latest first."""
    request = ListFailureReportsRequest(policy_domain=domain, page_size=200)
    if direction is not None:
        request.direction = ReportDirection.Value(f"REPORT_DIRECTION_{direction.upper()}")
    run(_list(admin, request, form))


async def _list(admin: Admin, request: ListFailureReportsRequest, form: str) -> None:
    async with admin.calls() as calls:
        pages = calls.pages(methods.LIST_FAILURE_REPORTS, request)
        rows = [_report(each) async for page in pages for each in page.reports]
    show(form, COLUMNS, rows, right=("id", "incidents"))


async def show_failure(calls: Calls, report_id: int, form: str) -> None:
    """Show a report of a failure. Raises ReportNotFound."""
    found = await calls.execute(methods.GET_FAILURE_REPORT, GetFailureReportRequest(report_id=report_id))
    report, details = _report(found.report), _details(found.details)
    if form == "json":
        print_json({**report, **details})
        return
    say(f"Report {report['id']} ({report['direction']}, {cell(report['address'])}) about {report['policy_domain']}")
    say(f"Failure: {report['failure']}, {report['incidents']} messages, the latest {cell(report['arrived_at'])}")
    for name, label in LABELS:
        if value := report.get(name) or details.get(name):
            say(f"{label}: {one_line(cell(value))}")
    for line in details["header"].splitlines():
        say(f"  {line}")


LABELS = (
    ("source", "Client"),
    ("reverse_path", "Reverse-path"),
    ("failed_mechanisms", "Not aligned"),
    ("delivery_result", "Delivery"),
    ("authentication_results", "Results"),
    ("dkim_domain", "DKIM domain"),
    ("dkim_identity", "DKIM identity"),
    ("dkim_selector", "DKIM selector"),
    ("spf_domain", "SPF domain"),
    ("spf_record", "SPF record"),
    ("user_agent", "Written by"),
)


def _report(report: FailureReport) -> dict[str, Any]:
    return {
        "id": report.report_id,
        "direction": ReportDirection.Name(report.direction).removeprefix("REPORT_DIRECTION_").lower(),
        "organization": report.organization,
        "external_id": report.external_id,
        "policy_domain": report.policy_domain,
        "failure": report.failure,
        "source": report.source_address,
        "incidents": report.incident_count,
        "address": report.address,
        "arrived_at": report.arrived_at.ToDatetime(UTC) if report.HasField("arrived_at") else None,
        "created_at": report.created_at.ToDatetime(UTC),
    }


def _details(details: FailureReportDetails) -> dict[str, Any]:
    return {
        "reverse_path": details.reverse_path if details.HasField("reverse_path") else None,
        "failed_mechanisms": list(details.failed_mechanisms),
        "delivery_result": details.delivery_result,
        "authentication_results": details.authentication_results,
        "dkim_domain": details.dkim_domain,
        "dkim_identity": details.dkim_identity,
        "dkim_selector": details.dkim_selector,
        "spf_domain": details.spf_domain,
        "spf_record": details.spf_record,
        "user_agent": details.user_agent,
        "header": details.header,
    }
