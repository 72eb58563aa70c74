"""Recipients that were found lately, in memory: mail for the same people comes again, and each message asks twice.

Only what was found is kept, never that somebody is not there, and no figure that mail changes. A change of the
directory by this core empties it at once (`effects.DIRECTORY`). A change by another core is seen when an entry is old
enough. Who places a message still notices in its transaction that a mailbox has gone.
"""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from restante_server.directory.lookup import Kind, Resolution

SECONDS = 2.0
SECONDS_ALONE = 60.0  # where only one core has the database open
MOST = 20_000  # entries, an alias with many targets counting as many
FORMS = (Kind.LOCAL, Kind.ALIAS)


class Known(NamedTuple):
    """One address that leads somewhere."""

    resolution: Resolution
    open: bool  # takes mail of any size: nothing has to be asked at RCPT
    good_until: float  # a moment of time.monotonic()


class KnownRecipients:
    """By address as it was asked for. `forget` may be called on any thread, the rest belongs to the event loop."""

    def __init__(self, seconds: float = SECONDS, most: int = MOST) -> None:
        self._seconds, self._most = seconds, most
        self._entries: dict[str, Known] = {}  # in order of arrival: the oldest make room
        self._weight = 0
        self._lock = threading.Lock()  # of a look at the generation with what follows from it
        self.generation = 0
        """Changes with `forget`. To be taken before the database is asked, and given to `keep` with the answer."""

    def get(self, address: str) -> Known | None:
        """A remembered answer for an address that is not too old."""
        known = self._entries.get(address)
        if known is None or known.good_until > time.monotonic():
            return known
        return None

    def is_open(self, address: str) -> bool:
        """Whether it is known to take mail of any size."""
        known = self.get(address)
        return known is not None and known.open

    def keep(self, generation: int, resolution: Resolution, *, open: bool | None = None) -> None:
        """Remember an answer. `open` None: nobody looked; what was known of that stays as long as it would have."""
        if resolution.kind not in FORMS or any(target.kind is Kind.UNKNOWN for target in resolution.targets):
            return
        now = time.monotonic()
        with self._lock:
            if generation == self.generation:
                self._put(resolution, open, now)

    def _put(self, resolution: Resolution, open: bool | None, now: float) -> None:
        good_until = now + self._seconds
        before = self._entries.pop(resolution.address, None)
        if before is not None:
            self._weight -= 1 + len(before.resolution.targets)
            if open is None and before.open and before.good_until > now:
                open, good_until = True, before.good_until
        self._entries[resolution.address] = Known(resolution, bool(open), good_until)
        self._weight += 1 + len(resolution.targets)
        while self._weight > self._most:
            oldest = self._entries.pop(next(iter(self._entries)))
            self._weight -= 1 + len(oldest.resolution.targets)

    def forget(self) -> None:
        """The directory has changed."""
        with self._lock:
            self.generation += 1
            self._entries, self._weight = {}, 0
