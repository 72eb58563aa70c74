"""A SASL exchange between two calls: its state, sealed, good for one use on any core."""

from __future__ import annotations

import secrets
import struct

from sqlalchemy import Connection, delete

from restante.errors import ExchangeInvalid
from restante_server.db.schema import used_exchange
from restante_server.db.upsert import insert_into
from restante_server.directory.keys import KeyRing, NotSealed

PURPOSE = b"restante exchange 1"
SECOND = 1_000_000  # microseconds
_LAYOUT = struct.Struct(">qq")  # exchange id, expires at (microseconds)


def seal(keys: KeyRing, binding: bytes, state: bytes, expires_at: int) -> bytes:
    """The opaque exchange. `binding` names what must be the same at the next step: mechanism, gateway, scope."""
    plain = _LAYOUT.pack(secrets.randbits(63), expires_at) + state
    return keys.seal(PURPOSE + binding, plain)


def unseal(keys: KeyRing, binding: bytes, exchange: bytes, now: int) -> tuple[int, int, bytes]:
    """(exchange id, expires at, state). Raises ExchangeInvalid. Whether it was used before is `use`'s question."""
    try:
        plain = keys.open(PURPOSE + binding, exchange)
    except NotSealed:
        raise ExchangeInvalid from None
    exchange_id, expires_at = _LAYOUT.unpack_from(plain)
    if expires_at <= now:
        raise ExchangeInvalid
    return exchange_id, expires_at, plain[_LAYOUT.size :]


def use(tx: Connection, exchange_id: int, expires_at: int) -> None:
    """Spend it. Raises ExchangeInvalid when it was spent before."""
    statement = insert_into(tx, used_exchange).values(exchange_id=exchange_id, expires_at=expires_at)
    # By what it returns: the driver's count of such an insert differs between databases.
    if tx.execute(statement.on_conflict_do_nothing().returning(used_exchange.c.exchange_id)).first() is None:
        raise ExchangeInvalid


def forget(tx: Connection, now: int) -> None:
    """Drop those that have expired besides."""
    tx.execute(delete(used_exchange).where(used_exchange.c.expires_at < now))
