"""How logins and sessions are handled, as values that the configuration fills in."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import Enum

from restante_process.config import Config


class TlsRule(Enum):
    """Where a password may be sent (`tls.authentication`)."""

    REQUIRED = "required"  # only over an encrypted connection
    EXCEPT_LOOPBACK = "except-loopback"  # also in the clear when neither end is off this machine


@dataclass(frozen=True, slots=True)
class HashSettings:
    """argon2id (RFC 9106): what a new hash costs, and what one from elsewhere may cost.

    The defaults take about 20 ms and 19 MiB: above them a login storm after a restart would starve everything else,
    and guessing is slowed by `ThrottleSettings` besides. A stored hash with other parameters is made anew when its
    password is next proven.
    """

    memory_kib: int = 19_456
    passes: int = 2
    lanes: int = 1
    max_memory_kib: int = 262_144  # a dearer hash is refused at import: each proof of it would take that much
    max_passes: int = 16
    max_lanes: int = 8
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)  # hashes computed at once
    max_waiting: int = 256  # logins that may wait for a thread; beyond: STORE_BUSY
    cache_entries: int = 20_000  # proven passwords remembered
    cache_seconds: int = 300


@dataclass(frozen=True, slots=True)
class ThrottleSettings:
    """How failed logins slow the next. The owner of an account is never slowed by failures from other addresses."""

    free_failures: int = 5  # of one account from one address before its logins are delayed
    free_address_failures: int = 30  # of one address, whatever the accounts: many people may share it
    first_delay_seconds: float = 1.0  # doubles with each further failure
    max_delay_seconds: float = 900.0
    forget_seconds: int = 3_600  # after the last failure
    local_entries: int = 100_000  # keys whose failures a core remembers in memory


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How long sessions live, and how much of them a core keeps in memory."""

    token_seconds: int = 900
    renewable_seconds: int = 24 * 3_600
    opened_tokens: int = 65_536
    account_states: int = 100_000
    key_days: int = 30  # a sealing key is used to seal for so long, and to open for twice that


@dataclass(frozen=True, slots=True)
class AuthenticationSettings:
    """Everything about proving who calls."""

    tls: TlsRule = TlsRule.REQUIRED
    hashes: HashSettings = field(default_factory=HashSettings)
    throttle: ThrottleSettings = field(default_factory=ThrottleSettings)
    sessions: SessionSettings = field(default_factory=SessionSettings)
    exchange_seconds: int = 300  # a SASL challenge must be answered within

    @classmethod
    def of(cls, settings: Config) -> AuthenticationSettings:
        """From the configuration."""
        sessions = settings.sessions
        return cls(
            tls=TlsRule(settings.tls.authentication),
            hashes=HashSettings(memory_kib=sessions.hash_memory_kib, passes=sessions.hash_passes),
            sessions=SessionSettings(
                token_seconds=max(1, round(sessions.token_minutes * 60)),
                renewable_seconds=sessions.renewable_hours * 3_600,
            ),
        )
