"""The invariants of the directory's secrets: the sealing keys of the store open all of them."""

from __future__ import annotations

from sqlalchemy import Connection, select

from restante_server.db.schema import store
from restante_server.directory import domain_keys, keys, lasting_secrets
from restante_server.directory.keys import KeyRing, NotSealed

MOST_NAMED = 10  # examples listed for one broken invariant


def check(tx: Connection) -> list[str]:
    """One line for each secret that cannot be opened, or one for a store without sealing keys."""
    found = keys.load(tx)
    if not found:
        return [keys.NONE] if tx.execute(select(store.c.store_id)).first() is not None else []
    ring = KeyRing(found)
    problems = []
    for key in domain_keys.with_private_part(tx):
        try:
            key.open(ring)
        except NotSealed as problem:
            problems.append(f"{problem}; mail of the domain waits until another key signs")
    return problems[:MOST_NAMED] + lasting_secrets.unopened(tx, ring)[:MOST_NAMED]
