"""Delays after failed logins, counted by client address, and by account and client address.

All cores share the rows. A core also keeps its own failures in memory, so that it stops guesses that wait for a hash as
soon as an earlier guess fails. The owner of the account has another client address and so another key.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, case, delete, select

from restante_server.db.schema import login_failure
from restante_server.db.upsert import insert_into
from restante_server.directory.keys import KeyRing
from restante_server.directory.settings import ThrottleSettings

SECOND = 1_000_000  # microseconds
PURPOSE = b"restante login failure 1"
_MAX_DOUBLINGS = 32


@dataclass(frozen=True, slots=True)
class Failures:
    """The number of failures and the time of the last (microseconds)."""

    count: int
    last_at: int


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a login's rows. They are keyed digests, so that the table reveals neither names nor addresses."""

    address: str
    account: str  # of the account's name and the address


def network(client_address: str) -> str:
    """The unit of counting: an IPv4 address, the /64 of an IPv6 address, or any other text unchanged."""
    try:
        address = ipaddress.ip_address(client_address.partition("%")[0])
    except ValueError:
        return client_address
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return str(address)


def keys(ring: KeyRing, client_address: str, name_key: str) -> Keys:
    """The keys of a login as `name_key` (any text, whether or not it is an account) from an address."""
    place = network(client_address).encode()
    name = name_key.encode("utf-8", "surrogatepass")
    return Keys(ring.digest(PURPOSE, place).hex(), ring.digest(PURPOSE, place, name).hex())


def delay_seconds(failures: Failures | None, free: int, settings: ThrottleSettings, now: int) -> float:
    """The seconds from `now` that a login has to wait after these failures."""
    if failures is None or now - failures.last_at >= settings.forget_seconds * SECOND:
        return 0.0
    beyond = failures.count - free
    if beyond < 0:
        return 0.0
    delay: float = min(settings.first_delay_seconds * 2.0 ** min(beyond, _MAX_DOUBLINGS), settings.max_delay_seconds)
    return max(0.0, delay - (now - failures.last_at) / SECOND)


class Throttle:
    """The policy over the rows and the failures in a core's memory."""

    def __init__(self, settings: ThrottleSettings) -> None:
        self._settings = settings
        self._recent: dict[str, Failures] = {}

    def wait_seconds(self, wanted: Keys, rows: Mapping[str, Failures], now: int) -> float:
        """The seconds that a login with these keys has to wait; `rows` is the result of `failures`."""
        settings = self._settings
        return max(
            delay_seconds(self._worse(wanted.address, rows), settings.free_address_failures, settings, now),
            delay_seconds(self._worse(wanted.account, rows), settings.free_failures, settings, now),
        )

    def _worse(self, key: str, rows: Mapping[str, Failures]) -> Failures | None:
        found = [failures for failures in (rows.get(key), self._recent.get(key)) if failures is not None]
        return max(found, key=lambda failures: failures.count, default=None)

    def failed(self, wanted: Keys, rows: Mapping[str, Failures], now: int) -> None:
        """Count a failed login in this core's memory at once; `record` counts it for all cores."""
        for key in (wanted.address, wanted.account):
            before = self._worse(key, rows)
            fresh = before is None or now - before.last_at >= self._settings.forget_seconds * SECOND
            self._recent.pop(key, None)
            self._recent[key] = Failures(1 if fresh or before is None else before.count + 1, now)
        while len(self._recent) > self._settings.local_entries:
            self._recent.pop(next(iter(self._recent)))

    def succeeded(self, wanted: Keys) -> None:
        """Drop the failures of an account after a successful login. The failures of the address stay."""
        self._recent.pop(wanted.account, None)


_find = select(login_failure.c.failure_key, login_failure.c.failures, login_failure.c.last_at).where(
    login_failure.c.failure_key.in_(bindparam("wanted", expanding=True))
)


def failures(tx: Connection, wanted: Keys) -> dict[str, Failures]:
    """The existing rows of these keys."""
    rows = tx.execute(_find, {"wanted": [wanted.address, wanted.account]})
    return {row.failure_key: Failures(row.failures, row.last_at) for row in rows}


def record(tx: Connection, wanted: Keys, now: int, settings: ThrottleSettings) -> None:
    """Count one failed login."""
    forgotten = now - settings.forget_seconds * SECOND
    for key in sorted((wanted.address, wanted.account)):  # in the same order, so that two cores cannot deadlock
        statement = insert_into(tx, login_failure).values(failure_key=key, failures=1, last_at=now)
        count = case((login_failure.c.last_at < forgotten, 1), else_=login_failure.c.failures + 1)
        tx.execute(
            statement.on_conflict_do_update(index_elements=["failure_key"], set_={"failures": count, "last_at": now})
        )


def clear(tx: Connection, failure_keys: Sequence[str]) -> None:
    """Delete the rows of these keys."""
    tx.execute(delete(login_failure).where(login_failure.c.failure_key.in_(failure_keys)))


def forget(tx: Connection, now: int, settings: ThrottleSettings) -> None:
    """Delete the rows that no longer delay any login."""
    tx.execute(delete(login_failure).where(login_failure.c.last_at < now - settings.forget_seconds * SECOND))
