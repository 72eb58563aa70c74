"""The rules of greylisting (RFC 6647 5): who is asked to come again, and for how long that counts. *Pure.*

All times are in microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from restante_mail.authentication.results import Identity, Result, ReverseDnsResult, SpfResult
from restante_process.addresses import Network

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
REFRESH: Final = HOUR  # a use is noted after so long; mail within that time writes nothing
COUNT_SPACING: Final = HOUR  # a network proves itself at most once in this time, so that one burst proves nothing


@dataclass(frozen=True, slots=True)
class GreylistSettings:
    """The times of greylisting, and the clients that it does not ask."""

    wait: int = 5 * MINUTE  # least time to the retry
    retry_within: int = 24 * HOUR  # time from the first attempt in which a retry counts
    keep: int = 35 * DAY  # life of a known triplet, and of a proven network, since the last use
    proven_after: int = 5  # triplets after which a network passes without; 0: never
    exempt: tuple[Network, ...] = ()  # clients that are never asked
    skip_passing: frozenset[str] = frozenset()  # of "spf", "helo", "reverse-dns": a client that passes one is not asked


class Seen(NamedTuple):
    """The memory of a triplet."""

    first_at: int
    used_at: int  # the last time that it was noted
    is_known: bool  # it has been retried in time
    expires_at: int


class Outcome(Enum):
    """The outcome for one recipient. The value is its name in metrics."""

    NEW = "deferred"  # first attempt: deferred
    EARLY = "early"  # retried too early: deferred
    RETRIED = "retried"  # retried in time: passes, and the triplet is known from now on
    KNOWN = "known"  # the triplet is known: passes
    PROVEN = "proven"  # the client's network has proven itself, or an administrator lets it or the recipient pass
    PASSING = "passing"  # the client has passed a check that exempts it

    @property
    def is_deferred(self) -> bool:
        """Whether the client has to come again."""
        return self in (Outcome.NEW, Outcome.EARLY)


class Decision(NamedTuple):
    """The decision for one recipient."""

    outcome: Outcome
    wait: int = 0  # until the retry counts
    writes: bool = False  # something has to be noted


def decide(seen: Seen | None, now: int, settings: GreylistSettings) -> Decision:
    """The decision about a triplet. An early retry does not begin the wait anew."""
    if seen is None or seen.expires_at <= now:
        return Decision(Outcome.NEW, settings.wait, writes=True)
    if seen.is_known:
        return Decision(Outcome.KNOWN, writes=now - seen.used_at >= REFRESH)
    left = seen.first_at + settings.wait - now
    if left > 0:
        return Decision(Outcome.EARLY, min(left, settings.wait))
    return Decision(Outcome.RETRIED, writes=True)


def passes_check(spf: tuple[SpfResult, ...], reverse_dns: ReverseDnsResult | None, settings: GreylistSettings) -> bool:
    """Whether a client has passed a check after which it is not asked."""
    wanted = settings.skip_passing
    if "reverse-dns" in wanted and reverse_dns is not None and reverse_dns.result is Result.PASS:
        return True
    identities = {one.identity for one in spf if one.result is Result.PASS}
    return ("spf" in wanted and Identity.MAILFROM in identities) or ("helo" in wanted and Identity.HELO in identities)
