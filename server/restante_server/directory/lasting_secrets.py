"""Secrets that outlive the sealing keys under which they lie. `reseal` seals them anew when those are replaced.

A secret has numbered versions. The latest is in use; earlier ones stay while something made with them is valid.
"""

from __future__ import annotations

import logging
import secrets
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, select, update

from restante_server.db.schema import lasting_secret as table
from restante_server.db.upsert import insert_missing
from restante_server.directory import keys
from restante_server.directory.keys import KeyRing, NotSealed

log = logging.getLogger(__name__)

PURPOSE = b"restante lasting secret 1 "
SECRET_OCTETS = 32

_versions = select(table.c.number, table.c.sealed).order_by(table.c.number.desc())


class Version(NamedTuple):
    """One version of a secret."""

    number: int
    secret: bytes


def unopened(tx: Connection, ring: KeyRing) -> list[str]:
    """One line for each version of a secret that these sealing keys do not open."""
    found = []
    for name, number, sealed in tx.execute(select(table.c.name, table.c.number, table.c.sealed)):
        try:
            ring.open(_purpose(name, number), bytes(sealed))
        except NotSealed as problem:
            found.append(f"version {number} of the secret {name}: {problem}")
    return found


def find(tx: Connection, name: str) -> list[Version]:
    """All versions of a secret, the latest first; none if it has not been made."""
    found = tx.execute(_versions.where(table.c.name == name)).all()
    if not found:
        return []
    ring = KeyRing(keys.load(tx))
    return [Version(number, ring.open(_purpose(name, number), bytes(sealed))) for number, sealed in found]


def get(tx: Connection, name: str, now: int) -> list[Version]:
    """The same; a first version is made now if there is none. Cores that make it at once get the same one."""
    found = find(tx, name)
    if not found:
        _make(tx, name, 1, now)
        found = find(tx, name)
    return found


def latest(tx: Connection, name: str) -> int:
    """The number of the version in use; 0 if the secret has not been made."""
    return tx.scalar(select(func.max(table.c.number)).where(table.c.name == name)) or 0


def replace(tx: Connection, name: str, now: int) -> None:
    """Make a new version, which is in use from now on."""
    _make(tx, name, latest(tx, name) + 1, now)


def renew(tx: Connection, name: str, now: int, after: int) -> bool:
    """Make a new version if the latest is older than `after` (microseconds); returns whether it was."""
    made_at = tx.scalar(select(func.max(table.c.created_at)).where(table.c.name == name))
    if made_at is None or now - made_at < after:
        return False
    replace(tx, name, now)
    return True


def forget(tx: Connection, name: str, before: int) -> int:
    """Delete the versions whose successors were made before a moment (microseconds); returns their number."""
    later = select(func.max(table.c.number)).where(table.c.name == name, table.c.created_at < before).scalar_subquery()
    return tx.execute(delete(table).where(table.c.name == name, table.c.number < later)).rowcount


def reseal(tx: Connection, before: KeyRing, after: KeyRing) -> None:
    """Seal every secret anew, with the newest sealing key of `after`. One that cannot be opened stays as it is."""
    held = select(table.c.name, table.c.number, table.c.sealed).with_for_update()
    for name, number, sealed in tx.execute(held).all():
        purpose = _purpose(name, number)
        try:
            again = after.seal(purpose, before.open(purpose, bytes(sealed)))
        except NotSealed as problem:
            log.error("version %d of the secret %s: %s", number, name, problem)
            continue
        tx.execute(update(table).where(table.c.name == name, table.c.number == number).values(sealed=again))


def _make(tx: Connection, name: str, number: int, now: int) -> None:
    sealed = KeyRing(keys.load(tx)).seal(_purpose(name, number), secrets.token_bytes(SECRET_OCTETS))
    tx.execute(insert_missing(tx, table).values(name=name, number=number, sealed=sealed, created_at=now))


def _purpose(name: str, number: int) -> bytes:
    return PURPOSE + f"{name} {number}".encode()
