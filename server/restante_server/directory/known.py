"""Caches of the directory: recently resolved recipients, because each message resolves its recipients twice, and the
settings of domains, which each checked message needs.

The cache of recipients holds only addresses that were found, and no counter that mail changes. A change of the
directory by this core empties both at once (`effects.DIRECTORY`). A change by another core takes effect when an entry
expires. The transaction that places a message still notices that a mailbox is gone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping
from typing import NamedTuple

from restante_server.directory.check_rules import DomainRules
from restante_server.directory.lookup import AddressKind, Resolution

SECONDS = 2.0
SECONDS_ALONE = 60.0  # when this core alone has the database open
MOST_DOMAINS = 10_000  # entries
MOST = 20_000  # entries; each target of an alias counts as one more
FORMS = (AddressKind.LOCAL, AddressKind.ALIAS)


class Known(NamedTuple):
    """One resolved address."""

    resolution: Resolution
    open: bool  # accepts mail of any size, so RCPT needs no database read
    good_until: float  # a time of time.monotonic()


class KnownDomains:
    """The settings of domains for failed checks by ASCII name; None for a domain that is not local.

    Call `forget` on any thread, and the other methods on the event loop only.
    """

    def __init__(self, seconds: float = SECONDS, most: int = MOST_DOMAINS) -> None:
        self._seconds, self._most = seconds, most
        self._entries: dict[str, tuple[DomainRules | None, float]] = {}  # with the end of the entry, oldest first
        self._lock = threading.Lock()
        self.generation = 0
        """As KnownRecipients.generation."""

    def get(self, names: Collection[str]) -> dict[str, DomainRules] | None:
        """The settings of those of the domains that are local; None unless all of them are known."""
        now, found = time.monotonic(), dict[str, DomainRules]()
        for name in names:
            rules, good_until = self._entries.get(name, (None, 0.0))
            if good_until <= now:
                return None
            if rules is not None:
                found[name] = rules
        return found

    def keep(self, generation: int, names: Collection[str], found: Mapping[str, DomainRules]) -> None:
        """Add what the database has about these domains."""
        good_until = time.monotonic() + self._seconds
        with self._lock:
            if generation != self.generation:
                return
            for name in names:
                self._entries.pop(name, None)
                self._entries[name] = (found.get(name), good_until)
            while len(self._entries) > self._most:
                del self._entries[next(iter(self._entries))]

    def forget(self) -> None:
        """Empty the cache after a change of the directory."""
        with self._lock:
            self.generation += 1
            self._entries = {}


class KnownRecipients:
    """Resolved recipients by the address in its given spelling.

    Call `forget` on any thread, and the other methods on the event loop only.
    """

    def __init__(self, seconds: float = SECONDS, most: int = MOST) -> None:
        self._seconds, self._most = seconds, most
        self._entries: dict[str, Known] = {}  # in order of arrival; the oldest are dropped first
        self._weight = 0
        self._lock = threading.Lock()  # makes the check of the generation and the insertion one step
        self.generation = 0
        """Changes with `forget`. Read it before the database read, and pass it to `keep` with the result."""

    def get(self, address: str) -> Known | None:
        """The entry of an address, unless it has expired."""
        known = self._entries.get(address)
        if known is None or known.good_until > time.monotonic():
            return known
        return None

    def is_open(self, address: str) -> bool:
        """Whether the cache knows that the address accepts mail of any size."""
        known = self.get(address)
        return known is not None and known.open

    def keep(self, generation: int, resolution: Resolution, *, open: bool | None = None) -> None:
        """Add a resolution. `open` None means not checked: a valid entry keeps its `open` and its expiry."""
        if resolution.kind not in FORMS or any(target.kind is AddressKind.UNKNOWN for target in resolution.targets):
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
        """Empty the cache after a change of the directory."""
        with self._lock:
            self.generation += 1
            self._entries, self._weight = {}, 0
