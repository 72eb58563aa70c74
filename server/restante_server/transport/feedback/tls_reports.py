"""The daily TLS report of one domain (RFC 8460 4, 5): by mail, and to web servers."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from restante_mail.authentication.tls_report import Failure, PolicySessions, TlsReport, report_json, targets
from restante_mail.authentication.tls_result import TlsPolicy
from restante_mail.feedback import attachments
from restante_mail.mime.compose import Attached
from restante_server.transport.feedback.archive import Kind, NewReport
from restante_server.transport.feedback.outgoing import DAY_SECONDS, SECOND, Finished, Letter, Reporter
from restante_server.transport.tls import sessions
from restante_server.transport.tls.sessions import POLICY_KINDS, RESULTS, Counted, Due

MAX_KINDS = 5_000  # counts in one report, the highest
MAX_DOCUMENT_OCTETS = 400 << 10  # compressed; the least counts of a longer report are left out
ROWS = 10  # that the write of one report touches
MEDIA_TYPE = "application/tlsrpt+gzip"


class DailyTls:
    """TLS reports as a kind of daily report (`outgoing.Kind`)."""

    rows = ROWS

    def due(self, tx: Connection, before_day: int, most: int) -> Sequence[Due]:
        """Domains that want a report of an earlier day."""
        return sessions.due(tx, before_day, most)

    def load(self, tx: Connection, subject: Due) -> Sequence[Counted]:
        """The counts, the highest first."""
        return sessions.of_domain(tx, subject.day, subject.policy_domain, MAX_KINDS)

    def claim(self, tx: Connection, subject: Due, reported_at: int | None) -> bool:
        """Note the report as sent, or that there is none."""
        return sessions.settle(tx, subject, reported_at)

    def finish(self, reporter: Reporter, subject: Due, found: Sequence[Counted], now: datetime) -> Finished | None:
        """The report; None without counts or destinations."""
        wanted = targets(subject.record)
        if not found or not (wanted.addresses or wanted.urls):
            return None
        report, document = _fitted(reporter, subject, found)
        message_id = f"{secrets.token_hex(16)}@{reporter.domain}"
        letter = _letter(reporter, report, subject.policy_domain, wanted.addresses, document)
        return Finished(
            _new_report(report, subject.policy_domain, ", ".join(wanted.addresses), document),
            wanted.addresses,
            letter.written(message_id, now) if wanted.addresses else b"",
            f"<{message_id}>",
            f"TLS report for {subject.policy_domain}",
            wanted.urls,
            tls_optional=True,  # RFC 8460 3
        )


def _fitted(reporter: Reporter, subject: Due, found: Sequence[Counted]) -> tuple[TlsReport, bytes]:
    """The report and its compressed JSON, with as many counts as there is room for."""
    report_id, start = reporter.new_id(), datetime.fromtimestamp(subject.day * DAY_SECONDS, UTC)
    while True:
        report = TlsReport(reporter.organization, reporter.address, report_id, start, policies_of(found))
        document = attachments.compress(report_json(report))
        if len(document) <= MAX_DOCUMENT_OCTETS or len(found) == 1:
            return report, document
        found = found[: len(found) // 2]


def policies_of(counted: Sequence[Counted]) -> tuple[PolicySessions, ...]:
    """The counts of one domain, by policy."""
    successes: dict[TlsPolicy, int] = {}
    failures: dict[TlsPolicy, list[Failure]] = {}
    for one in counted:
        kind = one.kind
        policy = TlsPolicy(kind.policy_domain, POLICY_KINDS[kind.policy_kind], kind.policy_lines, kind.mx_patterns)
        successes.setdefault(policy, 0)
        result = RESULTS[kind.result]
        if result is None:
            successes[policy] += one.session_count
            continue
        failure = Failure(
            result,
            one.session_count,
            kind.sending_address,
            kind.receiving_host,
            kind.receiving_address,
            kind.reason,
        )
        failures.setdefault(policy, []).append(failure)
    return tuple(PolicySessions(policy, count, tuple(failures.get(policy, ()))) for policy, count in successes.items())


def _new_report(report: TlsReport, domain: str, addresses: str, document: bytes) -> NewReport:
    """The report for the archive."""
    failed = sum(one.session_count for policy in report.policies for one in policy.failures)
    return NewReport(
        kind=Kind.TLS,
        organization=report.organization,
        external_id=report.report_id,
        policy_domain=domain,
        begin_at=int(report.start.timestamp()) * SECOND,
        end_at=(int(report.start.timestamp()) + DAY_SECONDS - 1) * SECOND,
        total_count=failed + sum(policy.successful_count for policy in report.policies),
        failed_count=failed,
        address=addresses,
        document=document,
    )


def _letter(reporter: Reporter, report: TlsReport, domain: str, addresses: tuple[str, ...], document: bytes) -> Letter:
    """The message with the report (RFC 8460 5.3)."""
    begin = int(report.start.timestamp())
    end = int((report.start + timedelta(days=1, seconds=-1)).timestamp())
    name = attachments.file_name(reporter.domain, domain, begin, end, report.report_id, "json.gz")
    return Letter(
        reporter,
        domain,
        report.report_id,
        addresses,
        f"This is the report of {reporter.domain} about its TLS sessions with {domain}.\n"
        f"It covers {report.start.date()} (UTC).\n",
        Attached(name, MEDIA_TYPE, document),
        report_type="tlsrpt",
        fields=[
            ("TLS-Report-Domain", domain),
            ("TLS-Report-Submitter", reporter.domain),
            ("TLS-Required", "No"),
        ],
    )
