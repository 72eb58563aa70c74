"""Sealing keys: every core of the store, and no other process, can open the octets that one core has sealed.

AES-256-GCM with a random nonce. The purpose is associated data, so that octets sealed for one purpose cannot be opened
for another.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Connection, delete, insert, select

from restante_server.db.schema import sealing_key

KEY_OCTETS = 32
NONCE_OCTETS = 12
OVERHEAD_OCTETS = 1 + NONCE_OCTETS + 16  # key id, nonce, tag
DAY = 24 * 3_600 * 1_000_000  # microseconds
_KEY_IDS = 256  # one octet names the key; far fewer keys exist at a time


NONE = "the store has no sealing key, so nobody can log in and no mail is signed: restore a backup with all its tables"


class NotSealed(ValueError):
    """The octets were not sealed by this store for this purpose, or their key has been deleted."""


class KeyRing:
    """The keys of a store in memory: the newest seals, all of them open."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        self.replace(keys)

    def replace(self, keys: Mapping[int, bytes]) -> None:
        """Use these keys from now on: {key id: secret}, at least one."""
        if not keys:
            raise ValueError("a store has at least one sealing key")
        self._newest = max(keys)
        self._ciphers = {key_id % _KEY_IDS: AESGCM(secret) for key_id, secret in keys.items()}
        # Digests use the oldest key, so that they survive as many rotations as possible.
        self._oldest_secret = keys[min(keys)]

    def seal(self, purpose: bytes, plain: bytes) -> bytes:
        """Sealed octets, OVERHEAD_OCTETS longer than `plain`."""
        nonce = secrets.token_bytes(NONCE_OCTETS)
        name = self._newest % _KEY_IDS
        return bytes([name]) + nonce + self._ciphers[name].encrypt(nonce, plain, purpose)

    def knows(self, sealed: bytes) -> bool:
        """Whether the ring has the key that the octets name."""
        return bool(sealed) and sealed[0] in self._ciphers

    def open(self, purpose: bytes, sealed: bytes) -> bytes:
        """The plain octets. Raises NotSealed."""
        cipher = self._ciphers.get(sealed[0]) if len(sealed) >= OVERHEAD_OCTETS else None
        if cipher is None:
            raise NotSealed("sealed under a key that this store does not have")
        try:
            return cipher.decrypt(sealed[1 : 1 + NONCE_OCTETS], sealed[1 + NONCE_OCTETS :], purpose)
        except InvalidTag:
            raise NotSealed("sealed for another purpose, or changed") from None

    def digest(self, purpose: bytes, *parts: bytes) -> bytes:
        """A keyed digest of `parts`, 32 octets; without the key it reveals nothing about them."""
        mac = hmac.new(self._oldest_secret, purpose, hashlib.sha256)
        for part in parts:
            mac.update(len(part).to_bytes(4, "big") + part)
        return mac.digest()


def create(tx: Connection, now: int) -> None:
    """Add a key, which seals from now on."""
    newest: int = tx.execute(select(sealing_key.c.key_id).order_by(sealing_key.c.key_id.desc()).limit(1)).scalar() or 0
    tx.execute(insert(sealing_key).values(key_id=newest + 1, secret=secrets.token_bytes(KEY_OCTETS), created_at=now))


def load(tx: Connection) -> dict[int, bytes]:
    """{key id: secret} of all keys."""
    rows = tx.execute(select(sealing_key.c.key_id, sealing_key.c.secret))
    return {key_id: bytes(secret) for key_id, secret in rows}


def rotate(tx: Connection, now: int, days: int) -> bool:
    """Add a key when the newest has sealed for `days`, and delete those older than twice that.

    Returns whether a key was added. The octets that a deleted key sealed cannot be opened any more. What is needed for
    longer than `days` must be sealed anew in the same transaction.
    """
    created: int | None = tx.execute(
        select(sealing_key.c.created_at).order_by(sealing_key.c.key_id.desc()).limit(1)
    ).scalar()
    if created is not None and created > now - days * DAY:
        return False
    create(tx, now)
    tx.execute(delete(sealing_key).where(sealing_key.c.created_at < now - 2 * days * DAY))
    return True
