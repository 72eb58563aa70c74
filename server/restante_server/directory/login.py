"""Logins: throttled, verified, and with the same answer whether the name, the password or the scope was wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sqlalchemy import Connection

from restante.errors import AuthenticationFailed, InvalidAddress, TooManyAttempts
from restante_mail.envelope.paths import MAX_PATH_OCTETS
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.directory import addresses, credentials, throttle
from restante_server.directory.credentials import Passwords, StoredPassword
from restante_server.directory.keys import KeyRing
from restante_server.directory.secret import Secret
from restante_server.directory.settings import ThrottleSettings
from restante_server.directory.states import AccountState
from restante_server.directory.throttle import Failures, Throttle


@dataclass(frozen=True, slots=True)
class _Found:
    stored: StoredPassword | None
    failures: dict[str, Failures]


class Logins:
    """Verifies names and passwords."""

    def __init__(self, db: Database, keys: KeyRing, passwords: Passwords, settings: ThrottleSettings) -> None:
        self._db, self._keys, self._passwords, self._settings = db, keys, passwords, settings
        self._throttle = Throttle(settings)

    async def prove(self, name: str, password: Secret, scope: int, client_address: str, now: int) -> AccountState:
        """The account with this name and password, when it is enabled and the password permits `scope`.

        Writes only after a failure, and to clear failures or renew a hash. Raises AuthenticationFailed without a
        reason; TooManyAttempts, also for the right password; StoreBusy when too many logins wait.
        """
        name_key = _name_key(name)
        keys = throttle.keys(self._keys, client_address, name_key)

        def look(tx: Connection) -> _Found:
            return _Found(credentials.find(tx, name_key), throttle.failures(tx, keys))

        found = await self._db.read(look)

        def still_allowed() -> None:
            wait = self._throttle.wait_seconds(keys, found.failures, now)
            if wait > 0:
                seconds = math.ceil(wait)
                raise TooManyAttempts(retry_seconds=seconds)

        still_allowed()
        right = await self._passwords.prove(name_key, found.stored, password, still_allowed)
        stored = found.stored
        if not right or stored is None or not stored.state.enabled or not stored.scopes >> scope & 1:
            self._throttle.failed(keys, found.failures, now)
            await self._db.write(Write(lambda tx: throttle.record(tx, keys, now, self._settings), rows=2))
            raise AuthenticationFailed
        self._throttle.succeeded(keys)
        await self._after_success(stored, password, keys.account if keys.account in found.failures else None)
        return stored.state

    async def _after_success(self, stored: StoredPassword, password: Secret, failure_key: str | None) -> None:
        verifier = await self._passwords.hash(password) if self._passwords.needs_rehash(stored.verifier) else None
        if verifier is None and failure_key is None:
            return

        def write(tx: Connection) -> None:
            if failure_key is not None:
                throttle.clear(tx, [failure_key])
            if verifier is not None:
                credentials.refresh_verifier(tx, stored, verifier)

        await self._db.write(Write(write, rows=2))


def _name_key(name: str) -> str:
    try:
        return addresses.key(name)
    except InvalidAddress:
        return "?" + name[:MAX_PATH_OCTETS]  # no address has this key, so the name counts as unknown
