"""Counting accepted and refused mail for DMARC reports, and noting what a failure report may tell."""

from __future__ import annotations

from restante.v1.transport_pb2 import AcceptBegin
from restante_mail.authentication.results import Checks
from restante_server.api.engine.call import Call
from restante_server.transport.acceptance import domain_of
from restante_server.transport.feedback.counts import Request
from restante_server.transport.feedback.observe import Treatment, row_of
from restante_server.transport.inbound.intake import Arrived
from restante_server.transport.records import Envelope


def count_refused(call: Call, begin: AcceptBegin, envelope: Envelope, arrived: Arrived, checks: Checks) -> None:
    """Count a message that all recipients' domains have refused because of its checks."""
    _count(call, begin, envelope, arrived, checks, Treatment.REFUSED, "")


def count_accepted(call: Call, begin: AcceptBegin, envelope: Envelope, arrived: Arrived, checks: Checks) -> None:
    """Count an accepted message: quarantined if it went into Junk for one recipient at least."""
    treatment = Treatment.QUARANTINED if any(one.junk for one in envelope.recipients) else Treatment.NONE
    override = next((one.remark for one in envelope.recipients if one.remark), "")
    _count(call, begin, envelope, arrived, checks, treatment, override)


def _count(
    call: Call,
    begin: AcceptBegin,
    envelope: Envelope,
    arrived: Arrived,
    checks: Checks,
    treatment: Treatment,
    override: str,
) -> None:
    row = row_of(checks, begin.client_address, domain_of(envelope.reverse_path), treatment, override)
    dmarc = checks.dmarc
    if row is not None and dmarc is not None and call.core.settings.reports.send:
        request = Request(dmarc.record, dmarc.report_to)
        call.core.dmarc_tally.count(dmarc.policy_domain, request, row, call.now // 1_000_000)
    recipients = [one.forward_path for one in begin.recipients]  # refused ones are hidden in a report, too
    call.core.failures.note(
        begin.client_address, envelope.reverse_path, recipients, arrived.header, checks, treatment, call.now
    )
