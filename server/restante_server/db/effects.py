"""Effects of a write beyond the database, collected while it runs (docs/design.md "Effects").

There are two kinds. An *invalidation* marks a cache in memory as out of date. It fires on the lane's thread before any
writer of the group gets its answer, and also when the outcome of the commit is unknown. An *event* is a fact of a
committed write. It fires on the event loop, in commit order, before its writer gets the answer.

Each operation, or set of operations that run as one, has a separate share of effects. After a rollback to a savepoint
the owner of the transaction drops the share of the undone operations; the operations need no code for this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, TypeVar, cast

from sqlalchemy import Connection

T = TypeVar("T")

DIRECTORY: Final = "directory"
"""An invalidation: the resolution of an address has changed, or a quota."""

IN_DOUBT: Final = "in doubt"
"""An invalidation: the outcome of a commit is unknown, so cached facts of any mailbox may be out of date. Only
`GroupRunner` fires it."""

_KEY: Final = "restante.effects"


class Topic(Generic[T]):
    """A kind of event. The events of one share are in one collection, made by `empty`."""

    __slots__ = ("empty", "name")

    def __init__(self, name: str, empty: Callable[[], T]) -> None:
        self.name, self.empty = name, empty

    def __repr__(self) -> str:
        return f"Topic({self.name!r})"


class Effects:
    """The share of one operation or one set of operations."""

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
    """Add an invalidation, which fires when this transaction has been committed or may have been."""
    _share(tx).invalidations.add(name)


def events(tx: Connection, topic: Topic[T]) -> T:
    """The events of this topic in the share of the running operation, for the operation to add to."""
    collected = _share(tx).events
    found = collected.get(topic)
    if found is None:
        found = collected[topic] = topic.empty()
    return cast(T, found)


def peek(tx: Connection, topic: Topic[T]) -> T | None:
    """The events of this topic, or None when the share has none yet."""
    share: Effects | None = tx.info.get(_KEY)
    return None if share is None else share.events.get(topic)


def begin(tx: Connection) -> None:
    """Begin a new share, and drop that of undone operations. For the owner of the transaction."""
    tx.info.pop(_KEY, None)


def take(tx: Connection) -> Effects | None:
    """End the share and return it; None when it is empty. For the owner of the transaction."""
    share: Effects | None = tx.info.pop(_KEY, None)
    return share


class Listeners:
    """The listeners to effects. Add a listener before the first write whose effects it needs."""

    def __init__(self) -> None:
        self._invalidated: dict[str, list[Callable[[], object]]] = {}
        self._happened: dict[Topic[Any], list[Callable[[Any], object]]] = {}

    def on_invalidation(self, name: str, listener: Callable[[], object]) -> None:
        """Call `listener` on the lane's thread; it must be quick and thread-safe, and must not raise."""
        self._invalidated.setdefault(name, []).append(listener)

    def on_event(self, topic: Topic[T], listener: Callable[[T], object]) -> None:
        """Call `listener` on the event loop with the events of each share; it must not block."""
        self._happened.setdefault(topic, []).append(listener)

    def invalidated(self, names: Iterable[str]) -> None:
        """Fire invalidations of a transaction that has been committed, or may have been."""
        for name in names:
            for listener in self._invalidated.get(name, ()):
                listener()

    def happened(self, effects: Effects, failed: Callable[[Exception], object]) -> None:
        """Fire the events of a committed share. Exceptions of listeners go to `failed` and do not fail the write."""
        for topic, collected in effects.events.items():
            for listener in self._happened.get(topic, ()):
                try:
                    listener(collected)
                except Exception as error:  # noqa: BLE001 - the write is durable; the other listeners still run
                    failed(error)
