"""Which lane a write uses: the first that is free or soon will be, and one lane for the mailbox's waiting writes."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy import Connection

from restante_server.db import lanes
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.db.postgresql import PostgresSettings
from tests.server.conftest import BOTH
from tests.server.db.conftest import Add, Figures, Opener, numbers

pytestmark = pytest.mark.parametrize("dialect", BOTH[1:], indirect=True)


@pytest.fixture
def several(open_small: Opener) -> Database:
    return open_small(postgres=PostgresSettings(write_lanes=4))


def slow(mailbox_id: int, seconds: float) -> Write[None]:
    def wait(_tx: Connection) -> None:
        time.sleep(seconds)

    return Write(wait, mailboxes=frozenset({mailbox_id}))


async def test_writes_of_many_mailboxes_form_one_group_while_the_lane_is_quick(
    several: Database, figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "PATIENCE_SECONDS", 60.0)
    await asyncio.gather(*(several.write(Add(1 + number % 8)) for number in range(20)))
    assert {lane for lane, _, _ in figures.groups} == {0}
    assert len(figures.groups) <= 2, "the first alone, and what came meanwhile"


async def test_other_mailboxes_pass_a_lane_that_is_held_up(several: Database, figures: Figures) -> None:
    held_up = asyncio.ensure_future(several.write(slow(1, 1.0)))
    await asyncio.sleep(0.2)
    behind = asyncio.ensure_future(several.write(Add(1)))
    assert await asyncio.gather(*(several.write(Add(number)) for number in (2, 3, 4))) == [1, 1, 1]
    assert not held_up.done() and not behind.done()
    assert {lane for lane, _, _ in figures.groups} == {1}
    await asyncio.gather(held_up, behind)
    assert {lane for lane, operations, _ in figures.groups} == {0, 1}
    assert (await several.write(Add(2)), figures.groups[-1][0]) == (2, 0), "nothing of the mailbox waits any more"


async def test_the_writes_of_a_mailbox_keep_their_order_whatever_lanes_are_free(
    several: Database, figures: Figures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "PATIENCE_SECONDS", 0.0)
    made = [several.write(Add(1 + number % 3)) for number in range(60)]
    assert await asyncio.gather(*made) == [1 + number // 3 for number in range(60)]
    assert len({lane for lane, _, _ in figures.groups}) > 1
    for mailbox_id in (1, 2, 3):
        assert await several.read(numbers, mailbox_id) == list(range(1, 21))


async def test_a_withdrawn_write_holds_no_mailbox_to_its_lane(several: Database, figures: Figures) -> None:
    held_up = asyncio.ensure_future(several.write(slow(1, 1.0)))
    await asyncio.sleep(0.1)
    withdrawn = asyncio.ensure_future(several.write(Write(lambda _tx: None, mailboxes=frozenset({1, 2}))))
    await asyncio.sleep(0)
    withdrawn.cancel()
    await asyncio.wait([withdrawn])
    assert await several.write(Add(2)) == 1
    assert not held_up.done()
    await held_up
