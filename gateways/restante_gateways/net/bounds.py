"""The limits of a connection, and the exceptions that end its session."""

from __future__ import annotations

from dataclasses import dataclass


class Interruption(Exception):
    """Raised by `Connection.read` instead of octets. The session sends its protocol's farewell and returns."""


class Draining(Interruption):
    """The process is shutting down."""


class TimedOut(Interruption):
    """The client was idle too long, or the deadline of `set_deadline` has passed."""


class ConnectionLost(Exception):
    """Nothing more can be sent: the client closed or reset the connection, or stopped reading for too long."""


class TlsFailed(Exception):
    """The TLS handshake failed or took too long. The text has the reason, for the log only."""


@dataclass(frozen=True)
class ConnectionBounds:
    """Limits of one connection; all connections of a process share one object."""

    idle_timeout_seconds: float = 1800.0  # without an octet from the client while the session reads
    handshake_timeout_seconds: float = 30.0
    stalled_timeout_seconds: float = 120.0  # while the client reads none of the octets sent
    linger_seconds: float = 2.0  # after the last octet sent, for the client to close
    read_buffer_octets: int = 65_536  # received but not yet read by the session; above it TCP slows the client
    write_high_octets: int = 262_144  # unsent; above this `drain` waits until they fall below the next
    write_low_octets: int = 65_536
    write_limit_octets: int = 16 << 20  # unsent; above this the connection is aborted
