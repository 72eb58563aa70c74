"""The address book: the accounts and aliases of one domain that its users may see."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Select, and_, literal, or_, select, union_all

from restante.errors import EntryNotFound, InvalidAddress
from restante_server.db.schema import account, alias
from restante_server.directory import addresses, names
from restante_server.directory.names import LIKE_ESCAPE, Match

ACCOUNT, ALIAS = 1, 2  # EntryKind
CONSIDERED = 1_000  # most rows read for one name; a user could not choose among more anyway


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the address book."""

    kind: int  # EntryKind
    display_name: str
    address: str
    name_key: str
    address_key: str


def domain_of(tx: Connection, account_id: int) -> int:
    """The id of an account's domain, 0 when the account is gone."""
    return tx.execute(select(account.c.domain_id).where(account.c.account_id == account_id)).scalar() or 0


def resolve(tx: Connection, domain_id: int, name: str, most: int) -> tuple[list[Entry], bool]:
    """(entries that match `name`, the best first, at most `most`; whether the first is the unambiguous result).

    The result is unambiguous when only one entry matches, or only one matches exactly.
    """
    wanted = names.fold(name)
    if not wanted:
        return [], False
    pattern = names.like_literal(wanted)
    book = _book(domain_id).subquery()
    statement = (
        select(book)
        .where(
            or_(
                book.c.address_key.like(pattern + "%", escape=LIKE_ESCAPE),
                book.c.name_key.like(pattern + "%", escape=LIKE_ESCAPE),
                book.c.name_key.like("% " + pattern + "%", escape=LIKE_ESCAPE),
            )
        )
        .limit(CONSIDERED)
    )
    found = [Entry(*row) for row in tx.execute(statement)]
    ranked = sorted(
        (names.match(wanted, entry.name_key, entry.address_key), entry.address_key, entry) for entry in found
    )
    exact = sum(rank is Match.EXACT for rank, _, _ in ranked)
    resolved = len(ranked) == 1 or exact == 1
    return [entry for _, _, entry in ranked[:most]], resolved


def listing(tx: Connection, domain_id: int, after: tuple[str, str], limit: int) -> list[Entry]:
    """At most `limit` entries behind (name key, address key), ordered by these."""
    book = _book(domain_id).subquery()
    behind = or_(book.c.name_key > after[0], and_(book.c.name_key == after[0], book.c.address_key > after[1]))
    statement = select(book).where(behind).order_by(book.c.name_key, book.c.address_key).limit(limit)
    return [Entry(*row) for row in tx.execute(statement)]


def get(tx: Connection, domain_id: int, address: str) -> Entry:
    """The entry of an address. Raises EntryNotFound."""
    try:
        key = addresses.key(address)
    except InvalidAddress:
        raise EntryNotFound(entry=address) from None
    book = _book(domain_id).subquery()
    row = tx.execute(select(book).where(book.c.address_key == key)).first()
    if row is None:
        raise EntryNotFound(entry=address)
    return Entry(*row)


def _book(domain_id: int) -> Select[tuple[int, str, str, str, str]]:
    people = select(
        literal(ACCOUNT).label("kind"),
        account.c.display_name,
        account.c.address,
        account.c.name_key,
        account.c.address_key,
    ).where(account.c.domain_id == domain_id, account.c.enabled)
    others = select(
        literal(ALIAS).label("kind"),
        literal("").label("display_name"),
        alias.c.address,
        literal("").label("name_key"),
        alias.c.address_key,
    ).where(alias.c.domain_id == domain_id)
    return select(union_all(people, others).subquery())
