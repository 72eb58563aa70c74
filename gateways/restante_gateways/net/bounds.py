"""The bounds of a connection, and the exceptions by which one of them, or the process, ends its session."""

from __future__ import annotations

from dataclasses import dataclass


class Interruption(Exception):
    """Raised by `Connection.read` instead of octets. The session says goodbye in its protocol's words and returns."""


class Draining(Interruption):
    """The process is going down."""


class TimedOut(Interruption):
    """The client was idle too long, or `set_deadline` has passed."""


class ConnectionLost(Exception):
    """Nothing more can be sent: the client is gone, was reset, or stopped reading for too long."""


class TlsFailed(Exception):
    """The TLS handshake failed or took too long; the text says why, and is not for the client."""


@dataclass(frozen=True)
class ConnectionBounds:
    """Bounds of one connection; a process shares one object among all of its connections."""

    idle_timeout_seconds: float = 1800.0  # without an octet from the client, while the session waits for one
    handshake_timeout_seconds: float = 30.0
    stalled_timeout_seconds: float = 120.0  # the client takes nothing of what we send
    linger_seconds: float = 2.0  # after our last octet, for the client to close
    read_buffer_octets: int = 65_536  # received and not yet read by the session; then TCP holds the client back
    write_high_octets: int = 262_144  # waiting to be sent: `drain` waits above this, until it is below the next
    write_low_octets: int = 65_536
    write_limit_octets: int = 16 << 20  # for sessions that send notices while their client does not read
