"""Greylisting for administrators: what is remembered, who is let pass, and what is forgotten."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final, NamedTuple

from sqlalchemy import Connection, delete, func, select

from restante.errors import InvalidAddress, InvalidArgument, LimitExceeded
from restante_process.addresses import parse_address
from restante_server.db.effects import invalidate
from restante_server.db.schema import greylist_pass, greylist_triplet
from restante_server.db.upsert import insert_into
from restante_server.directory import addresses
from restante_server.transport.greylisting.allowed import SHORTEST_IPV4_BITS, SHORTEST_IPV6_BITS
from restante_server.transport.greylisting.rows import AT_ONCE, Pass
from restante_server.transport.greylisting.triplet import network_of

MAX_ALLOWED: Final = 1_000  # subjects that administrators let pass
ALLOWED: Final = "greylist passes of administrators"
"""An invalidation: the subjects that administrators let pass have changed."""

_t, _p = greylist_triplet, greylist_pass


class Remembered(NamedTuple):
    """One triplet. The times are in microseconds."""

    triplet_key: bytes
    network: str
    reverse_path: str
    recipient: str
    is_known: bool
    first_at: int
    used_at: int
    expires_at: int


class Cleared(NamedTuple):
    """The numbers of rows that were removed."""

    triplets: int
    passes: int


def triplets(
    tx: Connection, network: str, recipient: str, after: tuple[str, bytes], now: int, most: int
) -> list[Remembered]:
    """At most so many triplets of a network and a recipient ("": of all) behind `after`, a network and a key."""
    last_network, last_key = after
    statement = select(*(_t.c[name] for name in Remembered._fields)).where(
        (_t.c.network > last_network) | ((_t.c.network == last_network) & (_t.c.triplet_key > last_key)),
        _t.c.expires_at > now,
    )
    if network:
        statement = statement.where(_t.c.network == network)
    if recipient:
        statement = statement.where(_t.c.recipient == recipient)
    return [Remembered._make(row) for row in tx.execute(statement.order_by(_t.c.network, _t.c.triplet_key).limit(most))]


def passes(tx: Connection, after: str, now: int, most: int) -> list[Pass]:
    """At most so many passes with subjects behind `after`."""
    statement = select(*(_p.c[name] for name in Pass._fields)).where(
        _p.c.subject > after, _p.c.expires_at.is_(None) | (_p.c.expires_at > now)
    )
    return [Pass._make(row) for row in tx.execute(statement.order_by(_p.c.subject).limit(most))]


def allowed(tx: Connection) -> list[str]:
    """The subjects that administrators let pass."""
    return list(tx.scalars(select(_p.c.subject).where(_p.c.expires_at.is_(None))))


def allow(tx: Connection, subject: str, now: int) -> Pass:
    """Let the mail of a network, or for a recipient, pass. Raises InvalidArgument, LimitExceeded."""
    name = _network(subject) if "@" not in subject else recipient_key(subject, "subject")
    others = select(func.count()).select_from(_p).where(_p.c.expires_at.is_(None), _p.c.subject != name)
    if (tx.scalar(others) or 0) >= MAX_ALLOWED:
        raise LimitExceeded(limit="greylist_passes", value=MAX_ALLOWED)
    statement = insert_into(tx, _p).values(
        subject=name, is_allowed=True, times=0, counted_at=now, used_at=now, expires_at=None
    )
    tx.execute(
        statement.on_conflict_do_update(index_elements=["subject"], set_={"is_allowed": True, "expires_at": None})
    )
    invalidate(tx, ALLOWED)
    return Pass._make(tx.execute(select(*(_p.c[each] for each in Pass._fields)).where(_p.c.subject == name)).one())


def clear(tx: Connection, names: Sequence[str] | None) -> Cleared:
    """Forget some rows of these networks and recipients (see `names_of`), or of all (None). Zeros: none is left."""
    triplet, passed = select(_t.c.triplet_key), select(_p.c.subject)
    if names is not None:
        triplet = triplet.where(_t.c.network.in_(names) | _t.c.recipient.in_(names))
        passed = passed.where(_p.c.subject.in_(names))
    invalidate(tx, ALLOWED)
    keys, subjects = list(tx.scalars(triplet.limit(AT_ONCE))), list(tx.scalars(passed.limit(AT_ONCE)))
    return Cleared(
        tx.execute(delete(_t).where(_t.c.triplet_key.in_(keys))).rowcount if keys else 0,
        tx.execute(delete(_p).where(_p.c.subject.in_(subjects))).rowcount if subjects else 0,
    )


def names_of(subject: str) -> list[str]:
    """The names under which a network, a client with its network, or a recipient is kept. Raises InvalidArgument."""
    if "@" in subject:
        return [recipient_key(subject, "subject")]
    network = _network(subject)
    return [network] if "/" in subject else [network, network_of(parse_address(subject.strip()))]


def network_in(text: str, field: str) -> str:
    """The network of triplets that a client's address is in, or the network itself. Raises InvalidArgument."""
    try:
        return network_of(parse_address(text)) if "/" not in text else str(ipaddress.ip_network(text))
    except ValueError as error:
        raise InvalidArgument(field=field, problem=f"is no address or network: {error}") from None


def recipient_key(text: str, field: str) -> str:
    """The key of a recipient's address. Raises InvalidArgument."""
    try:
        return addresses.key(text)
    except InvalidAddress as error:
        raise InvalidArgument(field=field, problem=error.metadata["problem"]) from None


def _network(text: str) -> str:
    """A network that may be let pass. Raises InvalidArgument."""
    try:
        network = ipaddress.ip_network(text.strip())
    except ValueError as error:
        raise InvalidArgument(
            field="subject", problem=f"is no address of a recipient, and no network: {error}"
        ) from None
    shortest = SHORTEST_IPV4_BITS if network.version == 4 else SHORTEST_IPV6_BITS
    if network.prefixlen < shortest:
        raise InvalidArgument(field="subject", problem=f"is wider than /{shortest}")
    return str(network)
