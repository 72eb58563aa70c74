"""The number of connections to one host at a time, which adapts to how the host copes. *Pure.*

It begins small. Each attempt that the host answers adds a part of a connection, so that a round of successes adds
one. A connection that fails halves the number; failures of one round halve it once. The number at which one failed is
then tried again after ten rounds, so that a host with a limit refuses few.
"""

from __future__ import annotations

CAREFUL = 0.1  # of the usual growth, where a connection has failed before


class Window:
    """The window of one host: `allowed` connections, 1 to `most`."""

    def __init__(self, first: int, most: int) -> None:
        self._most = most
        self._size = float(min(first, most))
        self._too_many = float("inf")  # the number at which a connection failed
        self._shrunk_at = float("-inf")

    @property
    def allowed(self) -> int:
        """The connections at a time."""
        return int(self._size)

    def succeeded(self) -> None:
        """Note an attempt that the host answered on a connection that stayed open."""
        growth = 1 / self._size
        if self._size + growth >= self._too_many:
            growth *= CAREFUL
        self._size = min(float(self._most), self._size + growth)
        if self._size >= self._too_many:
            self._too_many = float("inf")

    def failed(self, began: float, now: float) -> bool:
        """Note a connection that failed: refused, timed out, closed by the host (421). Returns whether it counts.

        One that began before the window last shrank says nothing about the present size.
        """
        if began < self._shrunk_at:
            return False
        self._too_many = max(2.0, float(self.allowed))
        self._size, self._shrunk_at = max(1.0, self._size / 2), now
        return True
