"""When a session token is renewed, and which announcement ends its session (pure: the clock is passed in).

The core says how long a token is good from its answer on. That time is counted on a monotonic clock from the moment the
answer came: the wall clocks of two machines may differ by more than a token lives.
"""

from __future__ import annotations

from dataclasses import dataclass

from restante.v1.session_pb2 import Session
from restante.v1.sync_pb2 import SessionsEnded

RENEWED_AT = 0.5  # of a token's life: the other half is for a core that is away
TRIES = 10  # within that half
SHORTEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 20.0


@dataclass(frozen=True, slots=True)
class Renewal:
    """The moments of one token. Seconds of the monotonic clock that `of` was given."""

    due_at: float
    lapses_at: float
    pause_seconds: float  # before another try, when a renewal came to nothing

    @classmethod
    def of(cls, session: Session, arrived_at: float, spread: float = 0.0) -> Renewal:
        """Of the session in an answer that came at `arrived_at`. `spread`, 0 to 1, brings it forward by up to a tenth:
        tokens that were issued together need not be renewed together."""
        lifetime = session.lifetime_milliseconds / 1_000
        pause = min(max(lifetime * (1 - RENEWED_AT) / TRIES, SHORTEST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
        due = max(lifetime * RENEWED_AT * (1 - 0.1 * spread), SHORTEST_PAUSE_SECONDS)
        return cls(arrived_at + due, arrived_at + lifetime, pause)


def is_ended_by(session: Session, notice: SessionsEnded) -> bool:
    """Whether an announcement concerns this session: it names the token, or a later version of the credentials."""
    if notice.account_id != session.account_id:
        return False
    if notice.session_token:
        return notice.session_token == session.session_token
    return session.credential_version < notice.credential_version
