"""Delivery: a recipient has the same outcome for mail delivered at once, scheduled, or queued."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from email import message_from_bytes
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from restante.v1.admin_pb2 import TraceMessagesRequest
from restante_process.config import Store
from restante_server import transport
from restante_server.accounts import lifecycle
from restante_server.api.services import convert
from restante_server.db import schema
from restante_server.db.operation import Write
from restante_server.directory import rights
from restante_server.store import mailboxes
from restante_server.transport.inbound.dispose import OVERDRAWN
from restante_server.transport.schedule import HOUR
from restante_server.transport.states import State
from restante_server.upkeep import sweeps
from restante_server.upkeep.collector import Collector
from tests.server.store.material import listings, previews
from tests.server.transport.world import MESSAGE, World

FROM_ALICE = MESSAGE.replace(b"Dave <dave@example.org>", b"alice@example.test")
FULL = "dora@example.test"
DELIVERY_STATUS = "message/delivery-status"


Send = Callable[..., Awaitable[int]]


async def by_api(world: World, **fields: object) -> int:
    return (await world.submit("alice", FROM_ALICE, **fields)).submission.submission_id


async def by_smtp(world: World, **fields: object) -> int:
    return await world.submit_by_smtp("alice", FROM_ALICE, **fields)


async def at_once(world: World, path: str, send: Send = by_api) -> int:
    return await send(world, recipients=[path])


async def scheduled(world: World, path: str, send: Send = by_api) -> int:
    moment = convert.timestamp(world.call(world.gateway()).now + HOUR)
    transport_id = await send(world, recipients=[path], send_at=moment)
    await world.pass_time(2 * HOUR)
    return transport_id


async def behind_others(world: World, path: str, send: Send = by_api) -> int:
    """Deliver to a recipient of a message after its direct deliveries are used up."""
    world.transport.settings = replace(world.transport.settings, direct_deliveries=2)
    transport_id = await send(world, recipients=["bob@example.test", "carol@example.test", path])
    await world.settle()
    return transport_id


Way = Callable[..., Awaitable[int]]
WAYS: Sequence[Way] = (at_once, scheduled, behind_others)


async def end_of(world: World, transport_id: int, path: str) -> tuple[State, str, str]:
    """(state, status, reason) in the last step of the trace of this recipient."""
    trace = await world.run(TraceMessagesRequest(transport_id=transport_id), world.gateway("admin"))
    (message,) = trace.traces
    last = [event for event in message.events if event.forward_path == path][-1]
    status, _, reason = last.detail.partition(" ")
    return State(last.state), status, reason


def failures(octets: bytes) -> list[tuple[str, str, str]]:
    """(recipient, status, diagnostic) of a report's fields."""
    status = next(part for part in message_from_bytes(octets).walk() if part.get_content_type() == DELIVERY_STATUS)
    blocks = [block for block in status.walk() if block["Final-Recipient"]]
    return [(block["Final-Recipient"], block["Status"], block["Diagnostic-Code"]) for block in blocks]


@pytest.mark.parametrize("way", WAYS)
async def test_a_full_mailbox_fails_alike_and_is_reported_alike(world: World, way: Way) -> None:
    await world.add_account(FULL, quota_octets=10)
    transport_id = await way(world, FULL)
    assert await end_of(world, transport_id, FULL) == (State.FAILED, "5.2.2", "the mailbox is full")
    await world.settle()
    (report,) = await world.letters("alice")
    assert failures(report.content) == [(f"rfc822; {FULL}", "5.2.2", "x-restante; the mailbox is full")]
    assert await world.letters("dora") == []


async def test_recipient_150_of_a_submission_ends_like_the_first(world: World) -> None:
    paths = [f"user{number}@example.test" for number in range(149)]
    await world.add_accounts(paths)
    await world.add_account(FULL, quota_octets=10)
    sent = await world.submit("alice", FROM_ALICE, recipients=[*paths, FULL])
    transport_id = sent.submission.submission_id
    assert (await world.states(transport_id))[-1] == (FULL, State.PENDING, "")
    await world.settle()
    assert await end_of(world, transport_id, FULL) == (State.FAILED, "5.2.2", "the mailbox is full")
    await world.settle()
    (report,) = await world.letters("alice")
    assert failures(report.content) == [(f"rfc822; {FULL}", "5.2.2", "x-restante; the mailbox is full")]
    states = [state for _, state, _ in await world.states(transport_id)]
    assert states.count(State.DELIVERED) == 149


