"""Secrets that outlive the sealing keys under which they lie. `reseal` seals them anew when those are replaced."""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, select, update

from restante_server.db.schema import lasting_secret
from restante_server.db.upsert import insert_missing
from restante_server.directory import keys
from restante_server.directory.keys import KeyRing

PURPOSE = b"restante lasting secret 1 "
SECRET_OCTETS = 32

_sealed = select(lasting_secret.c.sealed)


def find(tx: Connection, name: str) -> bytes | None:
    """A secret; None if it has not been made."""
    sealed = tx.execute(_sealed.where(lasting_secret.c.name == name)).scalar()
    return None if sealed is None else KeyRing(keys.load(tx)).open(_purpose(name), bytes(sealed))


def get(tx: Connection, name: str, now: int) -> bytes:
    """A secret, made now if there is none. Cores that make it at once get the same one."""
    found = find(tx, name)
    if found is None:
        sealed = KeyRing(keys.load(tx)).seal(_purpose(name), secrets.token_bytes(SECRET_OCTETS))
        tx.execute(insert_missing(tx, lasting_secret).values(name=name, sealed=sealed, created_at=now))
        found = find(tx, name)
        assert found is not None
    return found


def reseal(tx: Connection, before: KeyRing, after: KeyRing) -> None:
    """Seal every secret anew, with the newest sealing key of `after`."""
    held = select(lasting_secret.c.name, lasting_secret.c.sealed).with_for_update()
    for name, sealed in tx.execute(held).all():
        again = after.seal(_purpose(name), before.open(_purpose(name), bytes(sealed)))
        tx.execute(update(lasting_secret).where(lasting_secret.c.name == name).values(sealed=again))


def _purpose(name: str) -> bytes:
    return PURPOSE + name.encode()
