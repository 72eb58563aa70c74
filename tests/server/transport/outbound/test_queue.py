"""Outbound mail: leased by destination, read, reported, retried, failed."""

from __future__ import annotations

import asyncio
import secrets

import pytest
from sqlalchemy import func, select

from restante.errors import InvalidArgument, LeaseLost, PermissionDenied, TransportMessageNotFound
from restante.v1.admin_pb2 import TraceMessagesRequest
from restante.v1.queue_pb2 import ListQueueRequest, QueueSelector, RemoveQueuedRequest, RetryQueuedRequest
from restante.v1.submission_pb2 import EnvelopeRecipient, NotifyCondition
from restante.v1.transport_pb2 import (
    LeaseOutboundRequest,
    LeaseOutboundResponse,
    OutcomeKind,
    RecipientOutcome,
    RenewLeaseRequest,
    ReportOutcomeRequest,
)
from restante_server.api.services import convert, outbound
from restante_server.db import schema
from restante_server.transport import deadlines
from restante_server.transport.outbound import candidates
from restante_server.transport.schedule import DAY, HOUR, MINUTE
from restante_server.transport.states import State
from tests.server.transport.world import FOREVER, World

RELAYED = OutcomeKind.OUTCOME_KIND_RELAYED
DEFERRED = OutcomeKind.OUTCOME_KIND_DEFERRED
FAILED = OutcomeKind.OUTCOME_KIND_FAILED
LETTER = b"From: alice@example.test\r\nTo: eve@example.net\r\nSubject: Hello\r\n\r\nHi\r\n"


async def send(world: World, *recipients: str) -> int:
    """Submit a message of alice's and return its transport id."""
    response = await world.submit("alice", LETTER, recipients=recipients or ("eve@example.net",))
    return response.submission.submission_id


async def test_work_is_grouped_by_message_and_destination(world: World) -> None:
    first = await send(world, "eve@example.net", "mallory@EXAMPLE.net", "dave@example.org")
    await send(world, "eve@example.net")
    leases = await world.lease()
    found = [
        (lease.transport_id == first, lease.destination, [one.recipient.forward_path for one in lease.recipients])
        for lease in leases
    ]
    assert sorted(found) == [
        (False, "example.net", ["eve@example.net"]),
        (True, "example.net", ["eve@example.net", "mallory@EXAMPLE.net"]),
        (True, "example.org", ["dave@example.org"]),
    ]
    assert await world.lease() == []
    octets = await world.read_outbound(leases[0])
    assert octets.startswith(b"Received: by mx.example.test")
    assert len(octets) == leases[0].size_octets
    assert b"Delivered-To" not in octets
    assert b"Return-Path" not in octets


async def test_a_busy_destination_does_not_hold_up_the_others(world: World) -> None:
    for _ in range(6):
        await send(world, "eve@example.net")
    await send(world, "dave@example.org")
    destinations = [lease.destination for lease in await world.lease(most=2)]
    assert sorted(destinations) == ["example.net", "example.org"]


async def test_two_relays_never_have_the_same_recipient(world: World) -> None:
    for number in range(20):
        await send(world, f"eve{number}@example.net", f"dave{number}@example.org")
    leased: list[tuple[int, str]] = []

    async def relay() -> None:
        while len(leased) < 40:
            leased.extend((lease.transport_id, lease.destination) for lease in await world.lease(most=3))

    await asyncio.gather(*(relay() for _ in range(6)))
    assert len(leased) == len(set(leased)) == 40
    assert await world.lease() == []


async def test_each_recipient_has_its_own_outcome(world: World) -> None:
    # RFC 5321 4.2.1
    number = await send(world, "eve@example.net", "mallory@example.net", "trent@example.net", "peggy@example.net")
    (lease,) = await world.lease()
    outcomes = [
        RecipientOutcome(recipient_id=1, kind=RELAYED, status="2.1.5", remote_host="mx.example.net"),
        RecipientOutcome(recipient_id=2, kind=DEFERRED, status="4.2.1", diagnostic="450 busy"),
        RecipientOutcome(recipient_id=3, kind=FAILED, status="5.1.1", diagnostic="550 who?"),
    ]
    await world.report(lease, *outcomes)
    await world.report(lease, *outcomes)  # harmless
    assert await world.states(number) == [
        ("eve@example.net", State.RELAYED, "2.1.5"),
        ("mallory@example.net", State.PENDING, "4.2.1"),
        ("trent@example.net", State.FAILED, "5.1.1"),
        ("peggy@example.net", State.PENDING, ""),
    ]
    assert await world.lease() == []
    await world.pass_time(2 * MINUTE)
    (again,) = await world.lease()
    assert [one.recipient.forward_path for one in again.recipients] == ["peggy@example.net"]
    await world.settle()
    (report,) = await world.letters("alice")
    assert b"550 who?" in report.content
    assert b"mallory" not in report.content


