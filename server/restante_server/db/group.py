"""Running one group of operations as one transaction: savepoints, sets, ordered locks, replays, and errors."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection

from restante.errors import StoreBusy, StoreFull
from restante_server.db.backend import Backend, LockRows, Savepoint, Transaction, Verdict
from restante_server.db.clock import Clock, use
from restante_server.db.effects import IN_DOUBT, Effects, Listeners, begin, take
from restante_server.db.errors import CommitFailed, DatabaseError
from restante_server.db.hooks import FaultHooks
from restante_server.db.operation import Mergeable, Operation, sets
from restante_server.db.turns import Party

log = logging.getLogger(__name__)
E = TypeVar("E", bound=BaseException)


class Item:
    """One operation in the pipeline. A lane sets `result` or `error`; the event loop makes it, and calls `settle`."""

    __slots__ = (
        "contents",
        "deadline",
        "dropped",
        "effects",
        "error",
        "lane",
        "mailboxes",
        "octets",
        "operation",
        "party",
        "result",
        "rows",
        "settle",
        "started",
    )

    def __init__(
        self, operation: Operation[Any], deadline: float | None, party: Party, settle: Callable[[Item], object]
    ) -> None:
        self.operation = operation
        self.party = party  # operations of one party keep their order
        self.deadline = deadline
        self.lane = 0  # its number, when the operation has been admitted
        self.settle = settle
        self.mailboxes = operation.mailboxes
        self.contents: frozenset[int] = getattr(operation, "contents", frozenset())
        self.rows = operation.rows
        self.octets = operation.octets
        self.dropped = False  # its writer was cancelled before the start
        self.started = False  # a lane has taken it, and it will complete
        self.result: Any = None
        self.effects: Effects | None = None  # the first member of a set has the effects of the set
        self.error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Bounds:
    """The limits of one group, and of its replays. A single operation beyond the limits forms a group alone."""

    operations: int = 256
    octets: int = 8 << 20
    rows: int = 5_000
    replays: int = 5
    replay_seconds: float = 0.004  # upper limit of the first random pause; doubles each time


@dataclass(frozen=True, slots=True)
class Locks:
    """The functions that lock the rows a group writes; the store provides them, and SQLite does not use them."""

    mailboxes: LockRows | None = None
    contents: LockRows | None = None


class _Again(Exception):
    """The group must run again from its beginning; none of its writes stand."""

    def __init__(self, error: BaseException, reconnect: bool) -> None:
        super().__init__()
        self.error, self.reconnect = error, reconnect


class _Vanished(Exception):
    """The database rolled back the whole transaction when one operation failed; the others must run again."""


class GroupRunner:
    """Runs groups on one writer connection. Use it on one thread only."""

    def __init__(
        self,
        backend: Backend,
        bounds: Bounds,
        locks: Locks,
        faults: FaultHooks | None,
        clock: Clock | None,
        listeners: Listeners,
    ) -> None:
        self._backend, self._bounds, self._faults, self._clock = backend, bounds, faults, clock
        self._listeners = listeners
        self._locks = locks if backend.locks_rows else Locks()
        self._connection: Connection | None = None

    def run(self, group: list[Item]) -> int:
        """Run and commit a group, and set the result or error of each item. Returns the number of replays."""
        try:
            return self._until_settled(group)
        except _Vanished:
            for item in group:
                if item.error is None:
                    self._alone(item)
            return 1

    def upkeep(self) -> None:
        """Let the database do its upkeep on the writer's connection, between two groups."""
        if self._connection is not None:
            self._backend.between_groups(self._connection)

    def disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.invalidate()
                connection.close()
            except Exception:  # errors on closing a broken connection do not matter
                log.debug("closing a broken connection failed", exc_info=True)

    def _alone(self, item: Item) -> None:
        try:
            self._until_settled([item])
        except _Vanished:
            pass  # its own failure ended the transaction, and is its error already

    def _until_settled(self, group: list[Item]) -> int:
        pause = self._bounds.replay_seconds
        replay = 0
        while True:
            try:
                self._attempt(group)
                return replay
            except _Again as again:
                if again.reconnect:
                    self.disconnect()
                if replay == self._bounds.replays:
                    for item in group:
                        item.result, item.error = None, self._answer(again.error)
                    return replay
            time.sleep(random.uniform(0, pause))
            replay, pause = replay + 1, pause * 2

    def _attempt(self, group: list[Item]) -> None:
        for item in group:
            item.result = item.error = item.effects = None
        try:
            tx = self._connection = self._connection or self._connect()
            transaction = self._backend.begin(tx)
        except Exception as error:  # noqa: BLE001 - judged; every writer of the group gets it
            self._all(group, error)
            return
        try:
            if self._faults is not None:
                self._faults.begun(tx)
            self._lock(tx, group)
            self._fill(tx, group)
        except (_Again, _Vanished):
            self._roll_back(transaction)
            raise
        except BaseException as error:  # noqa: BLE001 - judged; every writer of the group gets it
            self._roll_back(transaction)
            self._all(group, error)
            return
        if all(item.error is not None for item in group):
            self._roll_back(transaction)
            for item in group:
                item.effects = None
        else:
            self._commit(tx, transaction, group)

    def _connect(self) -> Connection:
        connection = self._backend.writer()
        if self._clock is not None:
            use(connection, self._clock)
        return connection

    def _lock(self, tx: Connection, group: list[Item]) -> None:
        """Lock mailboxes, then contents, each in ascending order; transactions with this order cannot deadlock."""
        mailboxes, contents = self._locks.mailboxes, self._locks.contents
        if mailboxes is not None and (ids := frozenset().union(*(item.mailboxes for item in group))):
            mailboxes(tx, sorted(ids))
        if contents is not None and (ids := frozenset().union(*(item.contents for item in group))):
            contents(tx, sorted(ids))

    def _fill(self, tx: Connection, group: list[Item]) -> None:
        if len(group) == 1:  # needs no savepoint: on failure the whole transaction is rolled back
            self._run_one(tx, None, group[0])
            return
        savepoint = self._backend.savepoint(tx)
        for indexes in sets([(type(item.operation), item.mailboxes) for item in group]):
            items = [group[index] for index in indexes]
            if len(items) == 1 or not self._run_set(tx, savepoint, items):
                for item in items:
                    self._run_one(tx, savepoint, item)

    def _run_one(self, tx: Connection, savepoint: Savepoint | None, item: Item) -> None:
        if savepoint is not None:
            self._advance(savepoint)
        try:
            if self._faults is not None:
                self._faults.before_operation(tx, [item.operation])
            begin(tx)
            item.result = item.operation.run(tx)
            self._usable(tx)
            item.effects = take(tx)
        except BaseException as error:  # noqa: BLE001 - this writer gets it
            item.result, item.error = None, self._answer(error)
            self._recover(tx, savepoint, error)

    def _run_set(self, tx: Connection, savepoint: Savepoint, items: list[Item]) -> bool:
        """Run items as one set. Returns False when the set failed and was undone; the items then run one by one."""
        kind = type(items[0].operation)
        assert isinstance(items[0].operation, Mergeable)
        self._advance(savepoint)
        operations = [item.operation for item in items]
        try:
            if self._faults is not None:
                self._faults.before_operation(tx, operations)
            begin(tx)
            results = kind.run_many(tx, operations)  # type: ignore[attr-defined]  # asserted above
            self._usable(tx)
            if len(results) != len(items):
                raise DatabaseError(f"{kind.__name__}.run_many returned {len(results)} results for {len(items)}")
            items[0].effects = take(tx)
        except BaseException as error:  # each item of the set then runs alone and gets its own error
            self._recover(tx, savepoint, error)
            log.debug("a set of %d %s failed together and runs one by one", len(items), kind.__name__, exc_info=error)
            return False
        for item, result in zip(items, results, strict=True):
            if isinstance(result, Exception):
                item.error = self._answer(result)
            else:
                item.result = result
        return True

    def _advance(self, savepoint: Savepoint) -> None:
        try:
            savepoint.advance()
        except Exception as error:
            raise _Again(error, reconnect=True) from error

    def _usable(self, tx: Connection) -> None:
        self._backend.settle(tx)
        if not self._backend.usable(tx):
            raise DatabaseError("the operation caught a database error that had undone its transaction")

    def _recover(self, tx: Connection, savepoint: Savepoint | None, error: BaseException) -> None:
        """Roll back to the savepoint. Raises _Again or _Vanished when the transaction cannot continue."""
        verdict = self._judge(error)
        if verdict in (Verdict.REPLAY, Verdict.LOST, Verdict.UNDONE):
            raise _Again(error, reconnect=verdict is not Verdict.REPLAY) from error
        if savepoint is None:
            return
        if not self._backend.open(tx):
            raise _Vanished from error
        try:
            savepoint.rewind()
        except Exception as failure:
            raise _Again(failure, reconnect=True) from failure

    def _commit(self, tx: Connection, transaction: Transaction, group: list[Item]) -> None:
        invalidated = {name for item in group if item.effects is not None for name in item.effects.invalidations}
        try:
            if self._faults is not None:
                self._faults.before_commit(tx)
            transaction.commit()
            self._listeners.invalidated(invalidated)
            if self._faults is not None:
                self._faults.after_commit(tx)
        except BaseException as error:
            verdict = self._judge(error)
            self._roll_back(transaction)
            if verdict in (Verdict.REPLAY, Verdict.UNDONE):  # the database reports that it committed nothing
                raise _Again(error, reconnect=verdict is Verdict.UNDONE) from error
            self._listeners.invalidated({*invalidated, IN_DOUBT})  # the commit may stand
            self.disconnect()
            for item in group:
                item.effects = None
                if item.error is None:
                    item.result, item.error = None, _commit_failed(verdict, error)
            return
        self._backend.committed(sum(item.octets for item in group) + 512 * sum(item.rows for item in group))

    def _roll_back(self, transaction: Transaction) -> None:
        try:
            transaction.rollback()
        except Exception:  # closing a connection that cannot roll back has the same effect
            log.debug("rollback failed", exc_info=True)
            self.disconnect()

    def _all(self, group: list[Item], error: BaseException) -> None:
        """Set the error of a group that could not run as a whole; raises _Again when a replay may help."""
        verdict = self._judge(error)
        if verdict in (Verdict.REPLAY, Verdict.LOST, Verdict.UNDONE):
            raise _Again(error, reconnect=verdict is not Verdict.REPLAY) from error
        if verdict is Verdict.OWN:
            log.error("a write group failed before its first operation", exc_info=error)
            self.disconnect()
        for item in group:
            item.result, item.error = None, self._answer(error)

    def _judge(self, error: BaseException) -> Verdict:
        """The verdict on an error or its causes, since an operation may have wrapped the database's error."""
        for cause in _causes(error):
            verdict = self._backend.judge(cause)
            if verdict is not Verdict.OWN:
                return verdict
        return Verdict.OWN

    def _answer(self, error: BaseException) -> Exception:
        verdict = self._judge(error)
        if verdict is Verdict.OWN:
            # A future cannot carry StopIteration, and SystemExit would end the process on the event loop.
            if isinstance(error, StopIteration) or not isinstance(error, Exception):
                return _because(DatabaseError(f"the operation raised {type(error).__name__}"), error)
            return error
        if verdict is Verdict.FULL:
            return _because(StoreFull(), error)
        return _because(StoreBusy(), error)


def _commit_failed(verdict: Verdict, error: BaseException) -> StoreFull | CommitFailed:
    if verdict is Verdict.FULL:  # the database reported this instead of committing
        return _because(StoreFull(), error)
    return _because(CommitFailed("the commit failed or its answer was lost"), error)


def _because(answer: E, cause: BaseException) -> E:
    answer.__cause__ = cause
    return answer


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
