"""TLS sessions with other servers, counted by day, policy and result (RFC 8460 4.3)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, and_, bindparam, delete, func, or_, select, update

from restante_mail.authentication.tls_result import PolicyKind, TlsResult
from restante_server.db.schema import tls_report, tls_session
from restante_server.db.upsert import insert_into, insert_missing

DAY = 86_400_000_000  # microseconds
MAX_DAY_KINDS = 100_000  # different counts of one day
AT_ONCE = 500  # removed in one transaction
DIGEST_OCTETS = 16

POLICY_KINDS = {1: PolicyKind.NONE, 2: PolicyKind.STS, 3: PolicyKind.TLSA}
"""The kinds of policy by their numbers in the contract."""

RESULTS: dict[int, TlsResult | None] = {0: None, **dict(enumerate(TlsResult, 1))}
"""The results by their numbers in the contract; 0 is a success."""

_s, _r = tls_session, tls_report


class Kind(NamedTuple):
    """The sessions that are counted together. `result` 0 is a success; the numbers are those of the contract."""

    policy_domain: str
    policy_kind: int
    policy_lines: tuple[str, ...]
    mx_patterns: tuple[str, ...]
    result: int = 0
    sending_address: str = ""
    receiving_host: str = ""
    receiving_address: str = ""
    reason: str = ""


class Counted(NamedTuple):
    """A count of one day."""

    day: int  # since 1970-01-01 UTC
    digest: bytes
    kind: Kind
    session_count: int
    reported_at: int | None  # microseconds


class Due(NamedTuple):
    """A report that a domain wants and that has not been sent."""

    day: int
    policy_domain: str
    record: str  # the domain's TXT record


class Place(NamedTuple):
    """The count behind which a page begins."""

    day: int
    digest: bytes


_COLUMNS = (
    _s.c.day,
    _s.c.digest,
    _s.c.policy_domain,
    _s.c.policy_kind,
    _s.c.policy_lines,
    _s.c.mx_patterns,
    _s.c.result,
    _s.c.sending_address,
    _s.c.receiving_host,
    _s.c.receiving_address,
    _s.c.reason,
    _s.c.session_count,
)
_report_of = and_(_r.c.day == _s.c.day, _r.c.policy_domain == _s.c.policy_domain)
_listing = select(*_COLUMNS, _r.c.reported_at).outerjoin(_r, _report_of)
_known = select(_s.c.digest).where(_s.c.day == bindparam("of"), _s.c.digest.in_(bindparam("some", expanding=True)))


def add(tx: Connection, day: int, counts: Iterable[tuple[Kind, int]], records: Iterable[tuple[str, str]]) -> None:
    """Add counts to a day's, and note the report records of domains: (policy domain, TXT record).

    A day with MAX_DAY_KINDS different counts takes no further ones.
    """
    rows: dict[bytes, dict[str, object]] = {}
    for kind, count in counts:
        row = rows.setdefault(_digest(kind), _row(day, kind))
        row["session_count"] = int(str(row["session_count"])) + count
    if (tx.scalar(select(func.count()).where(_s.c.day == day)) or 0) >= MAX_DAY_KINDS:
        known = set(tx.scalars(_known, {"of": day, "some": list(rows)}))
        rows = {digest: row for digest, row in rows.items() if digest in known}
    if rows:
        statement = insert_into(tx, _s)
        added = {"session_count": _s.c.session_count + statement.excluded.session_count}
        tx.execute(statement.on_conflict_do_update(index_elements=["day", "digest"], set_=added), list(rows.values()))
    wanted = [
        {"day": day, "policy_domain": domain, "record": record, "settled": False}
        for domain, record in records
        if record
    ]
    if wanted:
        tx.execute(insert_missing(tx, _r), wanted)


def listing(tx: Connection, domain: str, failures_only: bool, after: Place | None, most: int) -> list[Counted]:
    """Counts of a domain, or of all (""), the latest day first."""
    statement = _listing.order_by(_s.c.day.desc(), _s.c.digest).limit(most)
    if domain:
        statement = statement.where(_s.c.policy_domain == domain)
    if failures_only:
        statement = statement.where(_s.c.result != 0)
    if after is not None:
        behind = and_(_s.c.day == after.day, _s.c.digest > after.digest)
        statement = statement.where(or_(_s.c.day < after.day, behind))
    return [_counted(row) for row in tx.execute(statement)]


def of_domain(tx: Connection, day: int, domain: str, most: int) -> list[Counted]:
    """At most so many counts of one day and domain, the highest first."""
    statement = _listing.where(_s.c.day == day, _s.c.policy_domain == domain)
    return [_counted(row) for row in tx.execute(statement.order_by(_s.c.session_count.desc(), _s.c.digest).limit(most))]


def due(tx: Connection, today: int, most: int) -> list[Due]:
    """Some reports of days before `today` that have not been sent."""
    wanted = select(_r.c.day, _r.c.policy_domain, _r.c.record).where(_r.c.day < today, _r.c.settled.is_(False))
    return [Due(*row) for row in tx.execute(wanted.order_by(_r.c.day, _r.c.policy_domain).limit(most))]


def settle(tx: Connection, report: Due, reported_at: int | None) -> bool:
    """Note that a report was sent, or (None) that there is none to send; returns False if that was noted before."""
    same = (_r.c.day == report.day, _r.c.policy_domain == report.policy_domain, _r.c.settled.is_(False))
    return tx.execute(update(_r).where(*same).values(settled=True, reported_at=reported_at)).rowcount == 1


def forget(tx: Connection, before: int) -> int:
    """Remove some counts and reports of days before this one; returns how many counts."""
    old = tx.execute(select(_s.c.day, _s.c.digest).where(_s.c.day < before).order_by(_s.c.day).limit(AT_ONCE)).all()
    for day in {day for day, _ in old}:
        some = [digest for that, digest in old if that == day]
        tx.execute(delete(_s).where(_s.c.day == day, _s.c.digest.in_(some)))
    if not old:
        tx.execute(delete(_r).where(_r.c.day < before))
    return len(old)


def _digest(kind: Kind) -> bytes:
    return hashlib.sha256(json.dumps(kind).encode()).digest()[:DIGEST_OCTETS]


def _row(day: int, kind: Kind) -> dict[str, object]:
    packed = {"policy_lines": json.dumps(kind.policy_lines), "mx_patterns": json.dumps(kind.mx_patterns)}
    return {"day": day, "digest": _digest(kind), "session_count": 0, **kind._asdict(), **packed}


def _counted(row: Sequence[object]) -> Counted:
    day, digest, domain, policy_kind, lines, patterns, *failure, count, reported_at = row
    kind = Kind(domain, policy_kind, tuple(json.loads(lines)), tuple(json.loads(patterns)), *failure)  # type: ignore[arg-type]
    return Counted(day, digest, kind, count, reported_at)  # type: ignore[arg-type]
