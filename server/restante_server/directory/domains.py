"""The local domains."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

from sqlalchemy import Connection, RowMapping, bindparam, delete, func, select, update

from restante.errors import (
    AddressExists,
    DomainExists,
    DomainNotEmpty,
    DomainNotFound,
    InvalidAddress,
    InvalidArgument,
    RecipientNotFound,
)
from restante_mail.envelope.paths import Path
from restante_server.db.effects import DIRECTORY, invalidate
from restante_server.db.schema import account, alias, domain
from restante_server.db.upsert import insert_missing
from restante_server.directory import addresses
from restante_server.directory.check_rules import DomainRules, OnFailure


class Resending(IntEnum):
    """Permitted recipients of mail that a domain's users resend. Numbers as in the contract's ResendingPolicy."""

    NEVER = 1
    WITHIN_DOMAIN = 2
    ANYWHERE = 3


@dataclass(frozen=True, slots=True)
class Domain:
    """One domain."""

    domain_id: int
    name: str  # as given
    ascii_name: str  # A-labels, lower case
    catch_all: str  # key of an account or alias, "": none
    account_count: int
    alias_count: int
    resending: Resending
    rules: DomainRules


_accounts = select(func.count()).where(account.c.domain_id == domain.c.domain_id).scalar_subquery()
_aliases = select(func.count()).where(alias.c.domain_id == domain.c.domain_id).scalar_subquery()
_domains = select(
    domain.c.domain_id,
    domain.c.name,
    domain.c.ascii_name,
    func.coalesce(domain.c.catch_all, "").label("catch_all"),
    _accounts.label("account_count"),
    _aliases.label("alias_count"),
    domain.c.resending,
    domain.c.failed_dmarc,
    domain.c.forged_sender,
    domain.c.greylisting,
)
_rules = select(domain.c.ascii_name, domain.c.failed_dmarc, domain.c.forged_sender, domain.c.greylisting).where(
    domain.c.ascii_name.in_(bindparam("names", expanding=True))
)

_resending = select(domain.c.resending).where(domain.c.ascii_name == bindparam("name"))


def ascii_name(name: str) -> str:
    """A domain's name in A-labels. Raises InvalidArgument."""
    try:
        return addresses.ascii_domain(name)
    except InvalidAddress as error:
        raise InvalidArgument(field="name", problem=error.metadata["problem"]) from error


def create(tx: Connection, now: int, name: str) -> Domain:
    """Add a domain. Raises DomainExists, InvalidArgument."""
    key = ascii_name(name)
    resending = int(Resending.WITHIN_DOMAIN)
    values = {"ascii_name": key, "name": name, "resending": resending, "created_at": now}
    made = tx.execute(insert_missing(tx, domain).values(values).returning(domain.c.domain_id))
    if made.first() is None:  # no lock could say so before: another core may be making it now
        raise DomainExists(domain=key)
    invalidate(tx, DIRECTORY)
    return get(tx, name)


def get(tx: Connection, name: str) -> Domain:
    """One domain. Raises DomainNotFound, InvalidArgument."""
    key = ascii_name(name)
    row = tx.execute(_domains.where(domain.c.ascii_name == key)).mappings().first()
    if row is None:
        raise DomainNotFound(domain=key)
    return _domain(row)


def listing(tx: Connection, after: str, limit: int) -> list[Domain]:
    """At most `limit` domains behind the ASCII name `after`, in order of ASCII name."""
    statement = _domains.where(domain.c.ascii_name > after).order_by(domain.c.ascii_name).limit(limit)
    return [_domain(row) for row in tx.execute(statement).mappings()]


def oldest(tx: Connection) -> str:
    """The domain that was added first, in A-labels; "" when there is none. The bare address `postmaster` is in it."""
    found: str | None = tx.execute(select(domain.c.ascii_name).order_by(domain.c.domain_id).limit(1)).scalar()
    return found or ""


