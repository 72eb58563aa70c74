"""The write pipeline: the operations of a transaction, the errors of each caller, and the order of notices."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from restante.errors import DeadlineExceeded, Draining
from restante_server.db import turns
from restante_server.db.effects import invalidate
from restante_server.db.engine import Database
from restante_server.db.errors import CommitFailed, DatabaseError
from restante_server.db.group import Bounds, Item, Locks
from restante_server.db.operation import Write
from restante_server.db.pipeline import QueueLimits
from restante_server.db.postgresql import PostgresSettings
from tests.harness.faults import DatabaseFaults, raising
from tests.server.db.conftest import ADDED, Add, AddSet, Figures, Opener, box, entry, next_number, numbers, words


async def held(database: Database, faults: DatabaseFaults, *operations: Any) -> list[Any]:
    """Write a first entry, keep its transaction open until all the operations wait, and return their outcomes."""
    with faults.lanes_stopped():
        first = asyncio.ensure_future(database.write(Add(1, "first")))
        await asyncio.to_thread(faults.reached.wait, 10)
        tasks = [asyncio.ensure_future(database.write(operation)) for operation in operations]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    await first
    return outcomes


def heard(database: Database) -> list[Any]:
    """The events of entries, in their order of arrival."""
    events: list[Any] = []
    database.listeners.on_event(ADDED, events.extend)
    return events


async def test_what_waits_while_a_lane_is_busy_becomes_one_transaction(
    db: Database, faults: DatabaseFaults, figures: Figures
) -> None:
    outcomes = await held(db, faults, *(Add(1, f"w{number}") for number in range(10)))
    assert outcomes == list(range(2, 12))  # and in order of arrival
    assert figures.sizes == [1, 10]


@pytest.mark.parametrize(
    ("bounds", "sizes"),
    [
        (Bounds(operations=4), [1, 4, 4, 2]),
        (Bounds(rows=6), [1, 3, 3, 3, 1]),
        (Bounds(octets=250), [1, 2, 2, 2, 2, 2]),
        (Bounds(octets=50), [1] * 11),  # one above the limit is a separate group
    ],
)
async def test_a_group_is_bounded_by_count_rows_and_octets(
    bounds: Bounds, sizes: list[int], open_small: Opener, faults: DatabaseFaults, figures: Figures
) -> None:
    db = open_small(bounds=bounds)
    await held(db, faults, *(Add(1) for _ in range(10)))
    assert figures.sizes == sizes
    assert await db.read(numbers, 1) == list(range(1, 12))


async def test_a_failing_operation_answers_its_own_error_and_its_neighbours_commit(
    db: Database, faults: DatabaseFaults, figures: Figures
) -> None:
    outcomes = await held(db, faults, Add(1, "a"), Add(1, "first"), Add(1, "b"), Add(1, "a"), Add(1, "c"))
    assert figures.sizes == [1, 5]
    assert [type(outcome) for outcome in outcomes] == [int, IntegrityError, int, IntegrityError, int]
    assert await db.read(words) == ["first", "a", "b", "c"]
    assert await db.read(numbers, 1) == [1, 2, 3, 4]  # the increments of the failed ones were undone


async def test_an_operation_that_fails_alone_leaves_nothing_and_the_next_one_works(db: Database) -> None:
    await db.write(Add(1, "a"))
    with pytest.raises(IntegrityError):
        await db.write(Add(1, "a"))
    assert await db.write(Add(1, "b")) == 2


async def test_an_error_of_the_operation_itself_comes_back_as_it_was_raised(
    db: Database, faults: DatabaseFaults
) -> None:
    own = KeyError("own")

    def fails(tx: Connection) -> None:
        next_number(tx, 1)
        raise own

    outcomes = await held(db, faults, Write(fails), Add(1, "b"))
    assert outcomes[0] is own
    assert outcomes[1] == 2


async def test_an_operation_that_ends_by_stop_iteration_is_answered(db: Database) -> None:
    with pytest.raises(DatabaseError, match="StopIteration"):
        await db.write(Write(lambda _tx: next(iter(()))))


async def test_an_operation_that_swallows_a_database_error_does_not_spoil_its_neighbours(
    db: Database, faults: DatabaseFaults, dialect: str
) -> None:
    def swallows(tx: Connection) -> str:
        try:
            tx.execute(insert(entry).values(box_id=1, number=1, word="first"))
        except IntegrityError:
            return "all is well"
        return "nothing happened"

    outcomes = await held(db, faults, Add(1, "a"), Write(swallows), Add(1, "b"))
    if dialect == "postgresql":  # the transaction is aborted by then, so it must not count as a success
        assert isinstance(outcomes[1], DatabaseError)
    else:
        assert outcomes[1] == "all is well"
    assert await db.read(words) == ["first", "a", "b"]
    (alone,) = await asyncio.gather(db.write(Write(swallows)), return_exceptions=True)  # where there is no savepoint
    assert type(alone) is type(outcomes[1])
    assert await db.write(Add(1, "c")) == 4


async def test_operations_of_one_class_run_set_at_a_time(db: Database, faults: DatabaseFaults) -> None:
    AddSet.sizes.clear()
    outcomes = await held(db, faults, AddSet(1, "a"), AddSet(2, "b"), Add(3, "c"), AddSet(1, "d"))
    assert AddSet.sizes == [3]
    assert outcomes == [2, 1, 1, 3]


async def test_in_a_set_an_operation_may_fail_alone(db: Database, faults: DatabaseFaults) -> None:
    AddSet.sizes.clear()
    outcomes = await held(db, faults, AddSet(1, "a"), AddSet(1, "bad"), AddSet(1, "b"))
    assert AddSet.sizes == [3]
    assert isinstance(outcomes[1], ValueError)
    assert [outcomes[0], outcomes[2]] == [2, 3]


async def test_a_set_that_raises_is_undone_and_run_one_by_one(
    db: Database, faults: DatabaseFaults, figures: Figures
) -> None:
    outcomes = await held(db, faults, Add(1, "x"), AddSet(1, "a"), AddSet(1, "first"), AddSet(1, "b"), Add(1, "y"))
    assert [type(outcome) for outcome in outcomes] == [int, int, IntegrityError, int, int]
    assert await db.read(words) == ["first", "x", "a", "b", "y"]
    assert await db.read(numbers, 1) == [1, 2, 3, 4, 5]
    assert figures.sizes == [1, 5]


async def test_a_set_that_answers_too_few_is_run_one_by_one(db: Database, faults: DatabaseFaults) -> None:
    class Short(AddSet):
        @classmethod
        def run_many(cls, tx: Connection, operations: Any) -> list[int | Exception]:
            return super().run_many(tx, operations)[:1]

    assert await held(db, faults, Short(1, "a"), Short(1, "b")) == [2, 3]
    assert await db.read(words) == ["first", "a", "b"]


async def test_when_the_commit_fails_all_get_that_error_and_nothing_stands(
    db: Database, faults: DatabaseFaults
) -> None:
    told = heard(db)
    faults.at_commit = [None, raising(OSError("the disk is gone"))]
    outcomes = await held(db, faults, Add(1, "a"), Add(1, "first"), Add(2, "b"))
    assert [type(outcome) for outcome in outcomes] == [CommitFailed, IntegrityError, CommitFailed]
    assert told == [(1, 1, "first")]
    assert await db.read(words) == ["first"]
    assert await db.write(Add(1, "c")) == 2


async def test_a_commit_whose_answer_is_lost_is_never_an_ok(db: Database, faults: DatabaseFaults) -> None:
    faults.after = [raising(ConnectionResetError())]
    with pytest.raises(CommitFailed):
        await db.write(Add(1, "a"))
    assert await db.read(words) == ["a"]  # the writer finds it when it reads


async def test_effects_fire_in_commit_order_after_the_commit_and_before_the_answer(
    db: Database, faults: DatabaseFaults
) -> None:
    told = heard(db)
    seen: list[int] = []

    async def write(word: str) -> None:
        number = await db.write(Add(1, word))
        assert (1, number, word) in told
        seen.append(number)

    with faults.lanes_stopped():
        tasks = [asyncio.ensure_future(write(f"w{number}")) for number in range(5)]
        await asyncio.to_thread(faults.reached.wait, 10)
        assert told == []
    await asyncio.gather(*tasks)
    assert [number for _, number, _ in told] == seen == [1, 2, 3, 4, 5]


async def test_an_effect_that_fails_is_reported_and_the_write_stands(db: Database) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context))
    db.listeners.on_event(ADDED, lambda _added: 1 // 0)
    told = heard(db)
    assert await db.write(Add(1)) == 1
    assert isinstance(reported[0]["exception"], ZeroDivisionError)
    assert told == [(1, 1, None)], "the other listeners hear all the same"
    assert await db.write(Add(1)) == 2


async def test_what_is_rolled_back_leaves_no_effect_and_its_neighbours_keep_theirs(
    db: Database, faults: DatabaseFaults
) -> None:
    told = heard(db)
    invalidated: list[str] = []

    class Failing(Add):
        def run(self, tx: Connection) -> int:
            invalidate(tx, "failed")
            super().run(tx)
            raise ValueError(self.word)

    class Noting(Add):
        def run(self, tx: Connection) -> int:
            invalidate(tx, "stands")
            return super().run(tx)

    for name in ("failed", "stands"):
        db.listeners.on_invalidation(name, partial(invalidated.append, name))
    outcomes = await held(db, faults, Noting(1, "a"), Failing(1, "b"), Add(1, "c"))
    assert [type(outcome) for outcome in outcomes] == [int, ValueError, int]
    assert told == [(1, 1, "first"), (1, 2, "a"), (1, 3, "c")]
    assert invalidated == ["stands"]
    with pytest.raises(ValueError, match="alone"):
        await db.write(Failing(1, "alone"))  # without a savepoint
    assert (len(told), invalidated) == (3, ["stands"])


async def test_a_set_that_is_run_again_one_by_one_fires_each_event_once(db: Database, faults: DatabaseFaults) -> None:
    told = heard(db)
    await db.write(Add(3, "there"))
    outcomes = await held(db, faults, AddSet(1, "x"), AddSet(2, "there"), AddSet(5, "y"))
    assert [type(outcome) for outcome in outcomes] == [int, IntegrityError, int]
    assert told == [(3, 1, "there"), (1, 1, "first"), (1, 2, "x"), (5, 1, "y")]


async def test_a_cancelled_writer_takes_back_what_has_not_started(db: Database, faults: DatabaseFaults) -> None:
    with faults.lanes_stopped():
        first = asyncio.ensure_future(db.write(Add(1, "first")))
        await asyncio.to_thread(faults.reached.wait, 10)
        second, third = (asyncio.ensure_future(db.write(Add(1, word))) for word in ("second", "third"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
        assert db.queued_operations == 2
    assert await first == 1
    assert await third == 2
    assert second.cancelled()
    assert await db.read(words) == ["first", "third"]


async def test_a_listener_to_an_outcome_that_fails_takes_no_answer_from_others(
    db: Database, faults: DatabaseFaults
) -> None:
    """Writes without a future: in order of arrival, each once, errors of the listeners apart."""
    said: list[str] = []
    reported: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reported.append(context["exception"]))

    def settle(name: str, item: Item) -> None:
        said.append(name)
        assert item.error is None
        if name == "bad":
            raise ValueError(name)

    with faults.lanes_stopped():
        first = asyncio.ensure_future(db.write(Add(1, "first")))
        await asyncio.to_thread(faults.reached.wait, 10)
        for name in ("one", "bad", "two"):
            db.begin_write(Add(1, name), partial(settle, name), deadline=None, party=turns.CORE)
        withdraw = db.begin_write(Add(1, "never"), partial(settle, "never"), deadline=None, party=turns.CORE)
        withdraw()
        last = asyncio.ensure_future(db.write(Add(1, "last")))
        await asyncio.sleep(0)
    await asyncio.gather(first, last)
    assert said == ["one", "bad", "two"]
    assert [str(error) for error in reported] == ["bad"]
    assert await db.read(words) == ["first", "one", "bad", "two", "last"]
    assert db.queued_operations == db.queued_octets == 0


async def test_what_has_started_completes_with_its_effects_though_its_writer_is_cancelled(
    db: Database, faults: DatabaseFaults
) -> None:
    told = heard(db)
    with faults.lanes_stopped():
        writer = asyncio.ensure_future(db.write(Add(1, "a")))
        await asyncio.to_thread(faults.reached.wait, 10)
        writer.cancel()
        await asyncio.wait([writer])
    assert writer.cancelled()
    await db.write(Add(1, "b"))
    assert told == [(1, 1, "a"), (1, 2, "b")]


async def test_an_operation_past_its_deadline_is_not_run(db: Database, faults: DatabaseFaults) -> None:
    with faults.lanes_stopped():
        first = asyncio.ensure_future(db.write(Add(1, "first")))
        await asyncio.to_thread(faults.reached.wait, 10)
        late = asyncio.ensure_future(db.write(Add(1, "late"), deadline=time.monotonic() + 0.01))
        timely = asyncio.ensure_future(db.write(Add(1, "timely"), deadline=time.monotonic() + 60))
        await asyncio.sleep(0.03)
    with pytest.raises(DeadlineExceeded):
        await late
    assert [await first, await timely] == [1, 2]
    assert await db.read(words) == ["first", "timely"]


@pytest.mark.parametrize("limits", [QueueLimits(operations=3), QueueLimits(octets=300)])
async def test_writers_beyond_the_queue_wait_their_turn_in_order(
    limits: QueueLimits, open_small: Opener, faults: DatabaseFaults
) -> None:
    db = open_small(queue=limits)
    with faults.lanes_stopped():
        tasks = [asyncio.ensure_future(db.write(Add(1, f"w{number}"))) for number in range(10)]
        await asyncio.to_thread(faults.reached.wait, 10)
        assert (db.queued_operations, db.queued_octets, db.waiting_writers) == (3, 300, 7)
        tasks[5].cancel()  # one that waits outside
        await asyncio.wait([tasks[5]])
        assert db.waiting_writers == 6
    del tasks[5]
    assert await asyncio.gather(*tasks) == list(range(1, 10))
    assert (db.queued_operations, db.queued_octets) == (0, 0)


async def test_an_operation_larger_than_the_queue_is_run_when_it_is_alone(open_small: Opener) -> None:
    db = open_small(queue=QueueLimits(octets=300))
    assert sorted(await asyncio.gather(db.write(Add(1)), db.write(Add(1, octets=10_000)), db.write(Add(1)))) == [
        1,
        2,
        3,
    ]


async def test_close_finishes_what_is_queued_and_takes_nothing_new(open_small: Opener, faults: DatabaseFaults) -> None:
    db = open_small(queue=QueueLimits(operations=4))
    with faults.lanes_stopped():
        tasks = [asyncio.ensure_future(db.write(Add(1))) for _ in range(10)]
        await asyncio.to_thread(faults.reached.wait, 10)
        closing = asyncio.ensure_future(db.close())
        await asyncio.sleep(0)
        with pytest.raises(Draining):
            await db.write(Add(1))
    assert await asyncio.gather(*tasks) == list(range(1, 11))
    await closing
    with pytest.raises(Draining):
        await db.read(words)


async def test_operations_for_a_mailbox_run_in_order_of_arrival_whatever_their_class(db: Database) -> None:
    operations = [(Add if number % 3 else AddSet)(1 + number % 4, f"w{number:03}") for number in range(200)]
    await asyncio.gather(*(db.write(operation) for operation in operations))
    found = await db.read(words)
    for box_id in range(1, 5):
        expected = [operation.word for operation in operations if operation.box_id == box_id]
        assert [word for word in found if word in expected] == expected


@dataclass(frozen=True)
class Move:
    """Increase two counters in the given order."""

    first: int
    second: int
    rows: int = 2
    octets: int = 0

    @property
    def mailboxes(self) -> frozenset[int]:
        return frozenset({self.first, self.second})

    def run(self, tx: Connection) -> None:
        for box_id in (self.first, self.second):
            tx.execute(update(box).where(box.c.box_id == box_id).values(counter=box.c.counter + 1))


async def test_writes_over_several_mailboxes_in_any_order_never_deadlock(
    dialect: str, open_small: Opener, figures: Figures
) -> None:
    cores = [open_small() for _ in range(1 if dialect == "sqlite" else 2)]
    pairs = [(1 + number % 8, 1 + (number * 5 + 3) % 8) for number in range(200)]
    await asyncio.gather(*(cores[at % len(cores)].write(Move(*pair)) for at, pair in enumerate(pairs)))
    assert all(replays == 0 for _, _, replays in figures.groups)

    def total(tx: Connection) -> int:
        return sum(tx.execute(select(box.c.counter)).scalars())

    assert await cores[0].read(total) == 400


@pytest.mark.parametrize("dialect", [pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True)
async def test_a_group_locks_all_its_mailboxes_then_all_its_contents_each_ascending(
    open_small: Opener, faults: DatabaseFaults
) -> None:
    locked: list[tuple[str, list[int]]] = []
    locks = Locks(
        lambda _tx, ids: locked.append(("mailboxes", list(ids))),
        lambda _tx, ids: locked.append(("contents", list(ids))),
    )
    db = open_small(locks=locks, postgres=PostgresSettings(write_lanes=1))

    def naming(mailboxes: set[int], contents: set[int]) -> Write[None]:
        return Write(lambda _tx: None, mailboxes=frozenset(mailboxes), contents=frozenset(contents))

    await held(db, faults, naming({7, 3}, {900}), naming(set(), {20, 5}), naming({5}, set()))
    assert locked == [("mailboxes", [1]), ("mailboxes", [3, 5, 7]), ("contents", [5, 20, 900])]


@pytest.mark.parametrize("fault", [SystemExit(1), KeyboardInterrupt(), MemoryError()])
async def test_a_lane_and_the_process_outlive_whatever_an_operation_raises(
    fault: BaseException, db: Database, faults: DatabaseFaults
) -> None:
    def raises(_tx: Connection) -> None:
        raise fault

    outcomes = await held(db, faults, Add(1), Write(raises), Add(1))
    assert isinstance(outcomes[1], (MemoryError, DatabaseError))
    assert [outcomes[0], outcomes[2]] == [2, 3]
    (alone, read) = await asyncio.gather(db.write(Write(raises)), db.read(raises), return_exceptions=True)
    assert isinstance(alone, (MemoryError, DatabaseError))
    assert isinstance(read, (MemoryError, DatabaseError))
    assert await db.write(Add(1)) == 4
    assert await db.read(numbers, 1) == [1, 2, 3, 4]


async def test_nobody_sees_a_change_number_before_the_one_below_it(dialect: str, open_small: Opener) -> None:
    cores = [open_small() for _ in range(1 if dialect == "sqlite" else 2)]
    writing = True

    async def write(core: Database, start: int) -> None:
        for number in range(60):
            await core.write((Add if number % 2 else AddSet)(1 + (start + number) % 3))

    def gaps(tx: Connection) -> list[tuple[int, int, int]]:
        """(box, number of entries, counter) of each box whose numbers have a gap."""
        counters = select(box.c.box_id, box.c.counter).order_by(box.c.box_id)
        found = []
        for box_id, counter in tx.execute(counters).all():
            seen = numbers(tx, box_id)
            if seen != list(range(1, counter + 1)):
                found.append((box_id, len(seen), counter))
        return found

    async def watch(core: Database) -> int:
        looks = 0
        while writing:
            assert await core.read(gaps) == []
            looks += 1
        return looks

    watchers = [asyncio.ensure_future(watch(core)) for core in cores for _ in range(2)]
    await asyncio.gather(*(write(core, start) for core in cores for start in range(8)))
    writing = False
    assert min(await asyncio.gather(*watchers)) > 3
    assert sum([len(await cores[0].read(numbers, box_id)) for box_id in (1, 2, 3)]) == 480 * len(cores)


async def test_a_lane_lives_on_when_the_upkeep_between_groups_fails(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An example is a checkpoint on a broken disk. Writers of an ended lane would wait for ever."""
    backend = db._start().pipeline._lanes.all[0]._runner._backend

    def broken(tx: Connection) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(type(backend), "between_groups", broken)
    for number in (1, 2):
        async with asyncio.timeout(10):
            assert await db.write(Add(1, f"write {number}")) == number
