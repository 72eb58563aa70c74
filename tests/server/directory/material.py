"""A store with one domain and a few accounts, and cheap hashes."""

from __future__ import annotations

from sqlalchemy import Connection, insert

from restante_server.accounts import lifecycle
from restante_server.db import schema
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.directory import accounts, domains, keys
from restante_server.directory.credentials import Passwords
from restante_server.directory.secret import Secret
from restante_server.directory.settings import AuthenticationSettings, HashSettings

NOW = 1_790_000_000_000_000  # microseconds
SECOND = 1_000_000
HASHES = HashSettings(memory_kib=64, passes=1, threads=2, max_waiting=50)
SETTINGS = AuthenticationSettings(hashes=HASHES)


def create_store(tx: Connection) -> None:
    """Create the row of a store's facts, its first key, and the domain example.test."""
    tx.execute(insert(schema.store).values(store_id=1, store_uuid="0", epoch=1, uid_validity_next=1, created_at=NOW))
    keys.create(tx, NOW)
    domains.create(tx, NOW, "example.test")


async def make_store(database: Database) -> None:
    await database.write(Write(create_store))


async def make_account(
    database: Database, address: str, password: str = "", *, display_name: str = "", administrator: bool = False
) -> accounts.Account:
    """Create an account. Its default password is `NAME-demo`."""
    passwords = Passwords(HASHES)
    verifier = await passwords.hash(Secret(password or f"{address.partition('@')[0]}-demo"))
    passwords.close()
    new = accounts.NewAccount(address, verifier, display_name=display_name, administrator=administrator)
    return await database.write(Write(lambda tx: lifecycle.create(tx, NOW, new), rows=20))
