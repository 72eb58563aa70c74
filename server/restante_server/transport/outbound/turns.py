"""The order in which waiting mail is leased: by destination and by sender in turn. *Pure.*

A *lane* is the mail of one sender for one destination. Lanes take turns, and so do destinations and senders: the first
message of each comes before the second of any. A message's turn counts the leases that the relay holds already, so that
a destination or sender with few of them comes first. Where turns are equal, the one that was served longest ago comes
first, and then the oldest message.

A destination may hold at most as many leases as it leaves free. One dead destination therefore takes half of a relay's
leases at most, and two take two thirds, and there is always room for one more destination.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

SENDER_SHARE = 3  # a sender may hold this many times the leases that stay free: three quarters of all
REMEMBERED = 10_000  # destinations, and senders, of which the last turn is remembered

Key = TypeVar("Key", bound=Hashable)


class Candidate(NamedTuple):
    """Recipients of one message and one destination that are due."""

    since: int  # microseconds: when they became due
    transport_id: int
    destination: str
    sender: int


class _Served(Generic[Key]):
    """The round in which each key was served last; 0 for those that were not, or were forgotten."""

    def __init__(self) -> None:
        self._rounds: dict[Key, int] = {}

    def note(self, key: Key, round_: int) -> None:
        self._rounds.pop(key, None)
        self._rounds[key] = round_
        if len(self._rounds) > REMEMBERED:
            del self._rounds[next(iter(self._rounds))]

    def last(self, key: Key) -> int:
        return self._rounds.get(key, 0)


class Turns:
    """The leases of one relay by destination and sender, and the place where the search for candidates goes on."""

    def __init__(self, most: int) -> None:
        """`most`: leases that the relay may hold at a time."""
        self.most = most
        self.after_destination, self.after_sender, self.pivot = "", -1, 0  # see `candidates`
        self._held: dict[int, tuple[str, int]] = {}  # lease id: destination and sender
        self._destinations, self._senders = _Served[str](), _Served[int]()
        self._round = 0
        self.ended = 0  # leases since the last choice

    @property
    def held(self) -> frozenset[int]:
        """The ids of the leases that the relay holds."""
        return frozenset(self._held)

    @property
    def room(self) -> int:
        """The number of leases that it may still get."""
        return self.most - len(self._held)

    def keep(self, standing: Iterable[int]) -> None:
        """Forget all leases but these."""
        kept = {lease_id: self._held[lease_id] for lease_id in standing if lease_id in self._held}
        self.ended += len(self._held) - len(kept)
        self._held = kept

    def give(self, lease_id: int, destination: str, sender: int) -> None:
        """Note a new lease."""
        self._held[lease_id] = destination, sender
        self._round += 1
        self._destinations.note(destination, self._round)
        self._senders.note(sender, self._round)

    def choose(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """The candidates to lease now, in order, at most `room`."""
        destinations = Counter(destination for destination, _ in self._held.values())
        senders = Counter(sender for _, sender in self._held.values())
        free, chosen, self.ended = self.room, list[Candidate](), 0
        for one in self._in_turn(candidates, destinations, senders):
            if len(chosen) == self.room:
                break
            if destinations[one.destination] > free or senders[one.sender] > SENDER_SHARE * free:
                continue
            chosen.append(one)
            free -= 1
            destinations[one.destination] += 1
            senders[one.sender] += 1
        return chosen

    def _in_turn(
        self, candidates: Iterable[Candidate], destinations: Counter[str], senders: Counter[int]
    ) -> Sequence[Candidate]:
        """All candidates, the first turns first. The counters have the leases held."""
        found = sorted({(one.transport_id, one.destination): one for one in candidates}.values())
        lane: Counter[tuple[str, int]] = Counter()
        turns: dict[Candidate, int] = {}
        for one in found:
            lane[one.destination, one.sender] += 1
            turns[one] = lane[one.destination, one.sender]
        of_sender, of_destination = Counter(senders), Counter(destinations)
        first: dict[Candidate, int] = {}
        for one in sorted(found, key=lambda one: (turns[one], self._destinations.last(one.destination), one)):
            of_sender[one.sender] += 1
            first[one] = of_sender[one.sender]
        second: dict[Candidate, int] = {}
        for one in sorted(found, key=lambda one: (turns[one], self._senders.last(one.sender), one)):
            of_destination[one.destination] += 1
            second[one] = of_destination[one.destination]

        def place(one: Candidate) -> tuple[int, int, Candidate]:
            served = max(self._destinations.last(one.destination), self._senders.last(one.sender))
            return max(first[one], second[one]), served, one

        return sorted(found, key=place)
