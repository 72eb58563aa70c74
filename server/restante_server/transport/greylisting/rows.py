"""The rows of greylisting: triplets that were seen, and networks and recipients that pass.

Strangers make these rows, so their number is bounded: for each network, and in all. Those that expire first give way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Insert, and_, bindparam, case, delete, func, or_, select, update

from restante_server.db import prepared
from restante_server.db.schema import greylist_pass, greylist_triplet
from restante_server.db.upsert import insert_for
from restante_server.transport.greylisting.policy import (
    COUNT_SPACING,
    REFRESH,
    Decision,
    GreylistSettings,
    Outcome,
    Seen,
    decide,
)
from restante_server.transport.greylisting.triplet import Triplet

MAX_WAITING: Final = 50_000  # deferred triplets
MAX_KNOWN: Final = 200_000  # known triplets
MAX_NETWORKS: Final = 100_000  # networks that prove themselves
MAX_WAITING_OF_NETWORK: Final = 500  # deferred triplets; those beyond are deferred, and not remembered
AT_ONCE: Final = 500  # rows removed in one transaction

_t, _p = greylist_triplet, greylist_pass
_seen = select(_t.c.first_at, _t.c.used_at, _t.c.is_known, _t.c.expires_at).where(_t.c.triplet_key == bindparam("key"))
_seen_locked = _seen.with_for_update()
_pass = select(_p.c.subject, _p.c.is_allowed, _p.c.times, _p.c.counted_at, _p.c.used_at, _p.c.expires_at).where(
    _p.c.subject == bindparam("subject")
)
_waiting = (
    select(_t.c.triplet_key)
    .where(_t.c.network == bindparam("network"), _t.c.is_known.is_(False))
    .limit(bindparam("most"))
)
_noted: dict[str, Any] = {"used_at": bindparam("now"), "expires_at": bindparam("until")}
_retried = update(_t).where(_t.c.triplet_key == bindparam("key"), _t.c.is_known.is_(False))
_retried = _retried.values(is_known=True, **_noted)
_used = update(_t).where(_t.c.triplet_key == bindparam("key"), _t.c.is_known.is_(True)).values(**_noted)
_pass_used = update(_p).where(_p.c.subject == bindparam("network"), _p.c.is_allowed.is_(False)).values(**_noted)


class Pass(NamedTuple):
    """A network or recipient, and how it has proven itself. The times are in microseconds."""

    subject: str
    is_allowed: bool
    times: int
    counted_at: int
    used_at: int
    expires_at: int | None  # None: never

    def passes(self, now: int, settings: GreylistSettings) -> bool:
        """Whether its mail is not deferred."""
        if self.is_allowed:
            return True
        return 0 < settings.proven_after <= self.times and self.expires_at is not None and self.expires_at > now


def decisions(
    tx: Connection, triplets: Sequence[Triplet], settings: GreylistSettings, now: int, *, lock: bool = False
) -> list[Decision]:
    """The decision about each triplet, all of one network. `lock` holds their rows until the commit."""
    row = prepared.first(tx, _pass, {"subject": triplets[0].network})
    network = Pass._make(row) if row is not None else None
    if network is not None and network.passes(now, settings):
        stale = not network.is_allowed and now - network.used_at >= REFRESH
        return [Decision(Outcome.PROVEN, writes=stale)] * len(triplets)
    keys = sorted(one.key for one in triplets)  # in one order, so that two cores cannot deadlock
    found = prepared.first_of_each(tx, _seen_locked if lock else _seen, [{"key": key} for key in keys])
    seen = {key: Seen._make(row) for key, row in zip(keys, found, strict=True) if row is not None}
    return [decide(seen.get(one.key), now, settings) for one in triplets]


def meet(tx: Connection, triplets: Sequence[Triplet], settings: GreylistSettings, now: int) -> list[Decision]:
    """Decide about each triplet, all of one network, and note what has to be remembered."""
    made = decisions(tx, triplets, settings, now, lock=True)
    keys: dict[Outcome, dict[bytes, Triplet]] = {}
    for one, decision in zip(triplets, made, strict=True):
        if decision.writes:
            keys.setdefault(decision.outcome, {})[one.key] = one
    network, use = triplets[0].network, {"now": now, "until": now + settings.keep}
    if Outcome.PROVEN in keys:
        prepared.run(tx, _pass_used, {"network": network, **use})
    for outcome, statement in ((Outcome.KNOWN, _used), (Outcome.RETRIED, _retried)):
        prepared.run_many(tx, statement, [{"key": key, **use} for key in sorted(keys.get(outcome, ()))])
    if Outcome.RETRIED in keys:
        _count(tx, network, now, now + settings.keep)
    if Outcome.NEW in keys:
        _begin(tx, network, keys[Outcome.NEW], settings, now)
    return made


def _begin(
    tx: Connection, network: str, triplets: Mapping[bytes, Triplet], settings: GreylistSettings, now: int
) -> None:
    """Note first attempts. Two gateways may note one at the same time: the first stays."""
    most = MAX_WAITING_OF_NETWORK
    room = most - len(prepared.rows(tx, _waiting, {"network": network, "most": most}))
    times = {"is_known": False, "first_at": now, "used_at": now, "expires_at": now + settings.retry_within}
    values = [{"triplet_key": key, **triplets[key]._asdict(), **times} for key in sorted(triplets)[: max(room, 0)]]
    prepared.run_many(tx, _beginning(tx.dialect.name), values)


@cache
def _beginning(dialect: str) -> Insert:
    """An insert of first attempts, which replaces expired rows."""
    statement = insert_for(dialect, _t)
    anew = {name: statement.excluded[name] for name in ("is_known", "first_at", "used_at", "expires_at")}
    expired = _t.c.expires_at <= statement.excluded.first_at
    return statement.on_conflict_do_update(index_elements=["triplet_key"], set_=anew, where=expired)


def _count(tx: Connection, network: str, now: int, until: int) -> None:
    """Count a retry for its network, if the last one that was counted is old enough."""
    made = Pass(network, False, 1, now, now, until)
    prepared.run_many(tx, _counting(tx.dialect.name), [made._asdict()])


@cache
def _counting(dialect: str) -> Insert:
    statement = insert_for(dialect, _p)
    new = statement.excluded
    expired = and_(_p.c.expires_at.is_not(None), _p.c.expires_at <= new.used_at)
    counts = _p.c.counted_at <= new.counted_at - COUNT_SPACING
    changed = {
        "times": case((expired, 1), (counts, _p.c.times + 1), else_=_p.c.times),
        "counted_at": case((or_(expired, counts), new.counted_at), else_=_p.c.counted_at),
        "used_at": new.used_at,
        "expires_at": case((_p.c.is_allowed, None), else_=new.expires_at),
    }
    return statement.on_conflict_do_update(index_elements=["subject"], set_=changed)


def forget(tx: Connection, now: int) -> int:
    """Remove some rows that have expired, or of too many those that expire first. Returns how many."""
    gone = _remove_expired(tx, now)
    return gone or bound(tx)


def bound(tx: Connection) -> int:
    """Remove some rows of too many. Returns how many."""
    gone = 0
    for is_known, most in ((False, MAX_WAITING), (True, MAX_KNOWN)):
        these = _t.c.is_known.is_(is_known)
        excess = _excess(tx.scalar(select(func.count()).select_from(_t).where(these)), most)
        if excess:
            first = select(_t.c.triplet_key).where(these).order_by(_t.c.expires_at).limit(excess)
            gone += tx.execute(delete(_t).where(_t.c.triplet_key.in_(list(tx.scalars(first))))).rowcount
    earned = _p.c.expires_at.is_not(None)
    excess = _excess(tx.scalar(select(func.count()).select_from(_p).where(earned)), MAX_NETWORKS)
    if excess:
        oldest = select(_p.c.subject).where(earned).order_by(_p.c.expires_at).limit(excess)
        gone += tx.execute(delete(_p).where(_p.c.subject.in_(list(tx.scalars(oldest))))).rowcount
    return gone


def _excess(count: int | None, most: int) -> int:
    return min(max((count or 0) - most, 0), AT_ONCE)


def _remove_expired(tx: Connection, now: int) -> int:
    gone = 0
    for is_known in (False, True):
        expired = select(_t.c.triplet_key).where(_t.c.is_known.is_(is_known), _t.c.expires_at <= now).limit(AT_ONCE)
        keys = list(tx.scalars(expired))
        if keys:
            gone += tx.execute(delete(_t).where(_t.c.triplet_key.in_(keys), _t.c.expires_at <= now)).rowcount
    subjects = list(tx.scalars(select(_p.c.subject).where(_p.c.expires_at <= now).limit(AT_ONCE)))
    if subjects:
        gone += tx.execute(delete(_p).where(_p.c.subject.in_(subjects), _p.c.expires_at <= now)).rowcount
    return gone
