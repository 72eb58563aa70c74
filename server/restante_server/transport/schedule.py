"""The times of the next attempt, the warning and the expiry (RFC 5321 4.5.4.1). *Pure.* Times are microseconds."""

from __future__ import annotations

from dataclasses import dataclass

MINUTE = 60 * 1_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Schedule:
    """The retry intervals and deadlines of the queue."""

    first_retry: int = 15 * MINUTE  # after the first attempt; doubles with each further one
    longest_retry: int = 4 * HOUR
    warn_after: int = 4 * HOUR  # from acceptance
    expire_after: int = 5 * DAY

    def next_attempt(self, now: int, attempts: int, accepted_at: int, jitter: float) -> int:
        """The time of the next attempt after `attempts` attempts. `jitter` in [0, 1) spreads recipients that failed
        together.

        It is never later than the expiry, so that the last attempt is made at the expiry.
        """
        pause = min(self.first_retry << min(max(attempts - 1, 0), 20), self.longest_retry)
        following = now + int(pause * (0.8 + 0.4 * jitter))
        return max(now, min(following, self.expires_at(accepted_at)))

    def expires_at(self, accepted_at: int) -> int:
        """The time at which the queue gives up."""
        return accepted_at + self.expire_after

    def warn_at(self, accepted_at: int) -> int:
        """The time at which the sender is warned of the delay."""
        return accepted_at + self.warn_after
