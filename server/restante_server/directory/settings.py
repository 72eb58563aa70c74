"""The settings of logins and sessions, read from the configuration."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import Enum

from restante_process.config import Config


class TlsRule(Enum):
    """The connections over which clients may send passwords (`tls.authentication`)."""

    REQUIRED = "required"  # only encrypted connections
    EXCEPT_LOOPBACK = "except-loopback"  # also unencrypted ones whose ends are both on this machine


@dataclass(frozen=True, slots=True)
class HashSettings:
    """argon2id (RFC 9106): the cost of a new hash, and the largest cost of an imported one.

    The defaults take about 20 ms and 19 MiB. With higher ones a burst of logins after a restart would starve all other
    work; `ThrottleSettings` also slows guessing. The next successful login replaces a stored hash that has other
    parameters.
    """

    memory_kib: int = 19_456
    passes: int = 2
    lanes: int = 1
    max_memory_kib: int = 262_144  # the import refuses a larger value, because each verification would take it
    max_passes: int = 16
    max_lanes: int = 8
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)  # hashes computed concurrently
    max_waiting: int = 256  # logins that may wait for a thread; more get STORE_BUSY
    cache_entries: int = 20_000  # verified passwords in the cache
    cache_seconds: int = 300


@dataclass(frozen=True, slots=True)
class ThrottleSettings:
    """The delays after failed logins. Failures from other addresses never delay the owner of an account."""

    free_failures: int = 5  # of one account from one address, before a delay
    free_address_failures: int = 30  # of one address over all accounts, before a delay: many users may share it
    first_delay_seconds: float = 1.0  # doubles with each further failure
    max_delay_seconds: float = 900.0
    forget_seconds: int = 3_600  # after the last failure
    local_entries: int = 100_000  # keys whose failures a core keeps in memory


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """The lifetimes of sessions, and the sizes of a core's caches."""

    token_seconds: int = 900
    renewable_seconds: int = 24 * 3_600
    opened_tokens: int = 65_536
    account_states: int = 100_000
    key_days: int = 30  # a sealing key seals for so long, and opens for twice as long


@dataclass(frozen=True, slots=True)
class AuthenticationSettings:
    """The settings of authentication."""

    tls: TlsRule = TlsRule.REQUIRED
    hashes: HashSettings = field(default_factory=HashSettings)
    throttle: ThrottleSettings = field(default_factory=ThrottleSettings)
    sessions: SessionSettings = field(default_factory=SessionSettings)
    exchange_seconds: int = 300  # time for the client's response to a SASL challenge

    @classmethod
    def of(cls, settings: Config) -> AuthenticationSettings:
        """Make the settings from the configuration."""
        sessions = settings.sessions
        return cls(
            tls=TlsRule(settings.tls.authentication),
            hashes=HashSettings(memory_kib=sessions.hash_memory_kib, passes=sessions.hash_passes),
            sessions=SessionSettings(
                token_seconds=max(1, round(sessions.token_minutes * 60)),
                renewable_seconds=sessions.renewable_hours * 3_600,
            ),
        )
