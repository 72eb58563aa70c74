"""The moment to renew a session token, and the announcements that end its session (pure: the clock is passed in).

The core's answer gives the lifetime of a token. The client counts it on a monotonic clock from the answer's arrival,
because the wall clocks of two machines may differ by more than a token's lifetime.
"""

from __future__ import annotations

from dataclasses import dataclass

from restante.v1.session_pb2 import Session
from restante.v1.sync_pb2 import SessionsEnded

RENEWED_AT = 0.5  # of a token's lifetime: the other half is a reserve for an unreachable core
TRIES = 10  # within that reserve
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 20.0  # a tenth of the lifetime, where that is shorter than 2 s


@dataclass(frozen=True, slots=True)
class Renewal:
    """The moments of one token, in seconds of the monotonic clock of `of`'s `arrived_at`."""

    due_at: float
    lapses_at: float
    pause_seconds: float  # before another try after a failed renewal

    @classmethod
    def of(cls, session: Session, arrived_at: float, spread: float = 0.0) -> Renewal:
        """The renewal of a session whose answer arrived at `arrived_at`. `spread`, 0 to 1, brings it forward by up to
        a tenth, so that tokens issued together are not all renewed together."""
        lifetime = session.lifetime_milliseconds / 1_000
        shortest = min(lifetime / 10, SHORTEST_PAUSE_SECONDS) or SHORTEST_PAUSE_SECONDS
        pause = min(max(lifetime * (1 - RENEWED_AT) / TRIES, shortest), LONGEST_PAUSE_SECONDS)
        due = max(lifetime * RENEWED_AT * (1 - 0.1 * spread), shortest)
        return cls(arrived_at + due, arrived_at + lifetime, pause)


def is_ended_by(session: Session, notice: SessionsEnded) -> bool:
    """Whether an announcement ends this session: it names the token or a later version of the credentials."""
    if notice.account_id != session.account_id:
        return False
    if notice.session_token:
        return notice.session_token == session.session_token
    return session.credential_version < notice.credential_version
