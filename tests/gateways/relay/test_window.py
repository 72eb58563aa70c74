"""The number of connections to a host grows with success and shrinks with failures."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from restante_gateways.relay.slots import Slots
from restante_gateways.relay.window import Window
from tests.gateways.relay.conftest import running
from tests.harness.outbound_queue import OutboundQueue
from tests.harness.smtp_peer import DROP, smtp_peer

BOB = "bob@example.net"


def test_each_round_of_successes_adds_a_connection() -> None:
    window, seen = Window(2, 5), []
    for _ in range(30):
        seen.append(window.allowed)
        window.succeeded()
    assert seen[:3] == [2, 2, 2] and sorted(seen) == seen
    assert set(seen) == {2, 3, 4, 5}


def test_failures_of_one_round_halve_it_once() -> None:
    window = Window(8, 8)
    assert window.failed(began=0.0, now=10.0)
    assert not any(window.failed(began=at, now=11.0) for at in (0.0, 5.0, 9.9))
    assert window.allowed == 4
    for at in (10.0, 20.0, 30.0, 40.0):
        assert window.failed(began=at, now=at + 1)
    assert window.allowed == 1


@given(st.integers(1, 50), st.integers(1, 50), st.lists(st.booleans(), max_size=200))
def test_it_stays_within_its_bounds(first: int, most: int, ends: list[bool]) -> None:
    window = Window(first, most)
    for at, good in enumerate(ends):
        if good:
            window.succeeded()
        else:
            window.failed(at, at)
        assert 1 <= window.allowed <= most


async def test_slots_are_given_in_order_and_come_back() -> None:
    slots, order = Slots("x", Window(1, 4)), list[int]()

    async def use(number: int) -> None:
        async with slots.taken():
            order.append(number)
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(use(number)) for number in range(5)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [0, 1, 3, 4] and slots.users == 0
    async with asyncio.timeout(1), slots.taken():
        pass


async def test_connections_grow_with_success() -> None:
    core = OutboundQueue()
    async with smtp_peer() as peer:
        settings: dict[str, Any] = {"connections_per_host": 5, "first_connections_per_host": 1}
        async with running(core, {"*": f"127.0.0.1:{peer.port}"}, **settings):
            peer.reading.clear()
            many = [core.put(BOB) for _ in range(60)]
            await asyncio.sleep(0.2)
            assert peer.open_now == 1
            peer.reading.set()
            for lease in many:
                assert await core.outcomes(lease) == [("relayed", "2.0.0")]
        assert 4 <= peer.most_open <= 6  # one may be leaving


@pytest.mark.parametrize("answer", ["421 4.7.0 too many connections DROP", DROP])
async def test_connections_shrink_where_the_host_refuses_them(answer: str) -> None:
    core = OutboundQueue()
    async with smtp_peer() as peer:
        peer.script = lambda event: answer if event == "greeting" and peer.open_now > 2 else None
        settings: dict[str, Any] = {"connections_per_host": 8, "first_connections_per_host": 8}
        async with running(core, {"*": f"127.0.0.1:{peer.port}"}, **settings):
            many = [core.put(BOB) for _ in range(300)]
            ends = [await core.outcomes(lease) for lease in many]
    deferred = sum(end[0][0] == "deferred" for end in ends)
    assert 0 < deferred < 60, deferred  # with 8 connections for ever, most of them would be refused
    assert len(peer.messages) == 300 - deferred


async def test_421_in_a_transaction_shrinks_it_too() -> None:
    core = OutboundQueue()
    async with smtp_peer() as peer:
        peer.replies["MAIL"] = [*["421 4.7.0 slower DROP"] * 20, "250 ok"]
        settings: dict[str, Any] = {"connections_per_host": 8, "first_connections_per_host": 8}
        async with running(core, {"*": f"127.0.0.1:{peer.port}"}, **settings):
            for lease in [core.put(BOB) for _ in range(20)]:
                assert await core.outcomes(lease) == [("deferred", "4.7.0")]
            peer.most_open = 0
            for lease in [core.put(BOB) for _ in range(3)]:
                assert await core.outcomes(lease) == [("relayed", "2.0.0")]
            assert peer.most_open <= 2
