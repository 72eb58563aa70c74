"""Limits and waiting times of POP3 sessions."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class MaildropSettings:
    """Times of a session's maildrop lease and of waiting for an unreachable core. All in seconds."""

    lease_renewed_seconds: float = 20.0  # interval of renewals; a lease lasts 60
    lease_retried_seconds: float = 2.5  # after a failed renewal
    release_seconds: float = 8.0  # at QUIT, for an unreachable core
    release_pause_seconds: float = 0.5  # between two attempts to release
    read_seconds: float = 5.0  # for an unreachable core, while reading a message
    read_pause_seconds: float = 0.2
    walk_idle_seconds: float = 5.0  # an unused walk is closed after this time


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Limits of one session; all sessions of a process share one object."""

    mechanisms: tuple[str, ...] = ("PLAIN", "LOGIN")
    login_seconds: float = 60.0  # from the greeting to the end of a successful login
    max_login_attempts: int = 3
    max_errors: int = 30  # unusable lines in a row
    turn_commands: int = 64  # pipelined commands before the task yields to other sessions
    maildrop: MaildropSettings = field(default_factory=MaildropSettings)