async def test_retries_are_spaced_and_end_with_a_report(world: World) -> None:
    # RFC 5321 4.5.4.1
    number = await send(world)
    waited, attempts = 0, 0
    while True:
        (lease,) = await world.lease()
        assert lease.recipients[0].attempt_count == attempts
        attempts += 1
        await world.report_all(lease, DEFERRED, "4.4.1", diagnostic="no answer")
        if (await world.states(number))[0][1] is not State.PENDING:
            break
        assert await world.lease() == []
        pause = 0
        while not await world.db.read(lambda tx: candidates.anything_due(tx, world.clock(tx))):
            await world.pass_time(10 * MINUTE)
            pause += 10 * MINUTE
        assert pause >= (10 if attempts == 1 else 20) * MINUTE or waited + pause >= 5 * DAY
        assert pause <= 5 * HOUR
        waited += pause
    assert 4 * DAY < waited <= 5 * DAY + HOUR
    assert (await world.states(number))[0] == ("eve@example.net", State.FAILED, "4.4.7")
    await world.settle()
    late, given_up = await world.letters("alice")
    assert b"Action: delayed\r\n" in late.content
    assert b"Will-Retry-Until: " in late.content
    assert b"Action: failed\r\n" in given_up.content
    assert b"no answer" in given_up.content


async def test_mail_that_nobody_fetches_is_warned_of_once_and_given_up(world: World) -> None:
    number = await send(world)
    await world.pass_time(5 * HOUR)
    await world.pass_time(5 * HOUR)
    assert len(await world.letters("alice")) == 1
    await world.pass_time(5 * DAY)
    assert (await world.states(number))[0] == ("eve@example.net", State.FAILED, "4.4.7")
    assert len(await world.letters("alice")) == 2


async def test_a_lapsed_lease_goes_back_and_its_relay_learns_it(world: World) -> None:
    await send(world)
    (lease,) = await world.lease(seconds=30)
    lost = await world.run(RenewLeaseRequest(lease_ids=[lease.lease_id, 5], lease_seconds=60), world.gateway("relay"))
    assert list(lost.lost_lease_ids) == [5]
    await world.pass_time(45_000_000)
    assert await world.lease() == []
    await world.pass_time(45_000_000)
    (again,) = await world.lease()
    assert again.lease_id != lease.lease_id
    with pytest.raises(LeaseLost):
        await world.report_all(lease, RELAYED, "2.0.0")
    with pytest.raises(LeaseLost):
        await world.read_outbound(lease)
    await world.report_all(again, RELAYED, "2.0.0")
    await world.report_all(again, RELAYED, "2.0.0")


async def test_a_stream_has_only_so_many_leases_out(world: World) -> None:
    for number in range(4):
        await send(world, f"eve{number}@example.net")
    stream = outbound.lease_outbound(world.call(world.gateway("relay"), FOREVER), LeaseOutboundRequest(max_leases=2))
    first: LeaseOutboundResponse = await anext(stream)
    assert len(first.leases) == 2
    following = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.1)
    assert not following.done()
    await world.report_all(first.leases[0], RELAYED, "2.0.0")
    async with asyncio.timeout(0.9):  # by a notification, not by polling
        second = await following
    assert len(second.leases) == 1
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    world.core.tasks.announce_drain()
    async with asyncio.timeout(0.9):
        assert (await waiting).draining


async def test_a_stream_receives_new_mail_at_once(world: World) -> None:
    stream = outbound.lease_outbound(world.call(world.gateway("relay"), FOREVER), LeaseOutboundRequest(max_leases=2))
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0.05)
    await send(world)
    async with asyncio.timeout(0.9):
        assert len((await waiting).leases) == 1
    await stream.aclose()  # type: ignore[attr-defined]


