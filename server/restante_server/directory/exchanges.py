"""The state of a SASL exchange between two calls: sealed, and valid for one use on any core."""

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
    """The sealed exchange. `binding` holds the values that must be the same at the next step: mechanism, gateway,
    scope."""
    plain = _LAYOUT.pack(secrets.randbits(63), expires_at) + state
    return keys.seal(PURPOSE + binding, plain)


def unseal(keys: KeyRing, binding: bytes, exchange: bytes, now: int) -> tuple[int, int, bytes]:
    """(exchange id, expires at, state). Raises ExchangeInvalid. Only `use` checks that it was not used before."""
    try:
        plain = keys.open(PURPOSE + binding, exchange)
    except NotSealed:
        raise ExchangeInvalid from None
    exchange_id, expires_at = _LAYOUT.unpack_from(plain)
    if expires_at <= now:
        raise ExchangeInvalid
    return exchange_id, expires_at, plain[_LAYOUT.size :]


def use(tx: Connection, exchange_id: int, expires_at: int) -> None:
    """Mark an exchange as used. Raises ExchangeInvalid when it was used before."""
    statement = insert_into(tx, used_exchange).values(exchange_id=exchange_id, expires_at=expires_at)
    # RETURNING decides, because the drivers' row counts of such an insert differ between databases.
    if tx.execute(statement.on_conflict_do_nothing().returning(used_exchange.c.exchange_id)).first() is None:
        raise ExchangeInvalid


def forget(tx: Connection, now: int) -> None:
    """Delete the used exchanges that have expired."""
    tx.execute(delete(used_exchange).where(used_exchange.c.expires_at < now))
