"""Whose work it is, and work of many taken in turns, so that nobody waits for all that another has asked for."""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Party(NamedTuple):
    """One for whom work is done: an account over all its sessions, a gateway on its own account, the core itself."""

    name: str
    many: bool = False  # its work is for many people: a gateway's, the core's own


CORE = Party("core", many=True)
"""The party of what the core does of its own accord: upkeep, deliveries that waited, notices."""

party: ContextVar[Party] = ContextVar("party", default=CORE)
"""The party of the present task. A task begins with that of the one that made it."""


class _Queue(deque[T]):
    """The waiting items of one party."""

    __slots__ = ("party",)

    def __init__(self, party: Party) -> None:
        self.party = party


class _Round(Generic[T]):
    """One item of each party in turn."""

    __slots__ = ("order", "queues")

    def __init__(self) -> None:
        self.queues: dict[Party, _Queue[T]] = {}  # of the parties that have any
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
    """A queue that gives one item of each party in turn; those of one party come in the order they were put.

    Every second item is of a party that works for many, while both kinds wait: one mx gateway brings everybody's mail,
    and a thousand busy people must not keep it waiting, nor it them. An item of a party that had none waits for at most
    one of each other party of its kind, and as many of the other kind. Not safe among threads.
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
        """A party that had nothing comes last in its round."""
        chosen = self._many if party.many else self._one
        queue = chosen.queues.get(party)
        if queue is None:
            queue = chosen.queues[party] = _Queue(party)
            chosen.order.append(queue)
        queue.append(item)

    def put_back(self, party: Party, item: T) -> None:
        """An item that was taken and not served: the first of its party again, which has the next turn of its kind."""
        chosen = self._many if party.many else self._one
        queue = chosen.queues.get(party)
        if queue is None:
            queue = chosen.queues[party] = _Queue(party)
        else:
            chosen.order.remove(queue)
        chosen.order.appendleft(queue)
        queue.appendleft(item)

    def peek(self) -> T:
        """The item that `take` gives. Raises IndexError when there is none."""
        return self._next().order[0][0]

    def take(self) -> T:
        """The next item. Raises IndexError when there is none."""
        chosen = self._next()
        self._many_next = chosen is self._one
        return chosen.take()

    def remove(self, party: Party, item: T) -> bool:
        """Takes an item out of the queue; False when it is not there."""
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
