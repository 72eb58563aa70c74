"""Aliases: addresses that stand for one or more local or foreign recipients."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from restante.errors import AliasNotFound, InvalidAddress, InvalidArgument
from restante_server.db.schema import alias
from restante_server.directory import addresses, domains

MAX_TARGETS = 100


@dataclass(frozen=True, slots=True)
class Alias:
    """One alias."""

    address: str  # as spelled
    address_key: str
    targets: tuple[str, ...]


_aliases = select(alias.c.address, alias.c.address_key, alias.c.targets)


def create(tx: Connection, now: int, address: str, targets: Sequence[str]) -> Alias:
    """Make an alias. Targets need not exist: the sender gets a report on mail that cannot be delivered.

    Raises AddressExists, DomainNotFound, InvalidAddress, InvalidArgument.
    """
    require_count(targets)
    parsed = addresses.parse(address)
    unique: dict[str, str] = {}
    for target in map(addresses.parse, targets):
        unique.setdefault(target.key, str(target))
    domain_id = domains.claim(tx, parsed)
    made = Alias(str(parsed), parsed.key, tuple(unique.values()))
    tx.execute(
        insert(alias).values(
            domain_id=domain_id,
            address=made.address,
            address_key=made.address_key,
            targets=json.dumps(made.targets, ensure_ascii=False),
            created_at=now,
        )
    )
    return made


def require_count(targets: Sequence[str]) -> None:
    """Raise InvalidArgument for no targets or too many."""
    if not 1 <= len(targets) <= MAX_TARGETS:
        raise InvalidArgument(field="targets", problem=f"must be 1 to {MAX_TARGETS} addresses")


def listing(tx: Connection, domain_name: str, after: str, limit: int) -> list[Alias]:
    """At most `limit` aliases of one domain, or of all (""), behind the address key `after`, ordered by key.

    Raises DomainNotFound, InvalidArgument.
    """
    statement = _aliases.where(alias.c.address_key > after).order_by(alias.c.address_key).limit(limit)
    if domain_name:
        statement = statement.where(alias.c.domain_id == domains.get(tx, domain_name).domain_id)
    return [Alias(row.address, row.address_key, read_targets(row.targets)) for row in tx.execute(statement)]


def remove(tx: Connection, address: str) -> None:
    """Remove an alias. Raises AliasNotFound."""
    try:
        key = addresses.key(address)
    except InvalidAddress:
        raise AliasNotFound(address=address) from None
    if tx.execute(delete(alias).where(alias.c.address_key == key)).rowcount == 0:
        raise AliasNotFound(address=address)
    domains.release(tx, key)


def read_targets(stored: str) -> tuple[str, ...]:
    """The addresses in a value of the column `targets`."""
    return tuple(json.loads(stored))