def set_catch_all(tx: Connection, name: str, address: str) -> Domain:
    """Set the address that receives mail for unknown recipients; "": none.

    Raises DomainNotFound, InvalidAddress, RecipientNotFound when no account or alias here has that address.
    """
    found = get(tx, name)
    key = addresses.key(address) if address else None
    if key is not None and not is_taken(tx, key):
        raise RecipientNotFound(address=address)
    tx.execute(update(domain).where(domain.c.domain_id == found.domain_id).values(catch_all=key))
    invalidate(tx, DIRECTORY)
    return get(tx, name)


def set_resending(tx: Connection, name: str, resending: Resending) -> Domain:
    """Set the permitted recipients of mail that the domain's users resend. Raises DomainNotFound."""
    found = get(tx, name)
    tx.execute(update(domain).where(domain.c.domain_id == found.domain_id).values(resending=int(resending)))
    return get(tx, name)


def resending_of(tx: Connection, ascii_domain: str) -> Resending:
    """The resending policy of a domain; NEVER for a domain that is not local."""
    found = tx.execute(_resending, {"name": ascii_domain}).scalar_one_or_none()
    return Resending(found) if found is not None else Resending.NEVER


def set_rules(
    tx: Connection,
    name: str,
    *,
    failed_dmarc: OnFailure | None = None,
    forged_sender: OnFailure | None = None,
    greylisting: bool | None = None,
) -> Domain:
    """Set what happens to mail from other servers to the domain; None leaves a setting. Raises DomainNotFound."""
    found = get(tx, name)
    rules = DomainRules(
        failed_dmarc or found.rules.failed_dmarc,
        forged_sender or found.rules.forged_sender,
        found.rules.greylisting if greylisting is None else greylisting,
    )
    tx.execute(update(domain).where(domain.c.domain_id == found.domain_id).values(rules._asdict()))
    invalidate(tx, DIRECTORY)
    return get(tx, name)


def rules_of(tx: Connection, ascii_domains: Collection[str]) -> dict[str, DomainRules]:
    """The settings of those of the domains that are local."""
    names = sorted(set(ascii_domains))
    found = tx.execute(_rules, {"names": names}) if names else ()
    return {name: DomainRules(OnFailure(dmarc), OnFailure(forged), grey) for name, dmarc, forged, grey in found}


def remove(tx: Connection, name: str) -> None:
    """Remove a domain. Raises DomainNotFound, DomainNotEmpty."""
    domain_id = lock(tx, ascii_name(name))
    found = get(tx, name)
    if found.account_count or found.alias_count:
        raise DomainNotEmpty(domain=found.ascii_name)
    tx.execute(delete(domain).where(domain.c.domain_id == domain_id))
    invalidate(tx, DIRECTORY)


def lock(tx: Connection, ascii_domain: str) -> int:
    """Lock a domain until the commit and return its id. The lock serialises the creation of addresses in a domain.

    Raises DomainNotFound.
    """
    statement = select(domain.c.domain_id).where(domain.c.ascii_name == ascii_domain).with_for_update()
    domain_id: int | None = tx.execute(statement).scalar()
    if domain_id is None:
        raise DomainNotFound(domain=ascii_domain)
    return domain_id


def is_taken(tx: Connection, key: str) -> bool:
    """Whether an account or alias has this address key."""
    taken = select(account.c.account_id).where(account.c.address_key == key)
    return tx.execute(taken.union_all(select(alias.c.alias_id).where(alias.c.address_key == key))).first() is not None


def claim(tx: Connection, address: Path) -> int:
    """Check that an address is free in a local domain; locks the domain and returns its id.

    Raises DomainNotFound, AddressExists.
    """
    domain_id = lock(tx, address.ascii_domain)
    if is_taken(tx, address.key):
        raise AddressExists(address=str(address))
    invalidate(tx, DIRECTORY)
    return domain_id


def release(tx: Connection, key: str) -> None:
    """Remove an address key that is being deleted from the catch-alls that name it."""
    tx.execute(update(domain).where(domain.c.catch_all == key).values(catch_all=None))
    invalidate(tx, DIRECTORY)


def _domain(row: RowMapping) -> Domain:
    columns = dict(row)
    rules = DomainRules(
        OnFailure(columns.pop("failed_dmarc")), OnFailure(columns.pop("forged_sender")), columns.pop("greylisting")
    )
    return Domain(**{**columns, "resending": Resending(row["resending"]), "rules": rules})
