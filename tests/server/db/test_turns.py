"""Turns by party: in the queue itself, for reads and for writes, no party waits for all requests of another."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from sqlalchemy import Connection

from restante_server.db import reader, turns
from restante_server.db.engine import Database
from restante_server.db.group import Bounds
from restante_server.db.operation import Write
from restante_server.db.pipeline import QueueLimits
from restante_server.db.turns import Party, Turns
from tests.harness.faults import DatabaseFaults
from tests.server.db.conftest import Add, AddSet, Figures, Opener

GREEDY, BOB, CAROL = (Party(f"account:{number}") for number in (1, 2, 3))
MX = Party("gateway:smtp", many=True)
PARTIES = {"g": GREEDY, "b": BOB, "c": CAROL, "m": MX}
R = TypeVar("R")


@pytest.mark.parametrize(
    ("put", "taken"),
    [
        ("gggg", "gggg"),
        ("ggggb", "gbggg"),
        ("ggggbbc", "gbcgbgg"),
        ("gggggm", "gmgggg"),
        ("mmmmmg", "gmmmmm"),
        ("gbcmmmm", "gmbmcmm"),  # every second turn is for a party that acts for many
        ("gbgbm", "gmbgb"),
    ],
)
def test_each_party_has_one_item_in_turn_and_every_second_is_for_many(put: str, taken: str) -> None:
    queue: Turns[str] = Turns()
    for name in put:
        queue.put(PARTIES[name], name)
    assert len(queue) == len(put)
    assert "".join(queue.take() for _ in put) == taken
    assert not queue


def test_a_party_keeps_its_order_and_what_is_put_back_is_its_first() -> None:
    queue: Turns[int] = Turns()
    for number in range(4):
        queue.put(GREEDY, number)
    queue.put(BOB, 10)
    assert queue.peek() == queue.take() == 0
    queue.put_back(GREEDY, 0)
    assert [queue.take() for _ in range(5)] == [0, 10, 1, 2, 3]
    queue.put_back(BOB, 11)  # of a party without other waiting work
    assert queue.take() == 11


def test_an_item_can_be_taken_out_and_its_party_leaves_with_the_last() -> None:
    queue: Turns[int] = Turns()
    queue.put(GREEDY, 1)
    queue.put(GREEDY, 2)
    queue.put(BOB, 3)
    assert queue.remove(GREEDY, 1) and queue.remove(BOB, 3)
    assert not queue.remove(BOB, 3) and not queue.remove(GREEDY, 1)
    assert queue.take() == 2
    assert not queue


def begin(party: Party, work: Callable[[], Awaitable[R]]) -> asyncio.Task[R]:
    """Start a task for a party, as a call of that party would run."""

    async def run() -> R:
        return await work()

    before = turns.party.set(party)
    try:
        return asyncio.ensure_future(run())
    finally:
        turns.party.reset(before)


@pytest.mark.parametrize("shared", [True, False])
async def test_a_read_waits_for_one_read_of_each_other_party(shared: bool, open_small: Opener) -> None:
    db = open_small(readers=1)
    served: list[str] = []
    began, go_on = threading.Event(), threading.Event()

    def gate(_tx: Connection) -> None:
        began.set()
        assert go_on.wait(10)

    def read(name: str) -> Awaitable[None]:
        def function(_tx: Connection) -> None:
            served.append(name)

        return db.read_short(function) if shared else db.read(function)

    first = asyncio.ensure_future(db.read(gate))
    await asyncio.to_thread(began.wait, 10)
    greedy = [begin(GREEDY, lambda: read("greedy")) for _ in range(300)]
    await asyncio.sleep(0)
    others = [begin(BOB, lambda: read("bob")), begin(CAROL, lambda: read("carol"))]
    await asyncio.sleep(0.01)
    go_on.set()
    await asyncio.gather(first, *greedy, *others)
    assert len(served) == 302
    assert sorted(served[:3]) == ["bob", "carol", "greedy"]


async def test_a_hop_that_takes_long_ends_early_and_lets_a_newcomer_in(
    open_small: Opener, figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "HOP_SECONDS", 0.0)  # every read takes long
    db = open_small(readers=1)
    served: list[str] = []
    inside, go_on = threading.Event(), threading.Event()

    def greedy(_tx: Connection) -> None:
        served.append("greedy")
        if len(served) == 3:
            inside.set()
            assert go_on.wait(10)

    reads = [begin(GREEDY, lambda: db.read_short(greedy)) for _ in range(20)]
    await asyncio.to_thread(inside.wait, 10)
    innocent = begin(BOB, lambda: db.read_short(lambda _tx: served.append("bob")))
    await asyncio.sleep(0.01)
    go_on.set()
    await asyncio.gather(innocent, *reads)
    assert len(served) == 21
    assert served.index("bob") <= 4  # behind the one that ran, and at most one more
    assert figures.reads == [1] * 21


async def test_short_reads_of_one_turn_of_the_loop_share_a_hop(
    db: Database, figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "HOP_SECONDS", 10.0)  # on a busy machine too
    await asyncio.gather(*(begin(party, lambda: db.read_short(lambda _tx: None)) for party in (GREEDY, BOB, MX) * 5))
    assert figures.reads == [15]


async def test_a_shared_read_keeps_its_deadline_and_can_be_given_up(open_small: Opener) -> None:
    db = open_small(readers=1)
    began, go_on = threading.Event(), threading.Event()
    ran: list[str] = []

    def gate(_tx: Connection) -> None:
        began.set()
        assert go_on.wait(20)

    first = asyncio.ensure_future(db.read(gate))
    await asyncio.to_thread(began.wait, 10)
    late = asyncio.ensure_future(db.read_short(lambda _tx: ran.append("late"), deadline=time.monotonic() + 0.1))
    given_up = asyncio.ensure_future(db.read_short(lambda _tx: ran.append("given up")))
    await asyncio.sleep(0.01)
    given_up.cancel()
    with pytest.raises(Exception, match="deadline"):
        await asyncio.wait_for(late, 10)
    go_on.set()
    await first
    await db.read_short(lambda _tx: ran.append("next"))
    assert ran == ["next"]
    assert db.waiting_reads == 0


async def test_a_write_waits_for_one_write_of_each_other_party(open_small: Opener, faults: DatabaseFaults) -> None:
    """This holds in the lane's queue, and among writes that wait for room in the pipeline."""
    db = open_small(bounds=Bounds(operations=3), queue=QueueLimits(operations=6))
    served: list[str] = []
    with faults.lanes_stopped():
        first = asyncio.ensure_future(db.write(Add(1)))
        await asyncio.to_thread(faults.reached.wait, 10)
        greedy = [begin(GREEDY, lambda: db.write(_note(served, "greedy"))) for _ in range(200)]
        await asyncio.sleep(0)
        others = [
            begin(BOB, lambda: db.write(_note(served, "bob"))),
            begin(CAROL, lambda: db.write(_note(served, "carol"))),
        ]
        await asyncio.sleep(0)
        assert db.waiting_writers == 197
    await asyncio.gather(first, *greedy, *others)
    assert len(served) == 202
    # Five were in the pipeline before the others came; from then on each has its turn.
    assert max(served.index("bob"), served.index("carol")) < 5 + 3


def _note(served: list[str], name: str) -> Write[None]:
    return Write(lambda _tx: served.append(name), mailboxes=frozenset({1}))


async def test_deliveries_taken_in_turns_with_others_still_run_as_one_set(
    db: Database, faults: DatabaseFaults, figures: Figures
) -> None:
    """This holds even when the greedy party writes to the mailboxes of the deliveries."""
    AddSet.sizes.clear()
    with faults.lanes_stopped():
        first = asyncio.ensure_future(db.write(Add(1)))
        await asyncio.to_thread(faults.reached.wait, 10)
        tasks: list[asyncio.Task[int]] = []
        for number in range(12):
            tasks.append(begin(GREEDY, lambda number=number: db.write(Add(1 + number % 4))))  # type: ignore[misc]
            tasks.append(begin(MX, lambda number=number: db.write(AddSet(1 + number % 4))))  # type: ignore[misc]
        await asyncio.sleep(0)
    await asyncio.gather(first, *tasks)
    assert figures.sizes[-1] == 24
    assert AddSet.sizes == [12]
