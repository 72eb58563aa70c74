"""The keys that sign a domain's outbound mail: prepared, active, retired, revoked (docs/design.md "Signing").

The private keys lie in the store under its sealing keys. Sealing keys are replaced every few weeks; `reseal` seals the
private keys anew in the transaction that replaces them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, bindparam, delete, exists, insert, select, update

from restante.errors import DomainKeyExists, DomainKeyNotFound, DomainKeyState, InvalidArgument
from restante_server.db.schema import domain, domain_key
from restante_server.directory import domains, signing_keys
from restante_server.directory.keys import DAY, KeyRing, NotSealed
from restante_server.directory.signing_keys import Algorithm, KeyPair

log = logging.getLogger(__name__)

PURPOSE = b"restante domain key 1"
PUBLISH_DAYS = 14  # a message waits in queues for about five days, and its readers check it later

_k = domain_key


class KeyState(IntEnum):
    """The state of a key. Numbers as in the contract's DomainKeyState."""

    PREPARED = 1
    ACTIVE = 2
    RETIRED = 3
    REVOKED = 4


@dataclass(frozen=True, slots=True)
class DomainKey:
    """One key without its private part. Times are microseconds."""

    key_id: int
    domain: str  # A-labels
    selector: str
    algorithm: Algorithm
    state: KeyState
    public_key: bytes
    prepared_at: int
    activated_at: int | None
    retired_at: int | None
    publish_until: int | None
    revoked_at: int | None

    @property
    def record_name(self) -> str:
        """The name of the TXT record."""
        return signing_keys.record_name(self.selector, self.domain)

    @property
    def record_text(self) -> str:
        """The text of the TXT record to publish now."""
        return signing_keys.record_text(self.algorithm, b"" if self.state is KeyState.REVOKED else self.public_key)


class NewKey(NamedTuple):
    """A key to add."""

    pair: KeyPair
    selector: str  # lower case; "": the usual one


class Sealed(NamedTuple):
    """An active key with its private part under a sealing key."""

    key_id: int
    domain: str
    selector: str
    algorithm: Algorithm
    private_key: bytes

    def open(self, keys: KeyRing) -> bytes:
        """The private key, PKCS #8. Raises NotSealed."""
        try:
            return keys.open(_purpose(self.domain, self.selector), self.private_key)
        except NotSealed as problem:
            raise NotSealed(f"the private key {self.selector}._domainkey.{self.domain}: {problem}") from None


_keys = select(
    _k.c.key_id,
    domain.c.ascii_name.label("domain"),
    _k.c.selector,
    _k.c.algorithm,
    _k.c.state,
    _k.c.public_key,
    _k.c.prepared_at,
    _k.c.activated_at,
    _k.c.retired_at,
    _k.c.publish_until,
    _k.c.revoked_at,
).join(domain, domain.c.domain_id == _k.c.domain_id)
_active = (
    select(_k.c.key_id, domain.c.ascii_name, _k.c.selector, _k.c.algorithm, _k.c.private_key)
    .join(domain, domain.c.domain_id == _k.c.domain_id)
    .where(_k.c.state == int(KeyState.ACTIVE), domain.c.ascii_name.in_(bindparam("names", expanding=True)))
    .order_by(_k.c.algorithm)
)

_with_keys = select(domain.c.ascii_name).where(
    domain.c.ascii_name.in_(bindparam("names", expanding=True)),
    exists().where(_k.c.domain_id == domain.c.domain_id, _k.c.state == int(KeyState.ACTIVE)),
)


