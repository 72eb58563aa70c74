"""Sending failure reports (RFC 9991), within limits of an hour for each destination and for all.

A flood of forged mail must not become a flood of reports (RFC 9991 2, 8.1). After a report, similar failures are only
counted for an hour. A report that is above a limit waits while its failures are counted, for a day at most. The limits
count the reports that are kept as sent, so a restart forgets none.
"""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import Connection

from restante_mail.feedback import failure_message
from restante_mail.feedback.failure_message import Letter
from restante_process.config import Reports
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.transport.acceptance import domain_of
from restante_server.transport.feedback import archive, failure_incidents
from restante_server.transport.feedback.archive import Direction, Kind
from restante_server.transport.feedback.failure_incidents import Incident
from restante_server.transport.feedback.failure_reports import new_report
from restante_server.transport.feedback.outgoing import Reporter
from restante_server.transport.outbound import generated
from restante_server.transport.schedule import DAY, HOUR, MINUTE
from restante_server.transport.settings import TransportSettings

AT_ONCE = 10  # incidents in one transaction
PAUSE = HOUR  # between reports of similar failures
RETRY = 10 * MINUTE  # for a report above a limit


@dataclass(frozen=True, slots=True)
class Limits:
    """The most reports of an hour."""

    of_domain: int  # to addresses of one domain
    in_all: int

    @classmethod
    def of(cls, given: Reports) -> Limits:
        """The limits of the configuration."""
        return cls(given.failure_hourly, given.failure_hourly_total)


async def send(db: Database, settings: TransportSettings, reporter: Reporter, limits: Limits, now: int) -> int:
    """Send the reports that are due (`now` in microseconds); returns their number."""
    sent = 0
    while True:
        sent_now, looked_at = await db.write(
            Write(lambda tx: _send_some(tx, settings, reporter, limits, now), rows=8 * AT_ONCE)
        )
        sent += sent_now
        if looked_at < AT_ONCE:
            break
    await db.write(Write(lambda tx: failure_incidents.forget(tx, now, now - DAY), rows=AT_ONCE))
    return sent


def _send_some(
    tx: Connection, settings: TransportSettings, reporter: Reporter, limits: Limits, now: int
) -> tuple[int, int]:
    """Send or put off the next reports; returns (reports sent, incidents looked at)."""
    recent = archive.sent_since(tx, Kind.DMARC_FAILURE, now - HOUR, limits.in_all)
    left = limits.in_all - len(recent)
    counts = Counter(map(domain_of, recent))
    waiting = failure_incidents.due(tx, now, AT_ONCE)
    sent = 0
    for digest, incident in waiting:
        allowed = []
        for address in incident.addresses:
            domain = domain_of(address)
            if counts[domain] < limits.of_domain and left > 0:
                counts[domain] += 1
                left -= 1
                allowed.append(address)
        if not allowed:
            failure_incidents.postpone(tx, digest, now + RETRY)
            continue
        _send(tx, settings, reporter, replace(incident, addresses=tuple(allowed)), now)
        failure_incidents.reported(tx, digest, now + PAUSE)
        sent += len(allowed)
    return sent, len(waiting)


def _send(tx: Connection, settings: TransportSettings, reporter: Reporter, incident: Incident, now: int) -> None:
    """Send a message of its own to each address, so that none learns of another."""
    report = replace(incident.report, incidents=incident.count)
    for address in incident.addresses:
        message_id = f"<{secrets.token_hex(16)}@{reporter.domain}>"
        letter = Letter(
            reporter.address, address, message_id, secrets.token_hex(20), datetime.fromtimestamp(now // 1_000_000, UTC)
        )
        generated.send(
            tx,
            settings,
            failure_message.build(report, letter),
            generated.recipients(tx, [address]),
            source=f"DMARC failure report for {report.policy_domain}",
            message_id=message_id,
            now=now,
        )
        kept = new_report(report, reporter.organization, address, message_id.strip("<>"))
        archive.keep(tx, Direction.SENT, kept, now)
