"""Counting messages for DMARC reports: sums, bounds, and what a failed write leaves."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from restante.errors import RestanteError
from restante_mail.feedback.aggregate import Row
from restante_server.db.operation import Write
from restante_server.transport.feedback import counts
from restante_server.transport.feedback.counts import Request, Subject
from restante_server.transport.feedback.tally import Tally
from tests.server.transport.feedback.rows import FULL, ROW
from tests.server.transport.world import World

DAY = 20_000
SUBJECT = Subject(DAY, "example.org")
REQUEST = Request("v=DMARC1; p=none; rua=mailto:d@example.org", ("d@example.org",))
NOON = DAY * counts.DAY_SECONDS + 43_200


async def held(world: World, subject: Subject = SUBJECT) -> dict[Row, int]:
    found = await world.db.read(counts.load, subject)
    return {} if found is None else dict(found[1])


async def test_messages_that_look_alike_are_one_row(world: World) -> None:
    tally = Tally()
    for _ in range(3):
        tally.count("example.org", REQUEST, ROW, NOON)
    tally.count("example.org", REQUEST, FULL, NOON)
    await tally.flush(world.db)
    tally.count("example.org", REQUEST, FULL, NOON + 40_000)
    await tally.flush(world.db)
    assert await held(world) == {ROW: 3, FULL: 2}
    assert await world.db.read(counts.load, SUBJECT) == (REQUEST, ((ROW, 3), (FULL, 2)))


async def test_days_and_domains_are_apart(world: World) -> None:
    tally = Tally()
    tally.count("example.org", REQUEST, ROW, NOON)
    tally.count("example.org", REQUEST, ROW, NOON + counts.DAY_SECONDS)
    tally.count("example.net", REQUEST, ROW, NOON)
    await tally.flush(world.db)
    assert await world.db.read(counts.due, DAY + 1, 10) == [Subject(DAY, "example.net"), SUBJECT]
    assert await held(world) == {ROW: 1}


async def test_the_last_seen_request_counts(world: World) -> None:
    tally = Tally()
    tally.count("example.org", REQUEST, ROW, NOON)
    await tally.flush(world.db)
    changed = Request("v=DMARC1; p=reject", ())
    tally.count("example.org", changed, ROW, NOON)
    await tally.flush(world.db)
    assert await world.db.read(counts.load, SUBJECT) == (changed, ((ROW, 2),))


async def test_rows_and_domains_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "MAX_ROWS", 2)
    monkeypatch.setattr(counts, "MAX_DOMAINS", 1)
    tally = Tally()
    rows = [replace(ROW, source_address=f"192.0.2.{number}") for number in range(4)]
    for row in rows:
        tally.count("example.org", REQUEST, row, NOON)
    tally.count("example.net", REQUEST, ROW, NOON)
    await tally.flush(world.db)
    found = await world.db.read(lambda tx: {one: counts.load(tx, one) for one in counts.due(tx, DAY + 1, 10)})
    assert len(found) == 1
    for row in rows:
        tally.count("example.org", REQUEST, row, NOON)
    await tally.flush(world.db)
    total = sum(sum(count for _, count in one[1]) for one in found.values() if one is not None)
    assert tally.left_out > 0
    assert total + tally.left_out >= 5


async def test_known_rows_count_on_at_the_bound(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "MAX_ROWS", 1)
    tally = Tally()
    for _ in range(2):
        tally.count("example.org", REQUEST, ROW, NOON)
        await tally.flush(world.db)
    tally.count("example.org", REQUEST, FULL, NOON)
    await tally.flush(world.db)
    assert await held(world) == {ROW: 2}
    assert tally.left_out == 1


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restante_server.transport.feedback.tally.MAX_HELD", 1)
    tally = Tally()
    tally.count("example.org", REQUEST, ROW, NOON)
    tally.count("example.org", REQUEST, FULL, NOON)
    tally.count("example.org", REQUEST, ROW, NOON)
    assert tally.left_out == 1


async def test_a_failed_write_loses_no_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tally = Tally()
    tally.count("example.org", REQUEST, ROW, NOON)

    def fail(*_: object) -> None:
        raise RestanteError

    with monkeypatch.context() as patched:
        patched.setattr(counts, "add", fail)
        with pytest.raises(RestanteError):
            await tally.flush(world.db)
    tally.count("example.org", REQUEST, ROW, NOON)
    await tally.flush(world.db)
    assert await held(world) == {ROW: 2}


async def test_one_of_two_cores_sends_a_report(world: World) -> None:
    tally = Tally()
    tally.count("example.org", REQUEST, ROW, NOON)
    await tally.flush(world.db)
    removed = await asyncio.gather(*(world.db.write(_remove()) for _ in range(2)))
    assert sorted(removed) == [False, True]
    assert await world.db.read(counts.load, SUBJECT) is None


def _remove() -> Write[bool]:
    return Write(lambda tx: counts.remove(tx, SUBJECT))
