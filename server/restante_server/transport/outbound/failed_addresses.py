"""Addresses of other domains to which mail has failed because they do not exist.

A failure is noted in the transaction that settles the recipient; mail that is relayed to the address clears it. Senders
get a warning at Submit. They are never refused: the address may exist by now, and they could not override a refusal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, select

from restante_mail.envelope.outcome_reasons import Reason, reason_of
from restante_mail.envelope.paths import BadPath, parse_path
from restante_server.db.schema import failed_address
from restante_server.db.upsert import insert_into

MAX_ADDRESSES = 100_000
AT_ONCE = 500  # removed in one transaction

_f = failed_address
_columns = (_f.c.address, _f.c.status, _f.c.diagnostic, _f.c.failed_at)
_known = select(*_columns).where(
    _f.c.address_key.in_(bindparam("keys", expanding=True)),
    _f.c.failed_at > bindparam("since"),
    _f.c.failed_at < bindparam("before"),
)
_clear = delete(_f).where(_f.c.address_key.in_(bindparam("keys", expanding=True)))


class Failure(NamedTuple):
    """The last failure of mail to one address. The time is in microseconds."""

    address: str
    status: str
    diagnostic: str
    failed_at: int


def note(tx: Connection, failures: Iterable[Failure]) -> None:
    """Note those failures that say that the address does not exist."""
    rows = {}
    for failure in failures:
        path = _parsed(failure.address)
        if path is not None and reason_of(failure.status, failure.diagnostic) is Reason.BAD_ADDRESS:
            key, domain = path
            rows[key] = {"address_key": key, "domain": domain, **failure._asdict()}
    if rows:
        statement = insert_into(tx, _f)
        renewed = {name: statement.excluded[name] for name in Failure._fields}
        statement = statement.on_conflict_do_update(index_elements=["address_key"], set_=renewed)
        tx.execute(statement, [rows[key] for key in sorted(rows)])


def clear(tx: Connection, paths: Iterable[str]) -> int:
    """Forget the failures of these addresses; returns how many there were."""
    keys = sorted({parsed[0] for path in paths if (parsed := _parsed(path)) is not None})
    return tx.execute(_clear, {"keys": keys}).rowcount if keys else 0


def clear_domain(tx: Connection, domain: str) -> int:
    """Forget the failures of a domain in A-labels, or of all ("")."""
    return tx.execute(delete(_f).where(_f.c.domain == domain) if domain else delete(_f)).rowcount


def among(tx: Connection, paths: Sequence[str], since: int, before: int) -> list[Failure]:
    """The failures of these addresses after `since` and before `before`, in the order of the addresses."""
    keys = sorted({parsed[0] for path in paths if (parsed := _parsed(path)) is not None})
    if not keys:
        return []
    return sorted(Failure._make(row) for row in tx.execute(_known, {"keys": keys, "since": since, "before": before}))


def by_path(tx: Connection, paths: Sequence[str], since: int, before: int) -> dict[str, Failure]:
    """The failures of these addresses after `since` and before `before`, by the path as it is given."""
    failures = {parsed[0]: each for each in among(tx, paths, since, before) if (parsed := _parsed(each.address))}
    keyed = ((path, parsed[0]) for path in paths if (parsed := _parsed(path)) is not None)
    return {path: failures[key] for path, key in keyed if key in failures}


def listing(tx: Connection, domain: str, after: str, since: int, most: int) -> list[tuple[str, Failure]]:
    """At most so many (key, failure) of a domain, or of all (""), with keys behind `after`."""
    statement = select(_f.c.address_key, *_columns).where(_f.c.address_key > after, _f.c.failed_at > since)
    if domain:
        statement = statement.where(_f.c.domain == domain)
    return [(row[0], Failure._make(row[1:])) for row in tx.execute(statement.order_by(_f.c.address_key).limit(most))]


def forget(tx: Connection, before: int) -> int:
    """Remove some failures from before this time, and of more than MAX_ADDRESSES the earliest; returns how many."""
    gone = list(tx.scalars(select(_f.c.address_key).where(_f.c.failed_at <= before).limit(AT_ONCE)))
    if not gone:
        excess = min(tx.scalar(select(func.count()).select_from(_f)) or 0, MAX_ADDRESSES + AT_ONCE) - MAX_ADDRESSES
        if excess > 0:
            gone = list(tx.scalars(select(_f.c.address_key).order_by(_f.c.failed_at).limit(excess)))
    if gone:
        tx.execute(_clear, {"keys": gone})
    return len(gone)


def _parsed(path: str) -> tuple[str, str] | None:
    """(key, domain in A-labels) of an address."""
    try:
        parsed = parse_path(path)
        return parsed.key, parsed.ascii_domain
    except BadPath:
        return None