async def test_only_the_relay_may_lease_and_report(world: World) -> None:
    with pytest.raises(PermissionDenied):
        await world.run(ReportOutcomeRequest(lease_id=1), world.gateway("smtp"))


async def test_a_bounce_is_never_bounced(world: World) -> None:
    # RFC 5321 6.1
    await world.add_alias("out@example.test", "eve@example.net")
    answer = await world.accept(["out@example.test", "nobody@example.test"], reverse_path="")
    (lease,) = await world.lease()
    await world.report_all(lease, FAILED, "5.1.1", diagnostic="550 no")
    assert {state for _, state, _ in await world.states(answer.transport_id)} == {State.EXPANDED, State.FAILED}
    assert await world.lease() == []
    traces = await world.run(TraceMessagesRequest(transport_id=answer.transport_id), world.gateway("admin"))
    assert "550 no" in "".join(event.detail for event in traces.traces[0].events)
    messages = select(func.count()).select_from(schema.transport_message)
    assert await world.db.read(lambda tx: tx.scalar(messages)) == 1  # no report was made, to whomever


async def test_the_administrator_sees_hurries_and_ends_the_queue(world: World) -> None:
    admin = world.gateway("admin")
    first = await send(world, *(f"eve{number}@example.net" for number in range(5)))
    second = await send(world, "dave@example.org")
    for lease in await world.lease():
        await world.report_all(lease, DEFERRED, "4.4.1", diagnostic="no answer")
    seen: list[tuple[int, int]] = []
    token = ""
    while True:
        page = await world.run(ListQueueRequest(page_size=2, page_token=token), admin)
        seen += [(entry.transport_id, entry.recipient_id) for entry in page.entries]
        assert all(entry.recipient.diagnostic == "no answer" for entry in page.entries)
        if not (token := page.next_page_token):
            break
    assert sorted(seen) == [*((first, number) for number in range(1, 6)), (second, 1)]
    of_one = await world.run(ListQueueRequest(selector=QueueSelector(destination="EXAMPLE.org")), admin)
    assert [entry.transport_id for entry in of_one.entries] == [second]
    assert await world.lease() == []
    of_first, of_second = QueueSelector(transport_id=first), QueueSelector(transport_id=second)
    assert (await world.run(RetryQueuedRequest(selector=of_second), admin)).step.recipient_count == 1
    assert [lease.destination for lease in await world.lease()] == ["example.org"]
    assert (await world.run(RetryQueuedRequest(selector=QueueSelector(all=True)), admin)).step.recipient_count == 5
    assert (await world.run(RemoveQueuedRequest(selector=of_first), admin)).step.recipient_count == 5
    assert (await world.run(RemoveQueuedRequest(selector=of_second, silently=True), admin)).step.recipient_count == 1
    await world.settle()
    (report,) = await world.letters("alice")
    assert report.content.count(b"Action: failed") == 5
    assert await world.states(second) == [("dave@example.org", State.DISCARDED, "2.0.0")]


@pytest.mark.parametrize("request_", [RetryQueuedRequest(), RetryQueuedRequest(selector=QueueSelector(all=False))])
async def test_a_retry_that_names_no_recipients_retries_none(world: World, request_: RetryQueuedRequest) -> None:
    await send(world, "eve@example.net")
    for lease in await world.lease():
        await world.report_all(lease, DEFERRED, "4.4.1", diagnostic="no answer")
    with pytest.raises(InvalidArgument) as caught:
        await world.run(request_, world.gateway("admin"))
    assert caught.value.metadata["field"] == "selector"
    with pytest.raises(TransportMessageNotFound):
        await world.run(RetryQueuedRequest(selector=QueueSelector(transport_id=999)), world.gateway("admin"))
    assert await world.lease() == []


@pytest.mark.parametrize("term", ["transport_id", "internet_message_id", "address"])
async def test_a_trace_by_an_empty_term_is_refused(world: World, term: str) -> None:
    empty = TraceMessagesRequest()
    setattr(empty, term, type(getattr(empty, term))())
    with pytest.raises(InvalidArgument) as caught:
        await world.run(empty, world.gateway("admin"))
    assert caught.value.metadata["field"] == term


