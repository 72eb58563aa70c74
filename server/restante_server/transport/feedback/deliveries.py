"""Deliveries of sent TLS reports to web servers: leased by relays, tried for 24 hours (RFC 8460 5.4, 5.5).

A lease is one attempt, and sets the time of the next one. A relay that never tells the outcome therefore holds nothing
up, and a report is not lost with it.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from sqlalchemy import Connection, and_, func, insert, select, update

from restante.errors import LeaseLost
from restante_server.db.schema import report, report_delivery

MINUTE = 60_000_000  # microseconds
LIFETIME = 24 * 60 * MINUTE  # RFC 8460 5.5
FIRST_PAUSE, LONGEST_PAUSE = 5 * MINUTE, 4 * 60 * MINUTE
PIECE_OCTETS = 48 << 10  # of a document, read at a time

_d = report_delivery


class State(IntEnum):
    """The state of a delivery. The numbers are those of the contract's TlsReportDeliveryState."""

    WAITING = 1
    DELIVERED = 2
    FAILED = 3


class Delivery(NamedTuple):
    """One delivery. Times are microseconds."""

    report_id: int
    url: str
    state: int
    attempt_count: int
    detail: str
    next_attempt_at: int | None
    finished_at: int | None


class Lease(NamedTuple):
    """One attempt."""

    report_id: int
    lease_id: int
    url: str
    policy_domain: str
    size_octets: int  # of the document


_size = func.length(report.c.document)
_SHOWN = (_d.c.report_id, _d.c.url, _d.c.state, _d.c.attempt_count, _d.c.detail, _d.c.next_attempt_at, _d.c.finished_at)


def add(tx: Connection, report_id: int, urls: Sequence[str], now: int) -> None:
    """Begin the deliveries of a report."""
    rows = [
        {
            "report_id": report_id,
            "number": number,
            "url": url,
            "state": int(State.WAITING),
            "attempt_count": 0,
            "detail": "",
            "next_attempt_at": now,
            "expires_at": now + LIFETIME,
        }
        for number, url in enumerate(urls, 1)
    ]
    if rows:
        tx.execute(insert(_d), rows)


def lease(tx: Connection, now: int, most: int) -> list[Lease]:
    """Begin at most `most` attempts that are due, the earliest first. Ends deliveries whose time has passed."""
    ended = {"state": int(State.FAILED), "finished_at": now, "next_attempt_at": None}
    tx.execute(update(_d).where(_d.c.next_attempt_at <= now, _d.c.expires_at <= now).values(ended))
    wanted = (
        select(_d.c.report_id, _d.c.number, _d.c.url, _d.c.attempt_count, report.c.policy_domain, _size)
        .join(report, report.c.report_id == _d.c.report_id)
        .where(_d.c.next_attempt_at <= now)
        .order_by(_d.c.next_attempt_at)
        .limit(most)
    )
    leases: list[Lease] = []
    for report_id, number, url, attempts, domain, size_octets in tx.execute(wanted).all():
        made = Lease(report_id, secrets.randbits(62), url, domain, size_octets)
        values = {
            "lease_id": made.lease_id,
            "attempt_count": attempts + 1,
            "next_attempt_at": now + pause(attempts),
        }
        same = and_(_d.c.report_id == report_id, _d.c.number == number, _d.c.attempt_count == attempts)
        if tx.execute(update(_d).where(same).values(values)).rowcount == 1:  # no other core was faster
            leases.append(made)
    return leases


def piece(tx: Connection, report_id: int, lease_id: int, offset_octets: int) -> bytes:
    """A piece of the compressed document of a leased report; b"" at its end. Raises LeaseLost."""
    leased = (_d.c.report_id == report_id, _d.c.lease_id == lease_id)
    wanted = select(report.c.document).join(_d, _d.c.report_id == report.c.report_id).where(*leased)
    document = tx.scalar(wanted)
    if document is None:
        raise LeaseLost
    return bytes(document[offset_octets : offset_octets + PIECE_OCTETS])


def pause(attempts: int) -> int:
    """Microseconds between the beginnings of two attempts, after so many earlier ones."""
    return min(FIRST_PAUSE << min(attempts, 10), LONGEST_PAUSE)


def settle(tx: Connection, report_id: int, lease_id: int, delivered: bool, detail: str, now: int) -> None:
    """Note the outcome of an attempt; the last attempt within the lifetime ends a delivery. Raises LeaseLost."""
    same = and_(_d.c.report_id == report_id, _d.c.lease_id == lease_id)
    found = tx.execute(select(_d.c.state, _d.c.next_attempt_at, _d.c.expires_at).where(same)).one_or_none()
    if found is None:
        raise LeaseLost
    state, next_attempt_at, expires_at = found
    if state != State.WAITING:
        return
    values: dict[str, object] = {"detail": detail}
    if delivered or next_attempt_at is None or next_attempt_at >= expires_at:
        final = State.DELIVERED if delivered else State.FAILED
        values |= {"state": int(final), "finished_at": now, "next_attempt_at": None}
    tx.execute(update(_d).where(same).values(values))


def of_reports(tx: Connection, report_ids: Sequence[int]) -> dict[int, list[Delivery]]:
    """The deliveries of reports, in the order of the domain's record."""
    wanted = select(*_SHOWN).where(_d.c.report_id.in_(report_ids)).order_by(_d.c.report_id, _d.c.number)
    found: dict[int, list[Delivery]] = {}
    for row in tx.execute(wanted) if report_ids else ():
        found.setdefault(row.report_id, []).append(Delivery(*row))
    return found
