"""Bounds and waits of POP3 sessions."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class MaildropSettings:
    """Waits of a session for its maildrop, and for a core that is away. All in seconds."""

    lease_renewed_seconds: float = 20.0  # of the 60 that a lease lasts
    lease_retried_seconds: float = 2.5  # after a renewal that a core which is away did not answer
    release_seconds: float = 8.0  # at QUIT, for a core that is away
    release_pause_seconds: float = 0.5  # between two attempts at that
    read_seconds: float = 5.0  # for a core that is away, while a message is read
    read_pause_seconds: float = 0.2
    walk_idle_seconds: float = 5.0  # after which a client that pauses holds no batches


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Bounds of one session; a process shares one object among all."""

    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    login_seconds: float = 60.0  # from the greeting to the end of a successful login
    max_login_attempts: int = 3
    max_errors: int = 30  # in a row, of commands that were none
    turn_commands: int = 64  # pipelined commands after which other sessions get their turn
    maildrop: MaildropSettings = field(default_factory=MaildropSettings)
