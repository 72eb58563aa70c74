"""Sending the TLS reports of the days before today (RFC 8460 4, 5.3).

A report is built outside the write transaction. The transaction sends it only if no report of that day has been sent to
the domain, so that one of several cores sends it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from restante_mail.authentication.tls_report import Failure, PolicySessions, TlsReport, report_json, targets
from restante_mail.authentication.tls_result import TlsPolicy
from restante_mail.feedback import attachments
from restante_mail.header.addresses import Address
from restante_mail.mime.compose import Attached, Outgoing, compose
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.transport.feedback.daily import WAIT_SECONDS, Reporter
from restante_server.transport.outbound import generated
from restante_server.transport.settings import TransportSettings
from restante_server.transport.tls import sessions
from restante_server.transport.tls.sessions import DAY, POLICY_KINDS, RESULTS, Counted, Due

AT_ONCE = 100  # reports looked for at a time
MAX_KINDS = 5_000  # counts in one report, the highest


async def send(db: Database, settings: TransportSettings, reporter: Reporter, now: int) -> int:
    """Send the reports that are due (`now` in microseconds); returns their number."""
    today = (now - WAIT_SECONDS * 1_000_000) // DAY
    sent = 0
    while due := await db.read(sessions.due, today, AT_ONCE):
        for one in due:
            counted = await db.read(sessions.of_domain, one.day, one.policy_domain, MAX_KINDS)
            made = await asyncio.to_thread(_made, reporter, one, counted, now)
            sent += await db.write(Write(lambda tx, made=made: made.send(tx, settings, now), rows=10))  # type: ignore[misc]
    return sent


@dataclass(frozen=True, slots=True)
class _Made:
    """A finished report; without addresses it is only noted as settled."""

    due: Due
    addresses: tuple[str, ...] = ()
    octets: bytes = b""
    message_id: str = ""

    def send(self, tx: Connection, settings: TransportSettings, now: int) -> int:
        """Send the report; returns 0 if there is nothing to send or another core has done it."""
        if not sessions.settle(tx, self.due, now if self.addresses else None) or not self.addresses:
            return 0
        to = generated.recipients(tx, self.addresses)
        source = f"TLS report for {self.due.policy_domain}"
        generated.send(
            tx,
            settings,
            self.octets,
            to,
            source=source,
            message_id=self.message_id,
            now=now,
            tls_optional=True,
        )
        return 1


def _made(reporter: Reporter, due: Due, counted: Sequence[Counted], now: int) -> _Made:
    addresses = targets(due.record).addresses
    if not counted or not addresses:
        return _Made(due)
    report = TlsReport(
        organization=reporter.organization,
        contact=reporter.address,
        report_id=f"{secrets.token_hex(12)}@{reporter.domain}",
        start=datetime.fromtimestamp(due.day * DAY // 1_000_000, UTC),
        policies=policies_of(counted),
    )
    message_id = f"{secrets.token_hex(16)}@{reporter.domain}"
    octets = _message(
        reporter, report, due.policy_domain, addresses, message_id, datetime.fromtimestamp(now // 1_000_000, UTC)
    )
    return _Made(due, addresses, octets, f"<{message_id}>")


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


def _message(
    reporter: Reporter, report: TlsReport, domain: str, addresses: tuple[str, ...], message_id: str, now: datetime
) -> bytes:
    """The message with the report (RFC 8460 5.3)."""
    begin = int(report.start.timestamp())
    end = int((report.start + timedelta(days=1, seconds=-1)).timestamp())
    name = attachments.file_name(reporter.domain, domain, begin, end, report.report_id, "json.gz")
    return compose(
        Outgoing(
            from_=[Address("", reporter.address)],
            sent_at=now,
            message_id=message_id,
            to=[Address("", address) for address in addresses],
            subject=f"Report Domain: {domain} Submitter: {reporter.domain} Report-ID: <{report.report_id}>",
            text=f"This is the report of {reporter.domain} about its TLS sessions with {domain}.\n"
            f"It covers {report.start.date()} (UTC).\n",
            attachments=[
                Attached(name, "application/tlsrpt+gzip", attachments.compress(report_json(report))),
            ],
            report_type="tlsrpt",
            extra_fields=[
                ("TLS-Report-Domain", domain),
                ("TLS-Report-Submitter", reporter.domain),
                ("TLS-Required", "No"),
                ("Auto-Submitted", "auto-generated"),
            ],
        )
    )
