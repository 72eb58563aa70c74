"""The total time that a session waits for its client (pure: the caller passes the time)."""

from __future__ import annotations


class WaitingTime:
    """The remaining time that a session may wait for its client, in seconds.

    A limit for each single pause would let a client that sends single octets occupy a connection for hours. This limits
    the sum of all pauses, and grows only with received data. Waiting for the core does not count.
    """

    __slots__ = ("left_seconds",)

    def __init__(self, seconds: float) -> None:
        self.left_seconds = seconds

    def spend(self, seconds: float) -> None:
        """Subtract a pause."""
        self.left_seconds -= seconds

    def earn(self, seconds: float) -> None:
        """Add time for received data."""
        self.left_seconds += seconds
