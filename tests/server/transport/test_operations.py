"""What administrators do with the queue: hold, release, retry, requeue, remove, show, by every selection."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, update

from restante.errors import InvalidArgument, InvalidPageToken, TransportMessageNotFound
from restante.v1.admin_pb2 import TraceMessagesRequest
from restante.v1.queue_pb2 import (
    GetQueuedMessageRequest,
    HoldQueuedRequest,
    ListQueueRequest,
    ListStandingHoldsRequest,
    QueuedPart,
    QueueSelector,
    ReleaseQueuedRequest,
    RemoveQueuedRequest,
    RerouteQueuedRequest,
    RetryQueuedRequest,
)
from restante.v1.submission_pb2 import EnvelopeRecipient, NotifyCondition, RecipientState
from restante.v1.transport_pb2 import OutcomeKind
from restante_server.api.services import convert
from restante_server.db import schema
from restante_server.db.operation import Write
from restante_server.directory import aliases, domains
from restante_server.transport import operations
from restante_server.transport.schedule import DAY, HOUR
from restante_server.transport.states import State
from tests.harness import stuck
from tests.server.transport.world import START, World

LETTER = b"To: eve@example.net\r\nSubject: Hello\r\n\r\nHi there\r\n"
ALL = QueueSelector(all=True)
HELD, PENDING = RecipientState.RECIPIENT_STATE_HELD, RecipientState.RECIPIENT_STATE_PENDING


async def send(world: World, name: str, *recipients: str, **fields: Any) -> int:
    return (await world.submit(name, LETTER, recipients=recipients, **fields)).submission.submission_id


async def run(world: World, request: Any) -> Any:
    return await world.run(request, world.gateway("admin"))


async def states(world: World, number: int) -> list[State]:
    return [state for _, state, _ in await world.states(number)]


async def listed(world: World, selector: QueueSelector) -> list[tuple[int, str]]:
    found = await run(world, ListQueueRequest(selector=selector))
    return [(entry.transport_id, entry.recipient.forward_path) for entry in found.entries]


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ({}, "12345"),
        ({"all": True}, "12345"),
        ({"sender": "alice@example.test"}, "123"),
        ({"sender": "alice@EXAMPLE.test"}, "123"),
        ({"sender": ""}, ""),
        ({"recipient": "eve@example.net"}, "14"),
        ({"recipient": "Eve@example.net"}, ""),
        ({"destination": "EXAMPLE.org"}, "25"),
        ({"sender": "bob@example.test", "destination": "example.org"}, "5"),
        ({"states": [HELD]}, ""),
        ({"states": [PENDING]}, "12345"),
    ],
)
async def test_recipients_are_selected(world: World, selector: dict[str, Any], chosen: str) -> None:
    await send(world, "alice", "eve@example.net", "dave@example.org", "dan@example.com")
    await send(world, "bob", "eve@example.net", "dora@example.org")
    every = await listed(world, QueueSelector())
    assert await listed(world, QueueSelector(**selector)) == [every[int(number) - 1] for number in chosen]
    if selector:
        counted = await run(world, RetryQueuedRequest(selector=QueueSelector(**selector), dry_run=True))
        assert counted.step.recipient_count == len(chosen)


async def test_a_selection_by_message_and_age(world: World) -> None:
    first = await send(world, "alice", "eve@example.net")
    second = await send(world, "alice", "eve@example.net")
    between = (await run(world, ListQueueRequest())).entries[1].accepted_at
    assert await listed(world, QueueSelector(accepted_before=between)) == [(first, "eve@example.net")]
    assert await listed(world, QueueSelector(transport_id=second)) == [(second, "eve@example.net")]


@pytest.mark.parametrize(
    ("selector", "field"),
    [
        (QueueSelector(), "selector"),
        (QueueSelector(all=True, transport_id=1), "selector.all"),
        (QueueSelector(states=[RecipientState.RECIPIENT_STATE_FAILED]), "selector.states"),
        (QueueSelector(recipient="x" * 2_000), "selector.recipient"),
    ],
)
async def test_a_selector_that_is_wrong_changes_nothing(world: World, selector: QueueSelector, field: str) -> None:
    number = await send(world, "alice", "eve@example.net")
    kinds = (HoldQueuedRequest, ReleaseQueuedRequest, RetryQueuedRequest, RerouteQueuedRequest, RemoveQueuedRequest)
    for kind in kinds:
        with pytest.raises(InvalidArgument) as refused:
            await run(world, kind(selector=selector))
        assert refused.value.metadata["field"] == field
        with pytest.raises(TransportMessageNotFound):
            await run(world, kind(selector=QueueSelector(transport_id=number + 7)))
        with pytest.raises(InvalidPageToken):
            await run(world, kind(selector=ALL, continue_token="x"))
    assert await states(world, number) == [State.PENDING]


async def test_held_mail_waits_until_it_is_released(world: World) -> None:
    number = await send(world, "alice", "eve@example.net", "dave@example.org")
    held = await run(world, HoldQueuedRequest(selector=QueueSelector(destination="example.net")))
    assert (held.step.recipient_count, held.step.leased_count, held.step.continue_token) == (1, 0, "")
    (lease,) = await world.lease()
    assert lease.destination == "example.org"
    await world.report_all(lease, OutcomeKind.OUTCOME_KIND_RELAYED, "2.0.0")
    assert (await run(world, RetryQueuedRequest(selector=ALL))).step.recipient_count == 0
    await world.pass_time(9 * DAY)  # longer than the queue tries
    assert await states(world, number) == [State.HELD, State.RELAYED]
    released = await run(world, ReleaseQueuedRequest(selector=QueueSelector(states=[HELD])))
    assert released.step.recipient_count == 1
    await world.pass_time(DAY // 2)
    (lease,) = await world.lease()
    await world.report_all(lease, OutcomeKind.OUTCOME_KIND_DEFERRED, "4.4.1")
    await world.pass_time(DAY)
    assert (await world.states(number))[0] == ("eve@example.net", State.FAILED, "4.4.7")
    steps = (await run(world, TraceMessagesRequest(transport_id=number))).traces[0].events
    assert "held by the local administrator" in [event.detail for event in steps]


async def test_a_leased_recipient_is_left_alone_and_counted(world: World) -> None:
    number = await send(world, "alice", "eve@example.net")
    (lease,) = await world.lease()
    held = await run(world, HoldQueuedRequest(selector=ALL))
    assert (held.step.recipient_count, held.step.leased_count) == (0, 1)
    counted = await run(world, HoldQueuedRequest(selector=ALL, dry_run=True))
    assert (counted.step.recipient_count, counted.step.leased_count) == (0, 1)
    await world.report_all(lease, OutcomeKind.OUTCOME_KIND_RELAYED, "2.0.0")
    assert await states(world, number) == [State.RELAYED]


async def test_scheduled_mail_is_held_and_released_to_its_time(world: World) -> None:
    at = convert.timestamp(world.call(world.gateway()).now + 2 * HOUR)
    number = await send(world, "alice", "eve@example.net", send_at=at)
    await run(world, HoldQueuedRequest(selector=ALL))
    await world.pass_time(HOUR)
    await run(world, ReleaseQueuedRequest(selector=ALL))
    assert await states(world, number) == [State.SCHEDULED]
    assert await world.lease() == []
    await world.pass_time(2 * HOUR)
    assert len(await world.lease()) == 1


@pytest.mark.parametrize(
    "condition",
    [{"destination": "example.net"}, {"sender": "alice@example.test"}, {"recipient": "eve@example.net"}],
)
async def test_a_standing_hold_holds_mail_to_come(world: World, condition: dict[str, Any]) -> None:
    before = await send(world, "alice", "eve@example.net")
    selector = QueueSelector(**condition)
    assert (await run(world, HoldQueuedRequest(selector=selector, standing=True))).step.recipient_count == 1
    after = await send(world, "alice", "eve@example.net")
    other = await send(world, "bob", "dave@example.org")
    assert [lease.transport_id for lease in await world.lease()] == [other]
    assert await states(world, before) == await states(world, after) == [State.HELD]
    (found,) = (await run(world, ListStandingHoldsRequest())).holds
    (name,) = condition
    assert (found.WhichOneof("of"), getattr(found, name)) == (name, condition[name])
    assert found.created_by == "the local administrator"
    released = await run(world, ReleaseQueuedRequest(selector=selector))
    assert (released.step.recipient_count, released.hold_count) == (2, 1)
    assert sorted(lease.transport_id for lease in await world.lease()) == [before, after]


async def test_a_standing_hold_has_one_condition(world: World) -> None:
    for selector in (ALL, QueueSelector(sender="", destination="example.net"), QueueSelector(transport_id=1)):
        with pytest.raises(InvalidArgument):
            await run(world, HoldQueuedRequest(selector=selector, standing=True))
    assert list((await run(world, ListStandingHoldsRequest())).holds) == []


async def test_requeued_recipients_go_where_the_directory_says_now(world: World) -> None:
    to_eve = EnvelopeRecipient(
        forward_path="eve@example.net",
        notify=[NotifyCondition.NOTIFY_CONDITION_SUCCESS, NotifyCondition.NOTIFY_CONDITION_FAILURE],
    )
    paths = (to_eve, "team@example.net", "nobody@example.net", "dave@example.org", "bob@example.net")
    number = await send(world, "alice", *paths)  # type: ignore[arg-type]
    await run(world, HoldQueuedRequest(selector=QueueSelector(recipient="bob@example.net")))

    def become_local(tx: Connection) -> None:
        domains.create(tx, START, "example.net")
        aliases.create(tx, START, "team@example.net", ["carol@example.test", "dan@example.com", "dave@example.org"])

    await world.db.write(Write(become_local))
    await world.add_account("eve@example.net")
    await world.add_account("bob@example.net")
    done = await run(world, RerouteQueuedRequest(selector=ALL))
    assert done.step.recipient_count == 5
    await world.settle()
    assert await world.states(number) == [
        ("eve@example.net", State.DELIVERED, "2.1.5"),
        ("team@example.net", State.EXPANDED, "2.1.5"),
        ("nobody@example.net", State.FAILED, "5.1.1"),
        ("dave@example.org", State.PENDING, ""),
        ("bob@example.net", State.HELD, ""),
        ("carol@example.test", State.DELIVERED, "2.1.5"),
        ("dan@example.com", State.PENDING, ""),
    ]
    assert sorted(lease.destination for lease in await world.lease()) == ["example.com", "example.org"]
    reports = [letter.content for letter in await world.letters("alice")]
    assert sum(b"Action: failed" in each and b"nobody@example.net" in each for each in reports) == 1
    await run(world, ReleaseQueuedRequest(selector=ALL))
    await world.settle()
    assert (await world.states(number))[4][1] is State.DELIVERED


async def test_a_requeued_recipient_is_warned_of_once(world: World) -> None:
    number = await send(world, "alice", "eve@example.net", "dave@example.org")
    table = schema.transport_recipient
    bob = world.people["bob"].mailbox_id
    was_local = update(table).where(table.c.recipient_id == 1).values(destination="", mailbox_id=bob, warn_at=None)
    await run(world, HoldQueuedRequest(selector=ALL))
    await world.db.write(Write(lambda tx: tx.execute(was_local)))
    await run(world, RerouteQueuedRequest(selector=ALL))
    await run(world, ReleaseQueuedRequest(selector=ALL))
    await world.pass_time(5 * HOUR)
    (report,) = await world.letters("alice")
    assert report.content.count(b"Action: delayed") == 2
    await run(world, RerouteQueuedRequest(selector=ALL))
    await world.pass_time(5 * HOUR)
    assert len(await world.letters("alice")) == 1
    assert await states(world, number) == [State.PENDING, State.PENDING]


async def test_a_removal_reports_once_to_each_sender(world: World) -> None:
    first = await send(world, "alice", "eve@example.net", "dave@example.org")
    await send(world, "bob", "eve@example.net")
    done = await run(world, RemoveQueuedRequest(selector=QueueSelector(sender="alice@example.test")))
    assert done.step.recipient_count == 2
    await world.settle()
    await run(world, RemoveQueuedRequest(selector=ALL, silently=True))
    await world.settle()
    (report,) = await world.letters("alice")
    assert report.content.count(b"Action: failed") == 2
    assert await world.letters("bob") == []
    assert await states(world, first) == [State.FAILED, State.FAILED]


async def test_an_operation_on_many_goes_in_steps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step is bounded, a call ends after a time, and the client continues; nothing is left out."""
    like = await send(world, "alice", "eve@example.net")
    count = 3 * operations.AT_ONCE + 17
    facts: dict[str, Any] = {"destination": stuck.many("example.com", 5), "sender": stuck.by(1)}
    due_at = world.call(world.gateway()).now
    await world.db.write(Write(lambda tx: stuck.fill(tx, like, count, due_at=due_at, **facts)))
    monkeypatch.setattr("restante_server.api.services.queue.STEP_SECONDS", 0.000_001)
    changed, calls, token = 0, 0, ""
    while True:
        answer = await run(world, HoldQueuedRequest(selector=ALL, continue_token=token))
        changed, calls, token = changed + answer.step.recipient_count, calls + 1, answer.step.continue_token
        if not token:
            break
        assert 0 < answer.step.recipient_count <= operations.AT_ONCE
    assert (changed, calls) == (count + 1, 4)
    with pytest.raises(InvalidPageToken):  # a token belongs to its operation and its selector
        await run(world, HoldQueuedRequest(selector=QueueSelector(sender=""), continue_token="AAAA"))


