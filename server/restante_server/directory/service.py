"""The stateful parts of the directory in one core process, put together."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from restante_server.db.engine import Database
from restante_server.db.errors import NoSealingKey
from restante_server.db.operation import Write
from restante_server.directory import domain_keys, exchanges, keys, lasting_secrets, states, throttle
from restante_server.directory.credentials import Passwords
from restante_server.directory.keys import KeyRing
from restante_server.directory.login import Logins
from restante_server.directory.sessions import Sessions
from restante_server.directory.settings import AuthenticationSettings


@dataclass(frozen=True, slots=True)
class Directory:
    """Sessions, logins and keys. Accounts, domains and aliases are functions of a transaction in other modules."""

    db: Database
    settings: AuthenticationSettings
    keys: KeyRing
    passwords: Passwords
    logins: Logins
    sessions: Sessions

    @classmethod
    async def open(cls, db: Database, settings: AuthenticationSettings) -> Directory:
        """Make the parts for a store that has its sealing key (`keys.create`), and read the ended sessions.

        Raises NoSealingKey.
        """
        found = await db.read(keys.load)
        if not found:
            raise NoSealingKey(keys.NONE)
        ring = KeyRing(found)
        passwords = Passwords(settings.hashes)
        logins = Logins(db, ring, passwords, settings.throttle)
        sessions = Sessions(db, ring, settings.sessions)
        await sessions.refresh()
        return cls(db, settings, ring, passwords, logins, sessions)

    async def tidy(self, now: int) -> None:
        """Rotate the sealing key when it is due, and delete expired rows. Call it every few minutes."""

        def write(tx: Connection) -> None:
            before = KeyRing(keys.load(tx))
            if keys.rotate(tx, now, self.settings.sessions.key_days):
                after = KeyRing(keys.load(tx))
                domain_keys.reseal(tx, before, after)
                lasting_secrets.reseal(tx, before, after)
            states.forget(tx)
            exchanges.forget(tx, now)
            throttle.forget(tx, now, self.settings.throttle)

        await self.db.write(Write(write))

    def close(self) -> None:
        """Stop the hashing threads."""
        self.passwords.close()
