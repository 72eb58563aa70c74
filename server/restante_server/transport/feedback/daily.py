"""Sending the DMARC reports of the days before today (RFC 9990 2.5, 2.6).

A report is built outside the write transaction. The transaction sends it only if its counts are still there, so that
one of several cores sends it. Counts that come later make a further report of the same day with an id of its own.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection

from restante_mail.authentication.dmarc.record import parse_record
from restante_mail.feedback import aggregate_xml, attachments
from restante_mail.feedback.aggregate import AggregateReport, PublishedPolicy, Row
from restante_mail.header.addresses import Address
from restante_mail.mime.compose import Attached, Outgoing, compose
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.transport.feedback import aggregate_reports, archive, counts
from restante_server.transport.feedback.archive import Direction, NewReport
from restante_server.transport.feedback.counts import DAY_SECONDS, Request, Subject
from restante_server.transport.outbound import generated
from restante_server.transport.settings import TransportSettings

AT_ONCE = 100  # subjects read at a time
WAIT_SECONDS = 3_600  # after the end of a day, until all cores have written their counts
MAX_ADDRESSES = 10  # of one report
GENERATOR = "Restante"


@dataclass(frozen=True, slots=True)
class Reporter:
    """This server in its reports."""

    organization: str
    address: str  # author of the reports
    domain: str  # the submitter in the subject and in the file's name


async def send(db: Database, settings: TransportSettings, reporter: Reporter, now: int) -> int:
    """Send the reports that are due (`now` in microseconds); returns their number."""
    today = (now // 1_000_000 - WAIT_SECONDS) // DAY_SECONDS
    sent = 0
    while subjects := await db.read(counts.due, today, AT_ONCE):
        for subject in subjects:
            found = await db.read(counts.load, subject)
            if found is None:
                continue
            made = await asyncio.to_thread(_made, reporter, subject, *found, now)
            sent += await db.write(Write(lambda tx, made=made: made.send(tx, settings, now), rows=counts.MAX_ROWS // 4))  # type: ignore[misc]
    return sent


@dataclass(frozen=True, slots=True)
class _Made:
    """A finished report; without addresses its counts are only removed."""

    subject: Subject
    report: NewReport | None
    addresses: tuple[str, ...] = ()
    octets: bytes = b""
    message_id: str = ""

    def send(self, tx: Connection, settings: TransportSettings, now: int) -> int:
        """Send the report and remove its counts; returns 0 if there is nothing to send or another core has done it."""
        if not counts.remove(tx, self.subject) or self.report is None:
            return 0
        to = generated.recipients(tx, self.addresses)
        source = f"DMARC report for {self.subject.policy_domain}"
        generated.send(
            tx,
            settings,
            self.octets,
            to,
            source=source,
            message_id=self.message_id,
            now=now,
        )
        archive.keep(tx, Direction.SENT, self.report, now)
        return 1


def _made(reporter: Reporter, subject: Subject, request: Request, rows: tuple[tuple[Row, int], ...], now: int) -> _Made:
    if not rows or not request.addresses:
        return _Made(subject, None)
    report = AggregateReport(
        organization=reporter.organization,
        email=reporter.address,
        report_id=f"{secrets.token_hex(12)}@{reporter.domain}",
        begin=subject.day * DAY_SECONDS,
        end=(subject.day + 1) * DAY_SECONDS - 1,
        published=_published(subject.policy_domain, request.record),
        rows=rows,
        generator=GENERATOR,
    )
    message_id = f"{secrets.token_hex(16)}@{reporter.domain}"
    addresses = request.addresses[:MAX_ADDRESSES]
    octets = _message(reporter, report, addresses, message_id, datetime.fromtimestamp(now // 1_000_000, UTC))
    kept = aggregate_reports.new_report(report, ", ".join(addresses))
    return _Made(subject, kept, addresses, octets, f"<{message_id}>")


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


def _message(
    reporter: Reporter, report: AggregateReport, addresses: tuple[str, ...], message_id: str, now: datetime
) -> bytes:
    """The message with the report (RFC 9990 2.6.2)."""
    domain = report.published.domain
    name = attachments.file_name(reporter.domain, domain, report.begin, report.end, report.report_id, "xml.gz")
    count = sum(number for _, number in report.rows)
    day = datetime.fromtimestamp(report.begin, UTC).date()
    return compose(
        Outgoing(
            from_=[Address("", reporter.address)],
            sent_at=now,
            message_id=message_id,
            to=[Address("", address) for address in addresses],
            subject=f"Report Domain: {domain} Submitter: {reporter.domain} Report-ID: <{report.report_id}>",
            text=f"This is the DMARC aggregate report of {reporter.domain} about {domain}.\n"
            f"It covers {day} (UTC) and {count} messages.\n",
            attachments=[
                Attached(name, "application/gzip", attachments.compress(aggregate_xml.write(report))),
            ],
            extra_fields=[("Auto-Submitted", "auto-generated")],
        )
    )