def create(
    tx: Connection, keys: KeyRing, now: int, name: str, new: Sequence[NewKey], *, only_prepare: bool = False
) -> list[DomainKey]:
    """Add keys of different algorithms to a domain; without `only_prepare` the first of an algorithm is active at once.

    Raises DomainNotFound, DomainKeyExists, having written nothing.
    """
    domain_id = domains.lock(tx, domains.ascii_name(name))
    ascii_name = domains.ascii_name(name)
    known = of_domain(tx, ascii_name)
    taken = {key.selector for key in known}
    signing = {key.algorithm for key in known if key.state is KeyState.ACTIVE}
    today = datetime.fromtimestamp(now // 1_000_000, UTC)
    rows: list[dict[str, Any]] = []
    for pair, wanted in new:
        if wanted in taken:
            raise DomainKeyExists(domain=ascii_name, selector=wanted)
        selector = wanted or signing_keys.usual_selector(pair.algorithm, today, taken)
        taken.add(selector)
        is_active = not only_prepare and pair.algorithm not in signing
        rows.append(
            {
                "domain_id": domain_id,
                "selector": selector,
                "algorithm": int(pair.algorithm),
                "state": int(KeyState.ACTIVE if is_active else KeyState.PREPARED),
                "public_key": pair.public,
                "private_key": keys.seal(_purpose(ascii_name, selector), pair.private),
                "prepared_at": now,
                "activated_at": now if is_active else None,
            }
        )
    tx.execute(insert(_k), rows)
    made = {key.selector: key for key in of_domain(tx, ascii_name)}
    return [made[row["selector"]] for row in rows]


def listing(tx: Connection, name: str, after: tuple[str, str], limit: int) -> list[DomainKey]:
    """At most `limit` keys behind (ASCII name, selector), in that order; of one domain, or of all if `name` is "".

    Raises DomainNotFound.
    """
    ordered = (domain.c.ascii_name, _k.c.selector)
    statement = _keys.order_by(*ordered).limit(limit)
    if name:
        statement = statement.where(domain.c.ascii_name == domains.get(tx, name).ascii_name, _k.c.selector > after[1])
    else:
        behind = (domain.c.ascii_name == after[0]) & (_k.c.selector > after[1])
        statement = statement.where((domain.c.ascii_name > after[0]) | behind)
    return _made(tx, statement)


def of_domain(tx: Connection, ascii_name: str) -> list[DomainKey]:
    """All keys of a domain, in the order of their making."""
    return _made(tx, _keys.where(domain.c.ascii_name == ascii_name).order_by(_k.c.key_id))


def get(tx: Connection, name: str, selector: str) -> DomainKey:
    """One key. Raises DomainNotFound, DomainKeyNotFound."""
    ascii_name = domains.get(tx, name).ascii_name
    found = _made(tx, _keys.where(domain.c.ascii_name == ascii_name, _k.c.selector == selector.lower()))
    if not found:
        raise DomainKeyNotFound(domain=ascii_name, selector=selector)
    return found[0]


def activate(
    tx: Connection, now: int, name: str, selectors: Sequence[str], publish_days: int = PUBLISH_DAYS
) -> tuple[list[DomainKey], list[DomainKey]]:
    """Sign with these keys from now on, or with the latest prepared ones; returns (activated, retired) keys.

    Raises DomainNotFound, DomainKeyNotFound, DomainKeyState (a revoked key), InvalidArgument.
    """
    ascii_name = domains.ascii_name(name)
    domains.lock(tx, ascii_name)
    chosen = [get(tx, name, selector) for selector in selectors] or _latest_prepared(tx, ascii_name)
    if len({key.algorithm for key in chosen}) < len(chosen):
        raise InvalidArgument(field="selectors", problem="must name at most one key of each algorithm")
    for key in chosen:
        if key.state is KeyState.REVOKED:
            raise DomainKeyState(domain=ascii_name, selector=key.selector, problem="is revoked")
    algorithms, named = {key.algorithm for key in chosen}, {key.key_id for key in chosen}
    before = [
        key
        for key in of_domain(tx, ascii_name)
        if key.state is KeyState.ACTIVE and key.algorithm in algorithms and key.key_id not in named
    ]
    # First retire, because a domain has at most one active key of an algorithm at any moment.
    until = now + publish_days * DAY
    _change(tx, before, state=int(KeyState.RETIRED), retired_at=now, publish_until=until)
    fresh = [key for key in chosen if key.state is not KeyState.ACTIVE]
    _change(tx, fresh, state=int(KeyState.ACTIVE), activated_at=now, retired_at=None, publish_until=None)
    return [get(tx, name, key.selector) for key in chosen], [get(tx, name, key.selector) for key in before]


def revoke(tx: Connection, now: int, name: str, selector: str) -> DomainKey:
    """Revoke a key and erase its private part. Raises DomainNotFound, DomainKeyNotFound."""
    domains.lock(tx, domains.ascii_name(name))
    key = get(tx, name, selector)
    if key.state is not KeyState.REVOKED:
        _change(tx, [key], state=int(KeyState.REVOKED), revoked_at=now, private_key=None)
    return get(tx, name, selector)


def remove(tx: Connection, name: str, selector: str) -> None:
    """Remove a key that is not active. Raises DomainNotFound, DomainKeyNotFound, DomainKeyState."""
    domains.lock(tx, domains.ascii_name(name))
    key = get(tx, name, selector)
    if key.state is KeyState.ACTIVE:
        problem = "is active; activate another key or revoke this one first"
        raise DomainKeyState(domain=key.domain, selector=key.selector, problem=problem)
    tx.execute(delete(_k).where(_k.c.key_id == key.key_id))


def signing(tx: Connection, ascii_name: str) -> list[Sealed]:
    """The active keys of a domain, or of the nearest domain above it that has some; [] if there are none.

    A signature of a domain above the author's is aligned with the author's domain (RFC 9989).
    """
    names = _and_above(ascii_name)
    found = [Sealed(*row[:3], Algorithm(row[3]), bytes(row[4])) for row in tx.execute(_active, {"names": names})]
    nearest = max((key.domain for key in found), key=len, default="")
    return [key for key in found if key.domain == nearest]


def with_keys(tx: Connection, ascii_names: Collection[str]) -> frozenset[str]:
    """Those of the domains for which `signing` finds keys."""
    above = {name: _and_above(name) for name in ascii_names}
    names = sorted({each for each_above in above.values() for each in each_above})
    having = set(tx.scalars(_with_keys, {"names": names})) if names else set()
    return frozenset(name for name, each_above in above.items() if having.intersection(each_above))


def _and_above(ascii_name: str) -> list[str]:
    """The domain and those above it."""
    labels = ascii_name.split(".")
    return [".".join(labels[at:]) for at in range(len(labels))]


def with_private_part(tx: Connection, *, lock: bool = False) -> list[Sealed]:
    """All keys that have a private part."""
    statement = select(_k.c.key_id, domain.c.ascii_name, _k.c.selector, _k.c.algorithm, _k.c.private_key)
    held = statement.join(domain, domain.c.domain_id == _k.c.domain_id).where(_k.c.private_key.is_not(None))
    rows = tx.execute(held.with_for_update(of=_k) if lock else held).all()
    return [Sealed(*row[:3], Algorithm(row[3]), bytes(row[4])) for row in rows]


def reseal(tx: Connection, before: KeyRing, after: KeyRing) -> None:
    """Seal every private key anew, with the newest sealing key of `after`. One that cannot be opened stays as it is."""
    for key in with_private_part(tx, lock=True):
        try:
            sealed = after.seal(_purpose(key.domain, key.selector), key.open(before))
        except NotSealed as problem:
            log.error("%s; create another key for the domain", problem)
            continue
        tx.execute(update(_k).where(_k.c.key_id == key.key_id).values(private_key=sealed))


def _latest_prepared(tx: Connection, ascii_name: str) -> list[DomainKey]:
    """The latest prepared key of each algorithm. Raises DomainKeyNotFound."""
    latest = {key.algorithm: key for key in of_domain(tx, ascii_name) if key.state is KeyState.PREPARED}
    if not latest:
        raise DomainKeyNotFound(domain=ascii_name, selector="")
    return list(latest.values())


def _change(tx: Connection, changed: Iterable[DomainKey], **values: object) -> None:
    ids = [key.key_id for key in changed]
    if ids:
        tx.execute(update(_k).where(_k.c.key_id.in_(ids)).values(**values))


def _made(tx: Connection, statement: Select[Any]) -> list[DomainKey]:
    return [
        DomainKey(
            **{
                **row,
                "algorithm": Algorithm(row["algorithm"]),
                "state": KeyState(row["state"]),
                "public_key": bytes(row["public_key"]),
            }
        )
        for row in tx.execute(statement).mappings()
    ]


def _purpose(ascii_name: str, selector: str) -> bytes:
    return b"\0".join((PURPOSE, ascii_name.encode(), selector.encode()))
