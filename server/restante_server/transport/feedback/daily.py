"""The daily DMARC aggregate report of one domain (RFC 9990 3.4, 3.5).

Counts that come after a report make a further report of the same day with an id of its own.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection

from restante_mail.authentication.dmarc.record import parse_record
from restante_mail.feedback import attachments
from restante_mail.feedback.aggregate import AggregateReport, PublishedPolicy, Row
from restante_mail.mime.compose import Attached
from restante_server.transport.feedback import aggregate_reports, counts
from restante_server.transport.feedback.counts import DAY_SECONDS, Request, Subject
from restante_server.transport.feedback.outgoing import Finished, Letter, Reporter

MAX_ADDRESSES = 10  # of one report
GENERATOR = "Restante"

Counts = tuple[Request, tuple[tuple[Row, int], ...]] | None


class DailyAggregate:
    """DMARC aggregate reports as a kind of daily report (`outgoing.Kind`)."""

    rows = counts.MAX_ROWS // 4

    def due(self, tx: Connection, before_day: int, most: int) -> Sequence[Subject]:
        """Subjects of earlier days."""
        return counts.due(tx, before_day, most)

    def load(self, tx: Connection, subject: Subject) -> Counts:
        """The request and the rows; None if another core has sent the report."""
        return counts.load(tx, subject)

    def claim(self, tx: Connection, subject: Subject, reported_at: int | None) -> bool:
        """Remove the counts."""
        return counts.remove(tx, subject)

    def finish(self, reporter: Reporter, subject: Subject, found: Counts, now: datetime) -> Finished | None:
        """The report; None without rows or recipients."""
        request, rows = found or (None, ())
        if request is None or not rows or not request.addresses:
            return None
        report = AggregateReport(
            organization=reporter.organization,
            email=reporter.address,
            report_id=reporter.new_id(),
            begin=subject.day * DAY_SECONDS,
            end=(subject.day + 1) * DAY_SECONDS - 1,
            published=_published(subject.policy_domain, request.record),
            rows=rows,
            generator=GENERATOR,
        )
        addresses = request.addresses[:MAX_ADDRESSES]
        kept = aggregate_reports.new_report(report, ", ".join(addresses))
        message_id = f"{secrets.token_hex(16)}@{reporter.domain}"
        octets = _letter(reporter, report, addresses, kept.document).written(message_id, now)
        source = f"DMARC report for {subject.policy_domain}"
        return Finished(kept, addresses, octets, f"<{message_id}>", source)


def _published(policy_domain: str, text: str) -> PublishedPolicy:
    """The policy record, with the defaults of absent tags (RFC 9989 4.7)."""
    record = parse_record(text.encode())
    below = record.policy if record.subdomain_policy is None else record.subdomain_policy
    missing = below if record.nonexistent_policy is None else record.nonexistent_policy
    return PublishedPolicy(
        domain=policy_domain,
        policy=record.policy.value,
        subdomain_policy=below.value,
        nonexistent_policy=missing.value,
        dkim_alignment="s" if record.strict_dkim else "r",
        spf_alignment="s" if record.strict_spf else "r",
        failure_options=":".join(sorted(record.failure_options)),
        testing=record.testing,
        discovery_method="treewalk",
    )


def _letter(reporter: Reporter, report: AggregateReport, addresses: Sequence[str], document: bytes) -> Letter:
    """The message with the report (RFC 9990 3.5.2)."""
    domain = report.published.domain
    name = attachments.file_name(reporter.domain, domain, report.begin, report.end, report.report_id, "xml.gz")
    count = sum(number for _, number in report.rows)
    day = datetime.fromtimestamp(report.begin, UTC).date()
    return Letter(
        reporter,
        domain,
        report.report_id,
        addresses,
        f"This is the DMARC aggregate report of {reporter.domain} about {domain}.\n"
        f"It covers {day} (UTC) and {count} messages.\n",
        Attached(name, "application/gzip", document),
    )
