"""The kept aggregate reports: those sent to other domains, and those received about ours."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from sqlalchemy import Connection, delete, select

from restante_mail.feedback import aggregate_xml, attachments
from restante_mail.feedback.aggregate import AggregateReport
from restante_server.db.schema import dmarc_report
from restante_server.db.upsert import insert_into

SECOND = 1_000_000  # microseconds


class Direction(IntEnum):
    """Where a report went. The numbers are those of the contract's ReportDirection."""

    SENT = 1
    RECEIVED = 2


@dataclass(frozen=True, slots=True)
class Kept:
    """One kept report, without its rows."""

    report_id: int
    direction: Direction
    organization: str
    external_id: str
    policy_domain: str
    begin_at: int  # microseconds, here and below
    end_at: int
    message_count: int
    failed_count: int  # neither DKIM nor SPF aligned
    address: str
    created_at: int


_KEPT = (
    dmarc_report.c.report_id,
    dmarc_report.c.direction,
    dmarc_report.c.organization,
    dmarc_report.c.external_id,
    dmarc_report.c.policy_domain,
    dmarc_report.c.begin_at,
    dmarc_report.c.end_at,
    dmarc_report.c.message_count,
    dmarc_report.c.failed_count,
    dmarc_report.c.address,
    dmarc_report.c.created_at,
)


def keep(tx: Connection, direction: Direction, report: AggregateReport, address: str, now: int) -> bool:
    """Keep a report; returns False if it is there already (RFC 9990 2.6.4)."""
    row = {
        "direction": int(direction),
        "organization": report.organization,
        "external_id": report.report_id,
        "policy_domain": report.published.domain,
        "begin_at": report.begin * SECOND,
        "end_at": report.end * SECOND,
        "message_count": sum(count for _, count in report.rows),
        "failed_count": sum(count for row, count in report.rows if not (row.dkim_aligned or row.spf_aligned)),
        "address": address,
        "document": attachments.compress(aggregate_xml.write(report)),
        "created_at": now,
    }
    into = insert_into(tx, dmarc_report).values(row).on_conflict_do_nothing().returning(dmarc_report.c.report_id)
    return tx.execute(into).one_or_none() is not None


def page(tx: Connection, direction: Direction | None, policy_domain: str, before: int | None, most: int) -> list[Kept]:
    """Reports, the latest first: at most `most`, with ids below `before`. Empty `policy_domain`: of all domains."""
    wanted = select(*_KEPT).order_by(dmarc_report.c.report_id.desc()).limit(most)
    if direction is not None:
        wanted = wanted.where(dmarc_report.c.direction == int(direction))
    if policy_domain:
        wanted = wanted.where(dmarc_report.c.policy_domain == policy_domain)
    if before is not None:
        wanted = wanted.where(dmarc_report.c.report_id < before)
    return [_kept(row) for row in tx.execute(wanted)]


def get(tx: Connection, report_id: int) -> tuple[Kept, AggregateReport] | None:
    """One report with its rows."""
    found = tx.execute(
        select(*_KEPT, dmarc_report.c.document).where(dmarc_report.c.report_id == report_id)
    ).one_or_none()
    if found is None:
        return None
    return _kept(found[:-1]), aggregate_xml.read(attachments.decompress(found[-1]))


def forget(tx: Connection, before: int, most: int) -> int:
    """Delete at most `most` reports that were kept before a moment (microseconds); returns their number."""
    past = select(dmarc_report.c.report_id).where(dmarc_report.c.created_at < before).limit(most)
    return tx.execute(delete(dmarc_report).where(dmarc_report.c.report_id.in_(past))).rowcount


def _kept(row: object) -> Kept:
    values = tuple(row)  # type: ignore[arg-type, var-annotated]
    return Kept(values[0], Direction(values[1]), *values[2:])