@pytest.mark.parametrize("way", WAYS)
async def test_a_recipient_accepted_at_rcpt_is_delivered_beyond_the_quota(world: World, way: Way) -> None:
    await world.add_account(FULL, quota_octets=10)
    transport_id = await way(world, FULL, by_smtp)
    assert await end_of(world, transport_id, FULL) == (State.DELIVERED, "2.1.5", OVERDRAWN)
    assert len(await world.letters("dora")) == 1
    assert await world.letters("alice") == []


async def test_mail_from_elsewhere_keeps_its_promise_while_it_waits(world: World) -> None:
    world.transport.settings = replace(world.transport.settings, direct_deliveries=0)
    await world.add_account(FULL, quota_octets=10)
    await world.add_alias("team@example.test", FULL, "bob@example.test")
    promised = (await world.accept([FULL])).transport_id
    expanded = (await world.accept(["team@example.test"], reverse_path="alice@example.test")).transport_id
    await world.settle()
    assert await end_of(world, promised, FULL) == (State.DELIVERED, "2.1.5", OVERDRAWN)
    assert (await end_of(world, expanded, FULL))[:2] == (State.FAILED, "5.2.2")  # RCPT checks no alias' targets
    await world.settle()
    assert len(await world.letters("alice")) == 1


@pytest.mark.parametrize("direct_deliveries", [100, 0])
async def test_each_message_finds_the_room_that_earlier_ones_left(world: World, direct_deliveries: int) -> None:
    world.transport.settings = replace(world.transport.settings, direct_deliveries=direct_deliveries)
    await world.add_account(FULL, quota_octets=3 * len(FROM_ALICE))
    ids = [(await world.submit("alice", FROM_ALICE, recipients=[FULL])).submission.submission_id for _ in range(4)]
    await world.settle()
    ends = [(await end_of(world, transport_id, FULL))[0] for transport_id in ids]
    assert 1 <= ends.count(State.DELIVERED) <= 2
    assert len(await world.letters("dora")) == ends.count(State.DELIVERED)


@pytest.mark.parametrize("direct_deliveries", [100, 0])
async def test_two_names_of_one_mailbox_get_one_message(world: World, direct_deliveries: int) -> None:
    world.transport.settings = replace(world.transport.settings, direct_deliveries=direct_deliveries)
    transport_id = (await world.accept(["bob@example.test", "bob+lists@example.test"])).transport_id
    await world.settle()
    assert [state for _, state, _ in await world.states(transport_id)] == [State.DELIVERED] * 2
    assert len(await world.letters("bob")) == 1


@pytest.mark.parametrize("direct_deliveries", [100, 1, 0])
async def test_a_delivery_has_one_listing_which_stays_when_the_mailbox_of_the_first_recipient_goes(
    world: World, direct_deliveries: int, tmp_path: Path
) -> None:
    world.transport.settings = replace(world.transport.settings, direct_deliveries=direct_deliveries)
    await world.accept(["bob@example.test", "carol@example.test"])
    await world.settle()
    bob, carol = (rights.system(world.people[name].mailbox_id) for name in ("bob", "carol"))
    assert [mailbox_id for mailbox_id, _ in await world.db.read(listings)] == [bob.mailbox_id]
    shown = await world.db.read(previews, carol)
    await world.db.write(Write(partial(lifecycle.remove, address="bob@example.test")))
    now = world.call(world.gateway()).now
    await sweeps.tidy(world.db, Store(), now)
    while await Collector(world.db, tmp_path).collect(now):
        pass
    assert (await world.db.read(previews, bob), await world.db.read(previews, carol)) == ([], shown)
    assert len(shown) == 1


async def test_a_report_to_a_full_mailbox_ends_in_the_trace(world: World) -> None:
    """RFC 5321 6.1: a report comes from the null path, so its own failure is never reported."""
    alice = world.people["alice"].mailbox_id
    await world.add_account(FULL, quota_octets=10)
    await world.submit("alice", FROM_ALICE, recipients=[FULL])
    quota = partial(mailboxes.set_quota, place=rights.system(alice), quota_octets=1)
    await world.db.write(Write(quota, mailboxes=frozenset({alice})))
    await world.settle()
    await world.settle()
    table = schema.transport_message
    reports = await world.db.read(
        lambda tx: list(tx.scalars(select(table.c.transport_id).where(table.c.reverse_path == "")))
    )
    (report,) = reports
    assert await end_of(world, report, "alice@example.test") == (State.FAILED, "5.2.2", "the mailbox is full")
    assert await world.letters("alice") == []


def test_nothing_else_of_the_transport_places_messages() -> None:
    folder = Path(transport.__file__).parent
    placing = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if re.search(r"\bmessages\.add(_all)?\b|import .*\badd(_all)?\b", path.read_text())
    }
    assert placing == {"inbound/deliver.py"}
