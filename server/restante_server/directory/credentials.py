"""Passwords: hashing on threads, a bounded number at once, and a cache of verified passwords for a few minutes.

Unknown accounts take the same time and get the same answer as known ones: every attempt verifies a hash, which is a
dummy when the account does not exist. The cache holds only successes, as digests under a key of this process.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeVar

from argon2.exceptions import Argon2Error, InvalidHash
from argon2.low_level import Type, hash_secret, verify_secret
from sqlalchemy import Connection, bindparam, insert, select, update

from restante.errors import InvalidArgument, StoreBusy, WeakPassword
from restante.v1.session_pb2 import Scope
from restante_server.db.schema import account, credential
from restante_server.directory.secret import MAX_PASSWORD_OCTETS, Secret
from restante_server.directory.settings import HashSettings
from restante_server.directory.states import COLUMNS, AccountState

_T = TypeVar("_T")

MIN_PASSWORD_CHARACTERS = 8
SALT_OCTETS = 16
HASH_OCTETS = 32
PASSWORD_ID = 1  # the account's own password
ALL_SCOPES = sum(1 << scope for scope in (Scope.SCOPE_API, Scope.SCOPE_IMAP, Scope.SCOPE_POP3, Scope.SCOPE_SMTP_SUBMIT))

_BASE64 = r"[A-Za-z0-9+/]"
_PHC = re.compile(
    rf"\$argon2id\$v=19\$m=([1-9][0-9]{{0,9}}),t=([1-9][0-9]{{0,9}}),p=([1-9][0-9]{{0,9}})"
    rf"\$({_BASE64}{{11,86}})\$({_BASE64}{{16,128}})"
)


class CredentialKind(IntEnum):
    """The kind of a credential row."""

    PASSWORD = 1


@dataclass(frozen=True, slots=True)
class StoredPassword:
    """The stored password of an account."""

    state: AccountState
    credential_id: int
    version: int
    verifier: str  # PHC string
    scopes: int  # sum of 1 << Scope


_stored = (
    select(*COLUMNS, credential.c.credential_id, credential.c.version, credential.c.verifier, credential.c.scopes)
    .join_from(account, credential, credential.c.account_id == account.c.account_id)
    .where(account.c.address_key == bindparam("wanted"), credential.c.kind == int(CredentialKind.PASSWORD))
)


def find(tx: Connection, address_key: str) -> StoredPassword | None:
    """The stored password of the account with this address, or None when there is no such account."""
    row = tx.execute(_stored, {"wanted": address_key}).first()
    if row is None:
        return None
    return StoredPassword(AccountState(*row[: len(COLUMNS)]), *row[len(COLUMNS) :])


def create(tx: Connection, account_id: int, verifier: str, now: int) -> None:
    """Insert the password of a new account."""
    tx.execute(
        insert(credential).values(
            account_id=account_id,
            credential_id=PASSWORD_ID,
            kind=int(CredentialKind.PASSWORD),
            verifier=verifier,
            scopes=ALL_SCOPES,
            version=1,
            created_at=now,
        )
    )


def replace(tx: Connection, account_id: int, verifier: str) -> None:
    """Set another password. The caller ends the sessions with `accounts.raise_version`."""
    tx.execute(
        update(credential)
        .where(credential.c.account_id == account_id, credential.c.credential_id == PASSWORD_ID)
        .values(verifier=verifier, version=credential.c.version + 1)
    )


def refresh_verifier(tx: Connection, stored: StoredPassword, verifier: str) -> None:
    """Replace the hash by one of the same password with other parameters, unless the password has changed meanwhile."""
    tx.execute(
        update(credential)
        .where(
            credential.c.account_id == stored.state.account_id,
            credential.c.credential_id == stored.credential_id,
            credential.c.version == stored.version,
            credential.c.verifier == stored.verifier,
        )
        .values(verifier=verifier)
    )


def names_of(address: str, display_name: str) -> tuple[str, ...]:
    """The names that a password must not equal."""
    return (address, address.rpartition("@")[0], display_name)


def check_strength(password: Secret, *names: str) -> None:
    """Raise WeakPassword for a password that is too short or long, has control characters, or equals a name."""
    text = password.reveal()
    if len(text) < MIN_PASSWORD_CHARACTERS:
        raise WeakPassword(problem=f"has fewer than {MIN_PASSWORD_CHARACTERS} characters")
    if len(password.octets()) > MAX_PASSWORD_OCTETS:
        raise WeakPassword(problem=f"has more than {MAX_PASSWORD_OCTETS} octets")
    if any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in text):
        raise WeakPassword(problem="has control characters, which no login form can send")
    folded = text.casefold()
    if any(name and folded == name.casefold() for name in names):
        raise WeakPassword(problem="equals the name or address")


def check_imported(verifier: str, settings: HashSettings) -> None:
    """Raise InvalidArgument unless this is an argon2id hash in PHC form within the limits of `settings`."""
    found = _PHC.fullmatch(verifier)
    if found is None:
        raise InvalidArgument(field="password_hash", problem="must be an argon2id hash of version 19 in PHC form")
    memory, passes, lanes = (int(found.group(place)) for place in (1, 2, 3))
    if memory > settings.max_memory_kib or passes > settings.max_passes or lanes > settings.max_lanes:
        limits = f"m={settings.max_memory_kib},t={settings.max_passes},p={settings.max_lanes}"
        raise InvalidArgument(field="password_hash", problem=f"must have parameters of at most {limits}")
    if memory < 8 * lanes:  # RFC 9106 3.1
        raise InvalidArgument(field="password_hash", problem="must have at least 8 KiB of memory for each lane")
    try:
        verify_secret(verifier.encode(), b"", Type.ID)
    except InvalidHash as error:
        raise InvalidArgument(field="password_hash", problem="cannot be decoded") from error
    except Argon2Error:
        return  # the hash was decoded and computed; only the empty password did not match


class Passwords:
    """Hashes and verifies passwords on its threads. Use it on the event loop only."""

    def __init__(self, settings: HashSettings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._monotonic = settings, monotonic
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="password")
        self._free = asyncio.Semaphore(settings.threads)
        self._waiting = 0
        self._cache_key = secrets.token_bytes(32)
        self._proven: dict[bytes, float] = {}  # {digest: expiry}, in the order of verification
        self._running: dict[bytes, asyncio.Task[bool]] = {}
        self._dummy = _hash(secrets.token_bytes(16), settings)
        self.proofs = 0  # number of hashes verified since the start; for metrics, and for tests of equal cost

    async def hash(self, password: Secret) -> str:
        """Make a PHC string. Raises StoreBusy when too many calls wait."""
        return await self._on_thread(lambda: _hash(password.octets(), self._settings))

    def needs_rehash(self, verifier: str) -> bool:
        """Whether a new hash would have other parameters."""
        settings = self._settings
        return not verifier.startswith(
            f"$argon2id$v=19$m={settings.memory_kib},t={settings.passes},p={settings.lanes}$"
        )

    async def prove(
        self, name_key: str, stored: StoredPassword | None, password: Secret, before: Callable[[], None]
    ) -> bool:
        """Whether the password is the stored one. `stored` is None for an unknown name, which costs the same time.

        `before` is called when a thread is free; an exception from it ends the attempt. Equal concurrent attempts share
        one verification, as when a mail client opens several connections. Raises StoreBusy when too many calls wait.
        """
        digest = self._digest(name_key, stored, password)
        until = self._proven.get(digest)
        if until is not None and self._monotonic() < until:
            return True
        running = self._running.get(digest)
        if running is None:
            running = asyncio.create_task(self._prove(stored, password, digest, before))
            self._running[digest] = running
            running.add_done_callback(lambda task: self._ended(digest, task))
        return await asyncio.shield(running)

    async def check_imported(self, verifier: str) -> None:
        """Run `check_imported`, which computes the hash once, on a thread. Also raises StoreBusy when too many calls
        wait."""
        await self._on_thread(lambda: check_imported(verifier, self._settings))

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ended(self, digest: bytes, task: asyncio.Task[bool]) -> None:
        self._running.pop(digest, None)
        if not task.cancelled():
            task.exception()  # marks it as retrieved: possibly no caller waits any more, and waiting ones got it

    async def _prove(
        self, stored: StoredPassword | None, password: Secret, digest: bytes, before: Callable[[], None]
    ) -> bool:
        verifier = stored.verifier if stored is not None else self._dummy
        octets = password.octets()[: MAX_PASSWORD_OCTETS + 1]  # one octet more than any stored password has
        right = await self._on_thread(lambda: _verify(verifier, octets), before)
        self.proofs += 1
        if right and stored is not None:
            self._proven.pop(digest, None)
            self._proven[digest] = self._monotonic() + self._settings.cache_seconds
            if len(self._proven) > self._settings.cache_entries:
                self._proven.pop(next(iter(self._proven)))
        return right and stored is not None

    async def _on_thread(self, work: Callable[[], _T], before: Callable[[], None] | None = None) -> _T:
        if self._waiting >= self._settings.max_waiting:
            raise StoreBusy("Too many logins at once; try again shortly.", retry_seconds=1.0)
        self._waiting += 1
        try:
            async with self._free:
                if before is not None:
                    before()
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._waiting -= 1

    def _digest(self, name_key: str, stored: StoredPassword | None, password: Secret) -> bytes:
        ids = (stored.state.account_id, stored.credential_id, stored.version) if stored is not None else (0, 0, 0)
        # The name is part of the digest only for unknown accounts: attempts on two unknown names must not be shared.
        name = b"" if stored is not None else name_key.encode("utf-8", "surrogateescape")
        mac = hmac.new(self._cache_key, b"%d %d %d %d " % (*ids, len(name)), hashlib.sha256)
        mac.update(name)
        mac.update(password.octets())
        return mac.digest()


def _hash(password: bytes, settings: HashSettings) -> str:
    encoded = hash_secret(
        password,
        secrets.token_bytes(SALT_OCTETS),
        settings.passes,
        settings.memory_kib,
        settings.lanes,
        HASH_OCTETS,
        Type.ID,
    )
    return encoded.decode("ascii")


def _verify(verifier: str, password: bytes) -> bool:
    try:
        return verify_secret(verifier.encode("ascii"), password, Type.ID)
    except Argon2Error:
        return False
