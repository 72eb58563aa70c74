"""Limits on the number and the rate of a client's connections (pure: the clock is passed in)."""

from __future__ import annotations

import enum
from collections import OrderedDict
from dataclasses import dataclass, field

from restante_process.addresses import Network, in_networks, limit_key, parse_networks

LOOPBACK = parse_networks(("127.0.0.0/8", "::1"))


class Refusal(enum.Enum):
    """The reason to refuse a connection; each protocol has a line for each reason."""

    TOO_MANY_CONNECTIONS = "too many connections"
    TOO_MANY_FROM_ADDRESS = "too many connections from your address"
    TOO_FAST = "too many new connections from your address"


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of one process; zero or less means no limit. For `exempt` networks only the total counts."""

    connections: int = 10_000
    connections_per_address: int = 50  # IPv6: per /64
    new_per_minute_per_address: int = 300
    exempt: tuple[Network, ...] = field(default=LOOPBACK)


class RateLimiter:
    """Token buckets by key: `burst` at once, then `per_second`. Keeps at most the `max_keys` latest keys."""

    def __init__(self, per_second: float, burst: float, *, max_keys: int = 65_536) -> None:
        self._per_second, self._burst, self._max_keys = per_second, burst, max_keys
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key: (tokens, time of that count)

    def take(self, key: str, now: float, amount: float = 1.0) -> bool:
        """Take `amount` tokens and return True, or take none and return False. `now` in seconds."""
        tokens, since = self._buckets.pop(key, (self._burst, now))
        tokens = min(self._burst, tokens + max(0.0, now - since) * self._per_second)
        granted = tokens >= amount
        self._buckets[key] = (tokens - amount if granted else tokens, now)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        return granted

    def __len__(self) -> int:
        return len(self._buckets)


class ConnectionLimiter:
    """Counts the connections of a process. Every `admit` that returns None needs one `release`."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.connections = 0
        self._by_address: dict[str, int] = {}
        per_minute = limits.new_per_minute_per_address
        self._rate = RateLimiter(per_minute / 60, per_minute) if per_minute > 0 else None

    def admit(self, host: str, now: float) -> Refusal | None:
        """Count a connection from address `host`, or return the reason to refuse it. `now` in seconds, any origin.

        Clients of a Unix socket have no address (""), so only the total counts them.
        """
        if 0 < self.limits.connections <= self.connections:
            return Refusal.TOO_MANY_CONNECTIONS
        if host and not in_networks(host, self.limits.exempt):
            refusal = self._admit_address(limit_key(host), now)
            if refusal is not None:
                return refusal
        self.connections += 1
        return None

    def _admit_address(self, key: str, now: float) -> Refusal | None:
        held = self._by_address.get(key, 0)
        if 0 < self.limits.connections_per_address <= held:
            return Refusal.TOO_MANY_FROM_ADDRESS
        if self._rate is not None and not self._rate.take(key, now):
            return Refusal.TOO_FAST
        self._by_address[key] = held + 1
        return None

    def release(self, host: str) -> None:
        """Uncount one connection that `admit(host)` counted."""
        self.connections -= 1
        if not host or in_networks(host, self.limits.exempt):
            return
        key = limit_key(host)
        held = self._by_address[key] - 1
        if held:
            self._by_address[key] = held
        else:
            del self._by_address[key]