async def test_every_step_of_a_message_is_traced(world: World) -> None:
    number = await send(world, "eve@example.net", "bob@example.test")
    (lease,) = await world.lease()
    await world.report_all(lease, DEFERRED, "4.4.1", diagnostic="no answer", remote_host="mx.example.net")
    await world.pass_time(HOUR)
    (lease,) = await world.lease()
    await world.report_all(lease, RELAYED, "2.1.5", diagnostic="250 queued", remote_host="mx.example.net")
    admin = world.gateway("admin")
    by_address = await world.run(TraceMessagesRequest(address="bob@example.test"), admin)
    by_id = await world.run(TraceMessagesRequest(transport_id=number), admin)
    assert by_address == by_id
    steps = [(event.forward_path, State(event.state)) for event in by_id.traces[0].events]
    assert steps == [
        ("eve@example.net", State.PENDING),
        ("bob@example.test", State.DELIVERED),
        ("eve@example.net", State.PENDING),
        ("eve@example.net", State.RELAYED),
    ]
    message_id = by_id.traces[0].internet_message_id
    found = await world.run(TraceMessagesRequest(internet_message_id=message_id), admin)
    assert [trace.transport_id for trace in found.traces] == [number]


async def test_settled_mail_is_forgotten_after_its_time(world: World) -> None:
    settled, waiting = await send(world, "bob@example.test"), await send(world)
    world.clock.ahead += 31 * DAY
    await world.transport.purge()
    assert await world.states(settled) == []
    assert len(await world.states(waiting)) == 1
    assert len(await world.letters("bob")) == 1


async def test_scheduled_mail_is_kept_from_the_time_of_sending_on(world: World) -> None:
    to_bob = {
        "recipients": ["bob@example.test"],
        "send_at": convert.timestamp(world.call(world.gateway()).now + 29 * DAY),
    }
    number = (await world.submit("alice", LETTER, **to_bob)).submission.submission_id
    await world.pass_time(32 * DAY)
    await world.transport.purge()
    assert [state for _, state, _ in await world.states(number)] == [State.DELIVERED]
    world.clock.ahead += 29 * DAY
    await world.transport.purge()
    assert await world.states(number) == []


async def test_all_scheduled_mail_whose_time_has_come_is_due_after_one_round(world: World) -> None:
    moment = convert.timestamp(world.call(world.gateway()).now + HOUR)
    to = [f"eve{number}@example.net" for number in range(deadlines.AT_ONCE // 5)]
    sent = [(await world.submit("alice", LETTER, recipients=to, send_at=moment)).submission for _ in range(6)]
    world.clock.ahead += 2 * HOUR
    await world.transport.tick()
    states = [state for each in sent for _, state, _ in await world.states(each.submission_id)]
    assert set(states) == {State.PENDING}


async def test_a_parameter_travels_as_given(world: World) -> None:
    # RFC 3461 5.2.1
    to_eve = EnvelopeRecipient(
        forward_path="eve@example.net",
        notify=[NotifyCondition.NOTIFY_CONDITION_SUCCESS, NotifyCondition.NOTIFY_CONDITION_FAILURE],
        original_recipient="rfc822;e+2Bve@x",
    )
    await world.submit("alice", LETTER, recipients=[to_eve], request_id=secrets.token_bytes(16))
    (lease,) = await world.lease()
    assert lease.recipients[0].recipient == to_eve


async def test_what_is_given_up_is_not_reported_as_the_word_of_a_server(world: World) -> None:
    """RFC 3464 2.3.5 and 2.3.6: a temporary reply of a server is no refusal."""
    await send(world, "eve@example.net")
    (lease,) = await world.lease()
    world.clock.ahead += 6 * DAY
    await world.report_all(lease, DEFERRED, "4.2.0", diagnostic="450 4.2.0 greylisted", remote_host="mx.example.net")
    await world.settle()
    (letter,) = await world.letters("alice")
    assert b"Remote-MTA" not in letter.content
    unfolded = letter.content.replace(b"\r\n ", b" ")
    assert (
        b"Diagnostic-Code: x-restante; the time for delivery attempts is over; the last reply was: "
        b"4.2.0 mx.example.net: 450"
    ) in unfolded
