"""The steps that all daily reports share: due subjects, the message, and sending it once.

A report is built outside the write transaction, on a thread. The transaction sends it only if it can still claim its
subject, so that one of several cores sends it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from restante_mail.header.addresses import Address
from restante_mail.mime.compose import Attached, Outgoing, compose
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.transport.feedback import archive, deliveries
from restante_server.transport.feedback.archive import Direction, NewReport
from restante_server.transport.outbound import generated
from restante_server.transport.settings import TransportSettings

AT_ONCE = 100  # subjects read at a time
WAIT_SECONDS = 3_600  # after the end of a day, until all cores have written their counts
DAY_SECONDS = 86_400
SECOND = 1_000_000  # microseconds

Subject = TypeVar("Subject")
Counts = TypeVar("Counts")


@dataclass(frozen=True, slots=True)
class Reporter:
    """This server in its reports."""

    organization: str
    address: str  # author of the reports
    domain: str  # the submitter in the subject and in the file's name

    def new_id(self) -> str:
        """An id of a report."""
        return f"{secrets.token_hex(12)}@{self.domain}"


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished report and its recipients."""

    kept: NewReport
    addresses: tuple[str, ...]  # of mail; without any, there is no message
    octets: bytes  # the message
    message_id: str
    source: str  # of the message, shown to administrators
    urls: tuple[str, ...] = ()  # of web servers
    tls_optional: bool = False

    def send(self, tx: Connection, settings: TransportSettings, now: int) -> None:
        """Send the report and keep it."""
        if self.addresses:
            to = generated.recipients(tx, self.addresses)
            generated.send(
                tx,
                settings,
                self.octets,
                to,
                source=self.source,
                message_id=self.message_id,
                now=now,
                tls_optional=self.tls_optional,
            )
        report_id = archive.keep(tx, Direction.SENT, self.kept, now)
        if report_id is not None:
            deliveries.add(tx, report_id, self.urls, now)


class Kind(Protocol[Subject, Counts]):
    """A kind of daily report. A subject is a day with a domain."""

    rows: int  # of a subject's counts, about, as `Write.rows`

    def due(self, tx: Connection, before_day: int, most: int) -> Sequence[Subject]:
        """Subjects of days (since 1970-01-01 UTC) before this one whose report has not been sent."""
        ...

    def load(self, tx: Connection, subject: Subject) -> Counts:
        """The counts of a subject."""
        ...

    def finish(self, reporter: Reporter, subject: Subject, counts: Counts, now: datetime) -> Finished | None:
        """The report, on a thread; None if there is none to send."""
        ...

    def claim(self, tx: Connection, subject: Subject, reported_at: int | None) -> bool:
        """End a subject; None: without a report. Returns False if another core has done it."""
        ...


async def send(
    db: Database, settings: TransportSettings, reporter: Reporter, kind: Kind[Subject, Counts], now: int
) -> int:
    """Send the reports of a kind that are due (`now` in microseconds); returns their number."""
    before_day = (now // SECOND - WAIT_SECONDS) // DAY_SECONDS
    moment = datetime.fromtimestamp(now // SECOND, UTC)
    sent = 0
    while subjects := await db.read(kind.due, before_day, AT_ONCE):
        for subject in subjects:
            counts = await db.read(kind.load, subject)
            finished = await asyncio.to_thread(kind.finish, reporter, subject, counts, moment)
            sent += await db.write(Write(_step(kind, subject, finished, settings, now), rows=kind.rows))
    return sent


def _step(
    kind: Kind[Subject, Counts], subject: Subject, finished: Finished | None, settings: TransportSettings, now: int
) -> Callable[[Connection], int]:
    """The write of one report; it returns the number of reports sent."""

    def step(tx: Connection) -> int:
        if not kind.claim(tx, subject, None if finished is None else now) or finished is None:
            return 0
        finished.send(tx, settings, now)
        return 1

    return step


@dataclass(frozen=True, slots=True)
class Letter:
    """The message of a report."""

    reporter: Reporter
    domain: str  # the policy domain
    report_id: str
    addresses: Sequence[str]
    text: str
    attached: Attached
    report_type: str = ""  # of multipart/report
    fields: Sequence[tuple[str, str]] = field(default=())  # further ones

    def written(self, message_id: str, now: datetime) -> bytes:
        """The message (RFC 9990 3.5.2, RFC 8460 5.3)."""
        author, submitter = self.reporter.address, self.reporter.domain
        return compose(
            Outgoing(
                from_=[Address("", author)],
                sent_at=now,
                message_id=message_id,
                to=[Address("", address) for address in self.addresses],
                subject=f"Report Domain: {self.domain} Submitter: {submitter} Report-ID: <{self.report_id}>",
                text=self.text,
                attachments=[self.attached],
                report_type=self.report_type,
                extra_fields=[*self.fields, ("Auto-Submitted", "auto-generated")],
            )
        )