async def test_a_message_of_the_queue_is_shown_and_the_reader_noted(world: World) -> None:
    number = await send(world, "alice", "eve@example.net", "bob@example.test")
    plain = await run(world, GetQueuedMessageRequest(transport_id=number))
    assert [(one.recipient.forward_path, one.recipient.state) for one in plain.entries] == [
        ("eve@example.net", int(State.PENDING)),
        ("bob@example.test", int(State.DELIVERED)),
    ]
    assert (plain.reverse_path, plain.octets, plain.content_octets) == ("alice@example.test", b"", 0)
    header = await run(world, GetQueuedMessageRequest(transport_id=number, part=QueuedPart.QUEUED_PART_HEADER))
    assert b"Subject: Hello\r\n" in header.octets and b"Hi there" not in header.octets
    whole = await run(world, GetQueuedMessageRequest(transport_id=number, part=QueuedPart.QUEUED_PART_CONTENT))
    assert whole.octets.endswith(b"Hi there\r\n") and whole.content_octets == len(whole.octets)
    rest = GetQueuedMessageRequest(transport_id=number, part=QueuedPart.QUEUED_PART_CONTENT, offset_octets=10)
    assert (await run(world, rest)).octets == whole.octets[10:]
    notes = list((await run(world, TraceMessagesRequest(transport_id=number))).traces[0].events)
    assert [(event.recipient_id, event.state, event.detail) for event in notes if not event.recipient_id] == [
        (0, 0, "header read by the local administrator"),
        (0, 0, "content read by the local administrator"),
    ]
    await run(world, RemoveQueuedRequest(selector=ALL, silently=True))
    with pytest.raises(InvalidArgument) as gone:
        await run(world, rest)
    assert gone.value.metadata["field"] == "part"
    with pytest.raises(TransportMessageNotFound):
        await run(world, GetQueuedMessageRequest(transport_id=number + 9))


async def test_the_trace_is_filtered(world: World) -> None:
    first = await send(world, "alice", "eve@example.net", "dave@example.org")
    second = await send(world, "bob", "eve@example.net")
    middle = (await run(world, ListQueueRequest(selector=QueueSelector(transport_id=second)))).entries[0].accepted_at
    for filters, found in (
        ({"sender": "alice@example.test"}, [first]),
        ({"recipient": "eve@EXAMPLE.net"}, [second, first]),
        ({"recipient": "eve@example.net", "sender": "bob@example.test"}, [second]),
        ({"accepted_from": middle}, [second]),
        ({"accepted_before": middle, "recipient": "dave@example.org"}, [first]),
        ({"accepted_before": middle, "sender": "bob@example.test"}, []),
    ):
        traces = (await run(world, TraceMessagesRequest(**filters))).traces
        assert [trace.transport_id for trace in traces] == found, filters
