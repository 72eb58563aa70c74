"""The settings of the transport, filled in from the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from restante_process.config import Config
from restante_server.transport.schedule import DAY, HOUR, MINUTE, Schedule

MAX_ACCEPT_RECIPIENTS = 1_000

LEAST_TRACE_DAYS = 8  # a repeated submission is answered from the rows for 7 days (docs/design.md "Idempotence")


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """The limits, pauses and names that the transport obeys."""

    contents: Path  # the directory of large contents
    hostname: str = "localhost"  # our name in Received, Message-ID and reports
    schedule: Schedule = field(default_factory=Schedule)
    max_recipients: int = 1_000
    max_scheduled: int = 1_000  # messages of one account that wait for their time
    max_scheduled_octets: int = 512 << 20  # of these
    direct_deliveries: int = 100  # recipients that are delivered in the transaction that takes the message
    max_message_octets: int = 50 << 20
    max_hops: int = 100  # Received fields, beyond: a loop (RFC 5321 6.3)
    trace_microseconds: int = 30 * DAY
    whole_report_octets: int = 256 << 10  # a longer message is returned by its header alone
    report_header_octets: int = 32 << 10  # of that header

    @classmethod
    def of(cls, settings: Config) -> TransportSettings:
        """From the configuration."""
        given = settings.transport
        return cls(
            contents=settings.contents_directory,
            hostname=given.hostname,
            schedule=Schedule(
                first_retry=int(given.first_retry_minutes * MINUTE),
                longest_retry=int(given.longest_retry_minutes * MINUTE),
                warn_after=int(given.warn_hours * HOUR),
                expire_after=int(given.expire_days * DAY),
            ),
            max_recipients=settings.limits.max_recipients,
            max_scheduled=settings.limits.account_scheduled,
            max_scheduled_octets=settings.limits.account_scheduled_octets,
            max_message_octets=settings.limits.max_message_octets,
            max_hops=settings.smtp.max_hops,
            trace_microseconds=max(given.trace_days, LEAST_TRACE_DAYS) * DAY,
        )
