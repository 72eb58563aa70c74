"""The kept reports of all kinds: those sent to other domains, and those received about ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from sqlalchemy import Connection, delete, func, select

from restante_mail.feedback import attachments
from restante_server.db.schema import report as table
from restante_server.db.upsert import insert_into

MAX_RECEIVED = 50_000  # of one kind, since anybody may write reports


class Kind(IntEnum):
    """The kind of a report, as it is stored."""

    DMARC_AGGREGATE = 1
    TLS = 2
    DMARC_FAILURE = 3


class Direction(IntEnum):
    """Where a report went. The numbers are those of the contract's ReportDirection."""

    SENT = 1
    RECEIVED = 2


@dataclass(frozen=True, slots=True)
class NewReport:
    """A report to keep. Times are microseconds."""

    kind: Kind
    organization: str
    external_id: str
    policy_domain: str
    begin_at: int
    end_at: int
    total_count: int  # messages, or sessions
    failed_count: int
    address: str  # recipients of a sent report, author of a received one
    document: bytes  # compressed by `attachments.compress`


@dataclass(frozen=True, slots=True)
class Kept:
    """One kept report, without its document."""

    report_id: int
    direction: Direction
    organization: str
    external_id: str
    policy_domain: str
    begin_at: int  # microseconds, here and below
    end_at: int
    total_count: int
    failed_count: int
    address: str
    created_at: int


_KEPT = (
    table.c.report_id,
    table.c.direction,
    table.c.organization,
    table.c.external_id,
    table.c.policy_domain,
    table.c.begin_at,
    table.c.end_at,
    table.c.total_count,
    table.c.failed_count,
    table.c.address,
    table.c.created_at,
)


def keep(tx: Connection, direction: Direction, report: NewReport, now: int) -> int | None:
    """Keep a report; returns its id, or None if it is there already (RFC 9990 3.5.4)."""
    row = {
        "kind": int(report.kind),
        "direction": int(direction),
        "organization": report.organization,
        "external_id": report.external_id,
        "policy_domain": report.policy_domain,
        "begin_at": report.begin_at,
        "end_at": report.end_at,
        "total_count": report.total_count,
        "failed_count": report.failed_count,
        "address": report.address,
        "document": report.document,
        "created_at": now,
    }
    into = insert_into(tx, table).values(row).on_conflict_do_nothing().returning(table.c.report_id)
    kept: int | None = tx.scalar(into)
    return kept


def room(tx: Connection, kind: Kind) -> int:
    """The number of received reports of this kind that may still be kept."""
    count = select(func.count()).where(table.c.kind == int(kind), table.c.direction == int(Direction.RECEIVED))
    return max(MAX_RECEIVED - (tx.scalar(count) or 0), 0)


def page(
    tx: Connection, kind: Kind, direction: Direction | None, policy_domain: str, before: int | None, most: int
) -> list[Kept]:
    """Reports of a kind, the latest first: at most `most`, with ids below `before`. "": of all domains."""
    wanted = select(*_KEPT).where(table.c.kind == int(kind)).order_by(table.c.report_id.desc()).limit(most)
    if direction is not None:
        wanted = wanted.where(table.c.direction == int(direction))
    if policy_domain:
        wanted = wanted.where(table.c.policy_domain == policy_domain)
    if before is not None:
        wanted = wanted.where(table.c.report_id < before)
    return [_kept(row) for row in tx.execute(wanted)]


def get(tx: Connection, kind: Kind, report_id: int) -> tuple[Kept, bytes] | None:
    """One report of a kind with its document."""
    wanted = select(*_KEPT, table.c.document).where(table.c.report_id == report_id, table.c.kind == int(kind))
    found = tx.execute(wanted).one_or_none()
    return None if found is None else (_kept(found[:-1]), attachments.decompress(found[-1]))


def documents(tx: Connection, report_ids: Sequence[int]) -> dict[int, bytes]:
    """The documents of reports, by id."""
    wanted = select(table.c.report_id, table.c.document).where(table.c.report_id.in_(report_ids))
    return {report_id: attachments.decompress(octets) for report_id, octets in tx.execute(wanted)}


def sent_since(tx: Connection, kind: Kind, moment: int, most: int) -> list[str]:
    """The recipients of the reports of a kind that were sent after a moment; at most `most`, the latest first."""
    wanted = select(table.c.address).where(
        table.c.kind == int(kind), table.c.direction == int(Direction.SENT), table.c.created_at > moment
    )
    return list(tx.scalars(wanted.order_by(table.c.report_id.desc()).limit(most)))


def forget(tx: Connection, before: int, most: int) -> int:
    """Delete at most `most` reports that were kept before a moment (microseconds); returns their number."""
    past = select(table.c.report_id).where(table.c.created_at < before).limit(most)
    return tx.execute(delete(table).where(table.c.report_id.in_(past))).rowcount


def _kept(row: Sequence[object]) -> Kept:
    report_id, direction, *rest = row
    return Kept(report_id, Direction(direction), *rest)  # type: ignore[arg-type]
