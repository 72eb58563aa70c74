"""The time that a session waits for its client, in all (pure: the clock is passed in)."""

from __future__ import annotations


class WaitingTime:
    """Seconds that may still be spent waiting for a client.

    A limit for each pause alone lets a client that sends an octet now and then keep its place for hours. This is the
    sum of all pauses, and grows only with what the client brings. Time that the core takes is not counted.
    """

    __slots__ = ("left_seconds",)

    def __init__(self, seconds: float) -> None:
        self.left_seconds = seconds

    def spend(self, seconds: float) -> None:
        """The client has been waited for."""
        self.left_seconds -= seconds

    def earn(self, seconds: float) -> None:
        """The client has brought something."""
        self.left_seconds += seconds
