"""No message is lost or doubled, and every recipient has exactly one outcome (docs/design.md "Promises")."""

from __future__ import annotations

import contextlib
import random
import secrets

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import func, select

from restante.errors import LeaseLost, StoreBusy, SubmissionNotCancellable, SubmissionNotFound
from restante.v1.queue_pb2 import QueueSelector, RemoveQueuedRequest, RetryQueuedRequest
from restante.v1.submission_pb2 import CancelSubmissionRequest, EnvelopeRecipient, NotifyCondition
from restante.v1.transport_pb2 import OutboundLease, OutcomeKind, RecipientOutcome
from restante_server.db import schema
from restante_server.transport.schedule import DAY, HOUR, MINUTE
from restante_server.transport.states import FINAL, State
from tests.harness.faults import DatabaseFaults, raising
from tests.server.transport.world import World

LETTER = b"From: alice@example.test\r\nTo: bob@example.test\r\nSubject: x\r\n\r\nHi\r\n"
KINDS = [OutcomeKind.OUTCOME_KIND_RELAYED, OutcomeKind.OUTCOME_KIND_DEFERRED, OutcomeKind.OUTCOME_KIND_FAILED]
NEVER, SUCCESS = NotifyCondition.NOTIFY_CONDITION_NEVER, NotifyCondition.NOTIFY_CONDITION_SUCCESS
CONDITIONS = [[], [NEVER], [SUCCESS], [SUCCESS, NotifyCondition.NOTIFY_CONDITION_FAILURE]]


async def test_an_answer_lost_after_the_commit_is_found_by_asking_again(world: World, faults: DatabaseFaults) -> None:
    # RFC 5321 6.1
    request_id = secrets.token_bytes(16)
    faults.after.append(raising(ConnectionError("the answer was lost")))
    first = await world.accept(["alice@example.test"], request_id=request_id)
    assert not first.accepted
    again = await world.accept(["alice@example.test"], request_id=request_id)
    assert again.accepted
    assert len(await world.letters("alice")) == 1


async def test_a_commit_that_fails_leaves_nothing(world: World, faults: DatabaseFaults) -> None:
    request_id = secrets.token_bytes(16)
    faults.at_commit.append(raising(ConnectionError("gone")))
    assert not (await world.accept(["alice@example.test", "nobody@example.test"], request_id=request_id)).accepted
    assert await world.letters("alice") == await world.lease() == []
    assert (await world.accept(["alice@example.test", "nobody@example.test"], request_id=request_id)).accepted
    assert len(await world.letters("alice")) == len(await world.lease()) == 1


async def test_a_delivery_that_fails_is_tried_again(world: World, faults: DatabaseFaults) -> None:
    names = [f"user{number}@example.test" for number in range(120)]
    for name in names:
        await world.add_account(name)
    answer = await world.accept(names)
    faults.at_commit.append(raising(ConnectionError("gone")))
    with pytest.raises(StoreBusy):
        await world.transport.deliver()
    faults.after.append(raising(ConnectionError("the answer was lost")))
    with pytest.raises(StoreBusy):
        await world.transport.deliver()
    await world.transport.deliver()
    assert [len(await world.letters(name.partition("@")[0])) for name in names] == [1] * 120
    assert {state for _, state, _ in await world.states(answer.transport_id)} == {State.DELIVERED}


async def test_a_message_that_cannot_be_read_does_not_hold_up_the_others(world: World) -> None:
    moment = Timestamp()
    moment.FromMicroseconds(world.call(world.gateway()).now + MINUTE)
    broken = await world.submit("alice", LETTER + b"and so on\r\n" * 10_000, send_at=moment)
    await world.submit("alice", LETTER, send_at=moment)
    files = [path for path in world.core.contents.directory.rglob("*") if path.is_file()]
    assert len(files) == 1
    octets = files[0].read_bytes()
    files[0].unlink()
    await world.pass_time(2 * MINUTE)
    assert len(await world.letters("bob")) == 1
    states = await world.states(broken.submission.submission_id)
    assert states == [("bob@example.test", State.PENDING, "4.3.0")]
    files[0].write_bytes(octets)
    await world.pass_time(HOUR)
    assert len(await world.letters("bob")) == 2


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_every_recipient_has_one_end(world: World, seed: int) -> None:
    dice = random.Random(seed)
    await world.add_alias("team@example.test", "bob@example.test", "eve@example.net", "ghost@example.test")
    await world.add_account("full@example.test", quota_octets=1)
    people = [
        "alice@example.test",
        "bob+x@example.test",
        "full@example.test",
        "team@example.test",
        "eve@example.net",
        "dave@example.org",
        "trent@example.org",
    ]
    taken: list[int] = []
    leases: list[OutboundLease] = []
    for _ in range(25):
        chosen = dice.sample(people, dice.randint(1, len(people)))
        recipients = [EnvelopeRecipient(forward_path=path, notify=dice.choice(CONDITIONS)) for path in chosen]
        match dice.randrange(8):
            case 0 | 1:
                sent = await world.submit(dice.choice(["alice"]), LETTER, recipients=recipients)
                taken.append(sent.submission.submission_id)
            case 2:
                path = dice.choice(["", "bob@example.test", "mallory@example.net", "ghost@example.test"])
                answer = await world.accept(
                    [*recipients, "ghost@example.test", "carol@example.test"], reverse_path=path
                )
                taken.append(answer.transport_id)
            case 3 | 4:
                leases += await world.lease(most=dice.randint(1, 4), seconds=30)
            case 5 if leases:
                lease = leases.pop(dice.randrange(len(leases)))
                outcomes = [
                    RecipientOutcome(recipient_id=one.recipient_id, kind=dice.choice(KINDS), status="")
                    for one in lease.recipients
                    if dice.random() < 0.8
                ]
                with contextlib.suppress(LeaseLost):
                    await world.report(lease, *outcomes)
                    await world.report(lease, *outcomes)
            case 6:
                await world.pass_time(dice.choice([MINUTE, HOUR, 5 * HOUR]))
            case _ if taken:
                number = dice.choice(taken)
                with contextlib.suppress(SubmissionNotCancellable, SubmissionNotFound):
                    await world.run(CancelSubmissionRequest(submission_id=number), world.session("alice"))
                if dice.random() < 0.3:
                    request = RemoveQueuedRequest(
                        selector=QueueSelector(transport_id=number), silently=dice.random() < 0.5
                    )
                    await world.run(request, world.gateway("admin"))
        assert await world.problems() == []
    await _let_time_settle(world, dice)


async def _let_time_settle(world: World, dice: random.Random) -> None:
    """Relays report random outcomes, then none: every recipient is settled within the queue's expiry."""
    for _ in range(4):
        await world.run(RetryQueuedRequest(selector=QueueSelector(all=True)), world.gateway("admin"))
        for lease in await world.lease():
            await world.report_all(lease, dice.choice(KINDS), "")
        await world.settle()
    for _ in range(3):  # messages, then reports on them; a report causes no report
        await world.pass_time(6 * DAY)
    table = schema.transport_recipient
    waiting = select(func.count()).where(table.c.state.not_in(sorted(FINAL)))
    assert await world.db.read(lambda tx: tx.execute(waiting).scalar_one()) == 0
    contents = select(func.count()).where(schema.transport_message.c.content_id.is_not(None))
    assert await world.db.read(lambda tx: tx.execute(contents).scalar_one()) == 0
