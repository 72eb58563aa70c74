"""The rows of greylisting: triplets that were seen, and networks and recipients that pass.

Strangers make these rows, so their number is bounded: for each network, and in all. Those that expire first give way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, and_, bindparam, case, delete, func, or_, select, update

from restante_server.db.schema import greylist_pass, greylist_triplet
from restante_server.db.upsert import insert_into
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
_seen = select(_t.c.triplet_key, _t.c.first_at, _t.c.used_at, _t.c.is_known, _t.c.expires_at).where(
    _t.c.triplet_key.in_(bindparam("keys", expanding=True))
)
_passes = select(_p.c.subject, _p.c.is_allowed, _p.c.times, _p.c.counted_at, _p.c.used_at, _p.c.expires_at).where(
    _p.c.subject.in_(bindparam("subjects", expanding=True))
)
_waiting = (
    select(_t.c.triplet_key)
    .where(_t.c.network == bindparam("network"), _t.c.is_known.is_(False))
    .limit(MAX_WAITING_OF_NETWORK)
)
_retried = (
    update(_t)
    .where(_t.c.triplet_key.in_(bindparam("keys", expanding=True)), _t.c.is_known.is_(False))
    .values(is_known=True, used_at=bindparam("now"), expires_at=bindparam("until"))
)
_used = (
    update(_t)
    .where(_t.c.triplet_key.in_(bindparam("keys", expanding=True)), _t.c.is_known.is_(True))
    .values(used_at=bindparam("now"), expires_at=bindparam("until"))
)
_pass_used = (
    update(_p)
    .where(_p.c.subject == bindparam("which"), _p.c.is_allowed.is_(False))
    .values(used_at=bindparam("now"), expires_at=bindparam("until"))
)


class Asked(NamedTuple):
    """Recipients of one mail transaction."""

    triplets: tuple[Triplet, ...]  # of one client and sender
    networks: tuple[str, ...]  # around the client, which may be let pass
    subjects: tuple[tuple[str, ...], ...]  # for each triplet the keys of the recipient that may be let pass

    @property
    def network(self) -> str:
        """The client's network in the triplets."""
        return self.triplets[0].network


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
    tx: Connection, asked: Asked, settings: GreylistSettings, now: int, *, lock: bool = False
) -> list[Decision]:
    """The decision about each triplet. `lock` holds the rows of triplets until the commit."""
    subjects = {*asked.networks, asked.network, *(one for some in asked.subjects for one in some)}
    passes = {row.subject: Pass._make(row) for row in tx.execute(_passes, {"subjects": sorted(subjects)})}
    network = next((one for one in passes.values() if "@" not in one.subject and one.passes(now, settings)), None)
    if network is not None:
        stale = not network.is_allowed and now - network.used_at >= REFRESH
        return [Decision(Outcome.PROVEN, writes=stale)] * len(asked.triplets)
    statement = _seen.order_by(_t.c.triplet_key).with_for_update() if lock else _seen
    rows = tx.execute(statement, {"keys": sorted(one.key for one in asked.triplets)})
    seen = {row.triplet_key: Seen(row.first_at, row.used_at, row.is_known, row.expires_at) for row in rows}
    return [
        Decision(Outcome.PROVEN)
        if any(name in passes and passes[name].passes(now, settings) for name in names)
        else decide(seen.get(one.key), now, settings)
        for one, names in zip(asked.triplets, asked.subjects, strict=True)
    ]


def meet(tx: Connection, asked: Asked, settings: GreylistSettings, now: int) -> list[Decision]:
    """Decide about each triplet, and note what has to be remembered."""
    made = decisions(tx, asked, settings, now, lock=True)
    by_outcome: dict[Outcome, list[Triplet]] = {}
    for one, decision in zip(asked.triplets, made, strict=True):
        if decision.writes:
            by_outcome.setdefault(decision.outcome, []).append(one)
    until = now + settings.keep
    if Outcome.PROVEN in by_outcome:
        tx.execute(_pass_used, {"which": asked.network, "now": now, "until": until})
    if Outcome.KNOWN in by_outcome:
        tx.execute(_used, {"keys": _keys(by_outcome[Outcome.KNOWN]), "now": now, "until": until})
    if Outcome.RETRIED in by_outcome:
        tx.execute(_retried, {"keys": _keys(by_outcome[Outcome.RETRIED]), "now": now, "until": until})
        _count(tx, asked.network, now, until)
    if Outcome.NEW in by_outcome:
        _begin(tx, asked.network, by_outcome[Outcome.NEW], settings, now)
    return made


def _keys(triplets: Iterable[Triplet]) -> list[bytes]:
    return sorted(one.key for one in triplets)


def _begin(tx: Connection, network: str, triplets: Sequence[Triplet], settings: GreylistSettings, now: int) -> None:
    """Note first attempts. Two gateways may note one at the same time: the first stays."""
    room = MAX_WAITING_OF_NETWORK - len(tx.execute(_waiting, {"network": network}).all())
    new = {one.key: one for one in triplets}
    values = [
        {
            "triplet_key": key,
            **new[key]._asdict(),
            "is_known": False,
            "first_at": now,
            "used_at": now,
            "expires_at": now + settings.retry_within,
        }
        for key in sorted(new)[: max(room, 0)]
    ]
    if values:
        statement = insert_into(tx, _t)
        anew = {name: statement.excluded[name] for name in ("is_known", "first_at", "used_at", "expires_at")}
        tx.execute(
            statement.on_conflict_do_update(index_elements=["triplet_key"], set_=anew, where=_t.c.expires_at <= now),
            values,
        )


def _count(tx: Connection, network: str, now: int, until: int) -> None:
    """Count a retry for its network, if the last one that was counted is old enough."""
    expired = and_(_p.c.expires_at.is_not(None), _p.c.expires_at <= now)
    counts = _p.c.counted_at <= now - COUNT_SPACING
    statement = insert_into(tx, _p).values(
        subject=network, is_allowed=False, times=1, counted_at=now, used_at=now, expires_at=until
    )
    tx.execute(
        statement.on_conflict_do_update(
            index_elements=["subject"],
            set_={
                "times": case((expired, 1), (counts, _p.c.times + 1), else_=_p.c.times),
                "counted_at": case((or_(expired, counts), now), else_=_p.c.counted_at),
                "used_at": now,
                "expires_at": case((_p.c.is_allowed, None), else_=until),
            },
        )
    )


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
