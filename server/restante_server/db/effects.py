"""Effects of a write beyond the database, collected while it runs (docs/design.md "Effects").

There are two kinds. An *invalidation* says that something in memory is out of date: it fires on the lane's thread,
before any writer of the group is answered, and also when nobody knows whether the commit stands. An *event* is a fact
of a committed write: it fires on the event loop, in commit order, before its writer is answered.

Each operation, or set of operations that run as one, has a share of its own. Rolling back to a savepoint drops the
share of what is undone; an operation need not know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, TypeVar, cast

from sqlalchemy import Connection

T = TypeVar("T")

DIRECTORY: Final = "directory"
"""An invalidation: what an address stands for has changed, or a quota."""

IN_DOUBT: Final = "in doubt"
"""An invalidation: the outcome of a commit is unknown, and what memory has of any mailbox may be behind. Only the group
fires it."""

_KEY: Final = "restante.effects"


class Topic(Generic[T]):
    """A kind of event. The events of one share are one collection, made by `empty`."""

    __slots__ = ("empty", "name")

    def __init__(self, name: str, empty: Callable[[], T]) -> None:
        self.name, self.empty = name, empty

    def __repr__(self) -> str:
        return f"Topic({self.name!r})"


class Effects:
    """The share of one operation, or of one set."""

    __slots__ = ("events", "invalidations")

    def __init__(self) -> None:
        self.invalidations: set[str] = set()
        self.events: dict[Topic[Any], Any] = {}


def _share(tx: Connection) -> Effects:
    share: Effects | None = tx.info.get(_KEY)
    if share is None:
        share = tx.info[_KEY] = Effects()
    return share


def invalidate(tx: Connection, name: str) -> None:
    """Something in memory is out of date once this transaction stands. It may also fire for nothing."""
    _share(tx).invalidations.add(name)


def events(tx: Connection, topic: Topic[T]) -> T:
    """The events of this topic in the share of the running operation, for the operation to add to."""
    collected = _share(tx).events
    found = collected.get(topic)
    if found is None:
        found = collected[topic] = topic.empty()
    return cast(T, found)


def peek(tx: Connection, topic: Topic[T]) -> T | None:
    """The same, or None where there are none yet."""
    share: Effects | None = tx.info.get(_KEY)
    return None if share is None else share.events.get(topic)


def begin(tx: Connection) -> None:
    """A new share begins; what was undone leaves nothing behind. For the owner of the transaction."""
    tx.info.pop(_KEY, None)


def take(tx: Connection) -> Effects | None:
    """The share that has ended, None when it is empty. For the owner of the transaction."""
    share: Effects | None = tx.info.pop(_KEY, None)
    return share


class Listeners:
    """The parts of the program that hear of effects. Each listens from before the first write that it must hear of."""

    def __init__(self) -> None:
        self._invalidated: dict[str, list[Callable[[], object]]] = {}
        self._happened: dict[Topic[Any], list[Callable[[Any], object]]] = {}

    def on_invalidation(self, name: str, listener: Callable[[], object]) -> None:
        """Have `listener` called on the lane's thread: it must be quick, thread-safe, and not raise."""
        self._invalidated.setdefault(name, []).append(listener)

    def on_event(self, topic: Topic[T], listener: Callable[[T], object]) -> None:
        """Have `listener` called on the event loop with the events of each share: it must not block."""
        self._happened.setdefault(topic, []).append(listener)

    def invalidated(self, names: Iterable[str]) -> None:
        """A commit with these invalidations stands, or may stand."""
        for name in names:
            for listener in self._invalidated.get(name, ()):
                listener()

    def happened(self, effects: Effects, failed: Callable[[Exception], object]) -> None:
        """A committed share fires. What a listener raises is not the write's failure: it goes to `failed`."""
        for topic, collected in effects.events.items():
            for listener in self._happened.get(topic, ()):
                try:
                    listener(collected)
                except Exception as error:  # noqa: BLE001 - the write is durable, and the other listeners must hear
                    failed(error)
