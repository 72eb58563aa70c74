"""The party that a task works for, and a queue that serves parties in turns, so that no party waits for all the work
of another."""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Party(NamedTuple):
    """The party that work is done for: an account with all its sessions, a gateway itself, or the core itself."""

    name: str
    many: bool = False  # it works for many users: a gateway or the core


CORE = Party("core", many=True)
"""The party of the core's background work: upkeep, waiting deliveries, notices."""

party: ContextVar[Party] = ContextVar("party", default=CORE)
"""The party of the current task. A new task inherits the party of the task that made it."""


class _Queue(deque[T]):
    """The waiting items of one party."""

    __slots__ = ("party",)

    def __init__(self, party: Party) -> None:
        self.party = party


class _Round(Generic[T]):
    """One item of each party in turn."""

    __slots__ = ("order", "queues")

    def __init__(self) -> None:
        self.queues: dict[Party, _Queue[T]] = {}  # of the parties that have waiting items
        self.order: deque[_Queue[T]] = deque()  # the same queues, the next one first

    def take(self) -> T:
        queue = self.order[0]
        item = queue.popleft()
        if not queue:
            self.order.popleft()
            del self.queues[queue.party]
        elif len(self.order) > 1:
            self.order.rotate(-1)
        return item


class Turns(Generic[T]):
    """A queue that gives one item of each party in turn; the items of one party keep their order.

    While both kinds of parties wait, every second item is of a party that works for many: one mx gateway brings the
    mail of all users, so neither a thousand busy users may delay the gateway nor the gateway the users. The first item
    of a party waits for at most one item of each other party of its kind, and for as many of the other kind. Not
    thread-safe.
    """

    __slots__ = ("_many", "_many_next", "_one")

    def __init__(self) -> None:
        self._one: _Round[T] = _Round()
        self._many: _Round[T] = _Round()
        self._many_next = False

    def __len__(self) -> int:
        return sum(len(queue) for one in (self._one, self._many) for queue in one.order)

    def __bool__(self) -> bool:
        return bool(self._one.order or self._many.order)

    def put(self, party: Party, item: T) -> None:
        """Add an item. A party without waiting items goes to the end of its round."""
        chosen = self._many if party.many else self._one
        queue = chosen.queues.get(party)
        if queue is None:
            queue = chosen.queues[party] = _Queue(party)
            chosen.order.append(queue)
        queue.append(item)

    def put_back(self, party: Party, item: T) -> None:
        """Return a taken item that was not served: it is its party's first, and the party has the next turn of its
        kind."""
        chosen = self._many if party.many else self._one
        queue = chosen.queues.get(party)
        if queue is None:
            queue = chosen.queues[party] = _Queue(party)
        else:
            chosen.order.remove(queue)
        chosen.order.appendleft(queue)
        queue.appendleft(item)

    def peek(self) -> T:
        """The item that `take` would return. Raises IndexError when there is none."""
        return self._next().order[0][0]

    def take(self) -> T:
        """Remove and return the next item. Raises IndexError when there is none."""
        chosen = self._next()
        self._many_next = chosen is self._one
        return chosen.take()

    def remove(self, party: Party, item: T) -> bool:
        """Remove an item from the queue; False when it is not in it."""
        chosen = self._many if party.many else self._one
        queue = chosen.queues.get(party)
        if queue is None or item not in queue:
            return False
        queue.remove(item)
        if not queue:
            chosen.order.remove(queue)
            del chosen.queues[party]
        return True

    def _next(self) -> _Round[T]:
        return self._many if self._many.order and (self._many_next or not self._one.order) else self._one
