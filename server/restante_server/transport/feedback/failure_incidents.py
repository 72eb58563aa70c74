"""The failures that wait for a report: one row for all that are similar (RFC 9991 8.1).

The numbers of rows are bounded, because a sender may invent domains and has many addresses.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, case, delete, func, or_, select, update

from restante_mail.feedback import attachments
from restante_mail.feedback.failure import FailureReport
from restante_server.db.schema import failure_incident
from restante_server.db.upsert import insert_into
from restante_server.transport.feedback.failure_reports import document, parsed

MAX_ROWS = 10_000
MAX_ROWS_OF_DOMAIN = 100

_i = failure_incident


@dataclass(frozen=True, slots=True)
class Incident:
    """Similar failures."""

    addresses: tuple[str, ...]  # that may get the report
    report: FailureReport  # about one of them
    count: int


class NewRow(NamedTuple):
    """An incident in the form in which it is written."""

    digest: bytes
    policy_domain: str
    addresses: str
    document: bytes
    incidents: int
    since_at: int
    next_at: int


class Waiting(NamedTuple):
    """An incident that is due."""

    digest: bytes
    incident: Incident


def prepared(incidents: Mapping[bytes, Incident]) -> list[NewRow]:
    """The rows of incidents; it takes as long as the compression of their reports."""
    rows = []
    for digest, one in sorted(incidents.items()):
        arrived_at = one.report.arrived_at
        at = 0 if arrived_at is None else int(arrived_at.timestamp() * 1_000_000)
        octets = attachments.compress(document(one.report))
        rows.append(NewRow(digest, one.report.policy_domain, json.dumps(one.addresses), octets, one.count, at, at))
    return rows


def add(tx: Connection, rows: Sequence[NewRow]) -> int:
    """Add incidents, due at once where none was reported a short time ago; returns the failures above the bounds."""
    known = set(tx.scalars(select(_i.c.digest).where(_i.c.digest.in_([row.digest for row in rows]))))
    room = MAX_ROWS - (tx.scalar(select(func.count()).select_from(_i)) or 0)
    domains = {row.policy_domain for row in rows}
    counted = (
        select(_i.c.policy_domain, func.count()).where(_i.c.policy_domain.in_(domains)).group_by(_i.c.policy_domain)
    )
    used: Counter[str] = Counter()
    for domain, count in tx.execute(counted):
        used[domain] = count
    left_out = 0
    taken = []
    for row in rows:
        if row.digest not in known:
            if room <= 0 or used[row.policy_domain] >= MAX_ROWS_OF_DOMAIN:
                left_out += row.incidents
                continue
            room -= 1
            used[row.policy_domain] += 1
        taken.append(row._asdict())
    if taken:
        into = insert_into(tx, _i)
        new = into.excluded
        latest = {name: new[name] for name in ("addresses", "document")}
        since = case((_i.c.incidents == 0, new.since_at), else_=_i.c.since_at)
        more = {**latest, "incidents": _i.c.incidents + new.incidents, "since_at": since}
        tx.execute(into.on_conflict_do_update(index_elements=[_i.c.digest], set_=more), taken)
    return left_out


def due(tx: Connection, now: int, most: int) -> list[Waiting]:
    """Incidents whose report is due, the longest waiting first."""
    wanted = (
        select(_i.c.digest, _i.c.addresses, _i.c.document, _i.c.incidents)
        .where(_i.c.next_at <= now, _i.c.incidents > 0)
        .order_by(_i.c.next_at, _i.c.digest)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    return [
        Waiting(digest, Incident(tuple(json.loads(addresses)), parsed(attachments.decompress(octets)), count))
        for digest, addresses, octets, count in tx.execute(wanted)
    ]


def reported(tx: Connection, digest: bytes, next_at: int) -> None:
    """Note that the failures were reported: similar ones are reported from `next_at` on."""
    tx.execute(update(_i).where(_i.c.digest == digest).values(incidents=0, next_at=next_at))


def postpone(tx: Connection, digest: bytes, next_at: int) -> None:
    """Put off the report."""
    tx.execute(update(_i).where(_i.c.digest == digest).values(next_at=next_at))


def forget(tx: Connection, now: int, since: int) -> None:
    """Delete rows without failures from `next_at` on, and failures before `since`, for which no report was allowed."""
    none_left = (_i.c.incidents == 0) & (_i.c.next_at <= now)
    tx.execute(delete(_i).where(or_(none_left, _i.c.since_at < since)))
