"""MTA-STS policies that relays have fetched, until they expire (RFC 8461 3.3).

They live in the core because a relay that forgot them at a restart would send in clear while an attacker holds up the
DNS or the web server of the policy (RFC 8461 10.2), and because relays share them.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, select

from restante_server.db.schema import sts_policy
from restante_server.db.upsert import insert_into

MAX_POLICIES = 100_000
AT_ONCE = 500  # removed in one transaction

_p = sts_policy
_of = select(_p.c.domain, _p.c.record_id, _p.c.policy, _p.c.fetched_at, _p.c.expires_at).where(
    _p.c.domain == bindparam("of"), _p.c.expires_at > bindparam("now")
)


class StoredPolicy(NamedTuple):
    """A policy as it was fetched. Times are microseconds."""

    domain: str
    record_id: str
    policy: bytes
    fetched_at: int
    expires_at: int


def find(tx: Connection, domain: str, now: int) -> StoredPolicy | None:
    """The policy of a domain, in A-labels; None without one that has not expired."""
    row = tx.execute(_of, {"of": domain, "now": now}).first()
    return None if row is None else StoredPolicy(*row)


def store(tx: Connection, policy: StoredPolicy) -> None:
    """Store a policy in the place of the domain's former one."""
    values = policy._asdict()
    statement = insert_into(tx, _p).values(values)
    tx.execute(statement.on_conflict_do_update(index_elements=["domain"], set_=values))


def forget(tx: Connection, now: int) -> int:
    """Remove some expired policies, and of more than MAX_POLICIES the earliest fetched; returns how many."""
    gone = list(tx.scalars(select(_p.c.domain).where(_p.c.expires_at <= now).limit(AT_ONCE)))
    if not gone:
        excess = min(tx.scalar(select(func.count()).select_from(_p)) or 0, MAX_POLICIES + AT_ONCE) - MAX_POLICIES
        if excess > 0:
            gone = list(tx.scalars(select(_p.c.domain).order_by(_p.c.fetched_at).limit(excess)))
    if gone:
        tx.execute(delete(_p).where(_p.c.domain.in_(gone)))
    return len(gone)
