"""Deliveries of TLS reports to web servers: leased, tried again with growing pauses, ended after 24 hours."""

from __future__ import annotations

from typing import Any

import pytest

from restante.errors import LeaseLost
from restante_server.db.operation import Write
from restante_server.transport.feedback import archive, deliveries
from restante_server.transport.feedback.archive import Direction, Kind, NewReport
from restante_server.transport.feedback.deliveries import FIRST_PAUSE, LIFETIME, LONGEST_PAUSE, Delivery, Lease, State
from tests.server.transport.world import START, World

URL = "https://example.org/tls"


async def change(world: World, function: Any, *arguments: Any) -> Any:
    return await world.db.write(Write(lambda tx: function(tx, *arguments)))


async def kept(world: World, *urls: str, document: bytes = b"\x1f\x8b", number: int = 0) -> int:
    new = NewReport(Kind.TLS, "Example", str(number), "example.org", 1, 2, 3, 1, "", document)
    report_id: int = await change(world, archive.keep, Direction.SENT, new, START)
    await change(world, deliveries.add, report_id, urls, START)
    return report_id


async def lease(world: World, now: int, most: int = 10) -> list[Lease]:
    leases: list[Lease] = await change(world, deliveries.lease, now, most)
    return leases


async def shown(world: World, report_id: int) -> list[Delivery]:
    return (await world.db.read(deliveries.of_reports, [report_id]))[report_id]


async def test_each_web_server_is_leased_and_takes_the_report_once(world: World) -> None:
    report_id = await kept(world, URL, URL + "2")
    leases = await lease(world, START)
    assert [(one.url, one.policy_domain, one.size_octets) for one in leases] == [
        (URL, "example.org", 2),
        (URL + "2", "example.org", 2),
    ]
    assert await lease(world, START) == []
    for _ in range(2):  # a repeat changes nothing
        await change(world, deliveries.settle, report_id, leases[0].lease_id, True, "HTTP status 201", START + 5)
    first, second = await shown(world, report_id)
    assert first == Delivery(report_id, URL, State.DELIVERED, 1, "HTTP status 201", None, START + 5)
    assert (second.state, second.attempt_count) == (State.WAITING, 1)
    assert [one.url for one in await lease(world, START + FIRST_PAUSE)] == [URL + "2"]


async def test_pauses_grow_and_the_last_attempt_ends_it(world: World) -> None:  # RFC 8460 5.5
    report_id = await kept(world, URL)
    now, pauses = START, list[int]()
    while (one := (await shown(world, report_id))[0]).state == State.WAITING:
        assert one.next_attempt_at is not None
        pauses.append(one.next_attempt_at - now)
        now = one.next_attempt_at
        (given,) = await lease(world, now)
        await change(world, deliveries.settle, report_id, given.lease_id, False, "HTTP status 503", now + 1)
    assert pauses[:4] == [0, FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE] and max(pauses) == LONGEST_PAUSE
    assert (one.state, one.detail, one.next_attempt_at) == (State.FAILED, "HTTP status 503", None)
    assert START + LIFETIME - LONGEST_PAUSE <= now < START + LIFETIME
    assert await lease(world, now + LIFETIME) == []


async def test_a_relay_that_tells_no_outcome_holds_nothing_up(world: World) -> None:
    report_id = await kept(world, URL)
    (lost,) = await lease(world, START)
    (again,) = await lease(world, START + FIRST_PAUSE)
    assert again.lease_id != lost.lease_id
    with pytest.raises(LeaseLost):
        await change(world, deliveries.settle, report_id, lost.lease_id, True, "", START)
    await lease(world, START + LIFETIME)
    (one,) = await shown(world, report_id)
    assert (one.state, one.attempt_count, one.finished_at) == (State.FAILED, 2, START + LIFETIME)


async def test_a_document_is_read_in_pieces(world: World) -> None:
    document = bytes(range(256)) * 400
    report_id = await kept(world, URL, document=document)
    (given,) = await lease(world, START)
    assert given.size_octets == len(document) > 2 * deliveries.PIECE_OCTETS
    read = b""
    while piece := await world.db.read(deliveries.piece, report_id, given.lease_id, len(read)):
        assert len(piece) <= deliveries.PIECE_OCTETS
        read += piece
    assert read == document
    for other in ((report_id, given.lease_id + 1), (report_id + 1, given.lease_id)):
        with pytest.raises(LeaseLost):
            await world.db.read(deliveries.piece, *other, 0)


async def test_at_most_so_many_are_leased(world: World) -> None:
    for number in range(3):
        await kept(world, URL, number=number)
    assert [len(await lease(world, START, 2)) for _ in range(3)] == [2, 1, 0]


async def test_a_forgotten_report_has_no_deliveries(world: World) -> None:
    report_id = await kept(world, URL)
    assert await change(world, archive.forget, START + 1, 10) == 1
    assert await world.db.read(deliveries.of_reports, [report_id]) == {}
    assert await world.db.read(deliveries.of_reports, []) == {}
    assert await lease(world, START) == []
