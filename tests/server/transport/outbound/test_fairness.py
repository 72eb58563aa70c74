"""Leasing beside a queue full of stuck mail: the order of leases, and the rows read for them."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, Select, delete, text, update

from restante_server.db.operation import Write
from restante_server.db.schema import transport_message, transport_recipient
from restante_server.transport.outbound import candidates, queue
from restante_server.transport.outbound.turns import Turns
from tests.harness import stuck
from tests.server.transport.world import World

MANY = 100_000
LETTER = b"To: eve@example.net\r\nSubject: Hello\r\n\r\nHi\r\n"
ROUNDS = 25  # of 100 leases, in which each of 1,001 lanes must have had its turn


async def send(world: World, name: str, recipient: str) -> int:
    return (await world.submit(name, LETTER, recipients=[recipient])).submission.submission_id


async def fill(world: World, count: int, like: int, **facts: Any) -> None:
    def run(tx: Connection) -> None:
        due_at = world.clock(tx) - 3_600_000_000  # older than all other mail
        stuck.fill(tx, like, count, due_at=due_at, **facts)
        tx.execute(text("ANALYZE"))

    await world.db.write(Write(run))


@pytest.fixture
async def emptied(world: World) -> Any:
    """Remove the stuck mail after the test, so that the check of the store is quick."""
    yield

    def run(tx: Connection) -> None:
        for table in (transport_recipient, transport_message):
            tx.execute(delete(table).where(table.c.transport_id >= stuck.FIRST))

    await world.db.write(Write(run))


async def leased(world: World, turns: Turns, rounds: int, *, ends: bool) -> list[tuple[str, int]]:
    """The lanes of all leases of these rounds. `ends`: every lease ends before the next round, and its mail is gone."""
    found = []
    for _ in range(rounds):
        new = await world.db.write(
            Write(lambda tx: queue.lease(tx, world.clock(tx), turns, 300, world.transport.forwarding))
        )
        for lease in new.leases:
            turns.give(lease.lease_id, lease.destination, lease.sender)
        found += [(lease.destination, lease.sender) for lease in new.leases]
        if ends:
            turns.keep({})
    return found


async def test_a_dead_destination_with_the_oldest_mail_delays_no_other(world: World, emptied: None) -> None:
    dead = await send(world, "alice", "eve@dead.example")
    await fill(world, MANY, dead, destination=stuck.one("dead.example"), sender=stuck.by(1))
    await send(world, "alice", "dave@live.example")
    turns = Turns(100)
    first = await leased(world, turns, 1, ends=False)
    assert "live.example" in {destination for destination, _ in first[:3]}
    assert len(first) < 60  # the rest is room for other destinations
    await send(world, "bob", "dave@other.example")
    assert ("other.example", world.people["bob"].account_id) in await leased(world, turns, 1, ends=False)


async def test_a_dead_destination_of_many_senders_delays_no_other(world: World, emptied: None) -> None:
    dead = await send(world, "alice", "eve@dead.example")
    await fill(world, MANY, dead, destination=stuck.one("dead.example"), sender=stuck.by(*range(10_000, 20_000)))
    await send(world, "alice", "dave@live.example")
    assert "live.example" in {destination for destination, _ in (await leased(world, Turns(100), 1, ends=False))[:3]}


async def test_a_sender_with_many_destinations_delays_no_other_sender(world: World, emptied: None) -> None:
    flood = await send(world, "alice", "eve@0.flood.example")
    alice, bob = (world.people[name].account_id for name in ("alice", "bob"))
    await fill(world, 10_000, flood, destination=stuck.many("flood.example", 10_000), sender=stuck.by(alice))
    await send(world, "bob", "dave@zzz.example")
    assert ("zzz.example", bob) in (await leased(world, Turns(100), 1, ends=False))[:3]


async def test_a_stuck_sender_gets_its_other_mail_through_beside_anothers_flood(world: World, emptied: None) -> None:
    """bob has 50,000 messages for a dead destination, alice as many for the destination of bob's one other message."""
    like = await send(world, "alice", "eve@live.example")
    alice, bob = (world.people[name].account_id for name in ("alice", "bob"))
    await fill(world, MANY // 2, like, destination=stuck.one("dead.example"), sender=stuck.by(bob))
    await fill(world, MANY // 2, like, destination=stuck.one("live.example"), sender=stuck.by(alice))
    await send(world, "bob", "dave@live.example")
    assert ("live.example", bob) in (await leased(world, Turns(100), 1, ends=False))[:4]


async def test_every_lane_gets_its_turn_among_more_than_one_walk_takes(world: World, emptied: None) -> None:
    """1,000 senders with mail for 1,000 destinations each, as far as 100,000 messages go, and one message more."""
    like = await send(world, "alice", "eve@live.example")
    await fill(
        world, MANY, like, destination=stuck.many("flood.example", 1_000), sender=stuck.by(*range(10_000, 11_000))
    )
    await send(world, "bob", "dave@live.example")
    found = await leased(world, Turns(100), ROUNDS, ends=True)
    assert ("live.example", world.people["bob"].account_id) in found


def steps(tx: Connection, now: int, turns: Turns) -> int:
    """SQLite: the steps of its machine for one search. PostgreSQL: the rows read for it, by EXPLAIN ANALYZE."""
    if tx.dialect.name == "sqlite":
        count = 0

        def step() -> None:
            nonlocal count
            count += 1

        driver: Any = tx.connection.dbapi_connection
        driver.set_progress_handler(step, 10)
        try:
            candidates.find(tx, now, turns)
        finally:
            driver.set_progress_handler(None, 0)
        return 10 * count
    return sum(_explained(tx, statement, now) for statement in candidates.STATEMENTS)


def _explained(tx: Connection, statement: Select[Any], now: int) -> int:
    given = {name: {"moment": now, "pivot": -1}.get(name, "") for name in statement.compile().params}
    if "pivot" not in given and "after" in given:
        given["after"] = -1
    inlined = statement.params(given).compile(tx.engine, compile_kwargs={"literal_binds": True})
    (plan,) = tx.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {inlined}").scalar_one()
    return _read(plan["Plan"])


def _read(plan: dict[str, Any]) -> int:
    """The rows that a plan read from tables and indexes, with those that it filtered out."""
    own = 0
    if "Relation Name" in plan:
        own = plan["Actual Loops"] * (plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) + 1)
    return int(own) + sum(map(_read, plan.get("Plans", ())))


async def test_a_lease_costs_the_same_whatever_is_stuck(world: World, emptied: None) -> None:
    """1,000 or 100,000 stuck messages of 1 or 50 senders: the same search. Without any: much less."""
    like = await send(world, "alice", "eve@dead.example")
    await send(world, "alice", "dave@live.example")
    cost: list[int] = []

    async def measure() -> None:
        cost.append(await world.db.write(Write(lambda tx: steps(tx, world.clock(tx), Turns(100)))))

    await measure()
    dead = {"destination": stuck.one("dead.example"), "sender": stuck.by(*range(10_000, 10_050))}
    await fill(world, 1_000, like, **dead)
    await measure()
    await fill(world, MANY, like, **dead)
    await measure()
    later = update(transport_recipient).values(next_attempt_at=transport_recipient.c.next_attempt_at + (1 << 50))
    await world.db.write(Write(lambda tx: tx.execute(later.where(transport_recipient.c.transport_id >= stuck.FIRST))))
    await world.db.write(Write(lambda tx: tx.execute(text("ANALYZE"))))
    await measure()
    none, thousand, all_, not_due = cost
    assert all_ < 1.2 * thousand, cost
    assert none < thousand, cost
    assert not_due < thousand, cost
