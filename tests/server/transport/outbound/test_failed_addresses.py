"""Addresses of other domains that do not exist: noted by a failure, told to senders, cleared by a success."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, func, select

from restante import errors
from restante.v1 import outcomes_pb2 as v1
from restante.v1.admin_pb2 import TraceMessagesRequest
from restante.v1.queue_pb2 import ListQueueRequest
from restante.v1.session_pb2 import Scope
from restante.v1.submission_pb2 import GetSubmissionRequest, SubmitMessageResponse
from restante.v1.transport_pb2 import OutcomeKind, VerifyRecipientsRequest
from restante_server.api.engine.caller import Caller
from restante_server.db import schema
from restante_server.db.operation import Write
from restante_server.transport.outbound import failed_addresses
from restante_server.transport.outbound.failed_addresses import Failure
from restante_server.transport.schedule import DAY
from tests.server.transport.world import World

ADMIN = Caller(identity="admin")
LETTER = b"From: alice@example.test\r\nTo: eve@example.net\r\nSubject: Hello\r\n\r\nHi\r\n"
RELAYED, DEFERRED, FAILED = (
    OutcomeKind.OUTCOME_KIND_RELAYED,
    OutcomeKind.OUTCOME_KIND_DEFERRED,
    OutcomeKind.OUTCOME_KIND_FAILED,
)
UNKNOWN = "550 5.1.1 no such user"


async def sent(
    world: World,
    kind: OutcomeKind.ValueType,
    status: str,
    diagnostic: str = UNKNOWN,
    *,
    to: str = "eve@example.net",
    by: str = "alice",
) -> SubmitMessageResponse:
    """A message with this outcome."""
    response = await world.submit(by, LETTER.replace(b"alice@", f"{by}@".encode()), recipients=[to])
    (lease,) = await world.lease()
    await world.report_all(lease, kind, status, diagnostic=diagnostic, remote_host="mx.example.net")
    return response


async def listed(world: World, domain: str = "") -> list[str]:
    found, token = [], ""
    while True:
        request = v1.ListFailedAddressesRequest(page_size=1, page_token=token, domain=domain)
        answer = await world.run(request, ADMIN)
        found += [one.address for one in answer.addresses]
        token = answer.next_page_token
        if not token:
            return found


async def test_a_sender_is_warned_of_an_address_that_failed(world: World) -> None:
    first = await sent(world, FAILED, "5.1.1")
    assert not first.failed_before
    second = await world.submit(
        "bob", LETTER.replace(b"alice@", b"bob@"), recipients=["EVE@Example.NET", "x@other.example"]
    )
    (warning,) = second.failed_before
    assert (warning.address, warning.status, warning.diagnostic) == ("eve@example.net", "5.1.1", UNKNOWN)
    assert warning.HasField("failed_at")
    assert len(await world.lease()) == 2  # the mail is sent all the same
    assert await listed(world) == ["eve@example.net"]


async def test_a_user_is_warned_when_recipients_are_verified(world: World) -> None:
    await sent(world, FAILED, "5.1.1")
    paths = ["EVE@Example.NET", "x@other.example", "bob@example.test", "no address", "eve@example.net"]
    request = VerifyRecipientsRequest(reverse_path="bob@example.test", forward_paths=paths)
    answer = await world.run(request, world.session("bob", Scope.SCOPE_SMTP_SUBMIT))
    assert [verdict.HasField("failed_before") for verdict in answer.verdicts] == [True, False, False, False, True]
    assert [verdict.accepted for verdict in answer.verdicts] == [True, True, True, False, True]
    warning = answer.verdicts[0].failed_before
    assert (warning.address, warning.diagnostic) == ("eve@example.net", UNKNOWN) and warning.HasField("failed_at")
    strangers = (await world.run(request, world.gateway())).verdicts
    assert not any(verdict.HasField("failed_before") for verdict in strangers)
    await world.pass_time(8 * DAY)
    answer = await world.run(request, world.session("bob", Scope.SCOPE_SMTP_SUBMIT))
    assert not any(verdict.HasField("failed_before") for verdict in answer.verdicts)


async def test_a_repeated_submission_gets_the_same_answer(world: World) -> None:
    await sent(world, FAILED, "5.1.1")
    one = await world.submit("alice", LETTER, recipients=["eve@example.net"], request_id=b"1" * 16)
    (lease,) = await world.lease()
    await world.report_all(lease, FAILED, "5.1.1", diagnostic=UNKNOWN)  # its own failure is no earlier one
    two = await world.submit("alice", LETTER, recipients=["eve@example.net"], request_id=b"1" * 16)
    assert len(one.failed_before) == 1 and not two.failed_before


@pytest.mark.parametrize(
    ("kind", "status", "diagnostic"),
    [
        (FAILED, "5.2.2", "552 5.2.2 full"),
        (FAILED, "5.7.1", "550 5.7.1 spam"),
        (FAILED, "5.1.8", "550 5.1.8 your domain"),
        (DEFERRED, "4.1.1", "450 4.1.1 later"),
        (RELAYED, "2.1.5", "250 ok"),
    ],
)
async def test_other_outcomes_are_not_noted(
    world: World, kind: OutcomeKind.ValueType, status: str, diagnostic: str
) -> None:
    await sent(world, kind, status, diagnostic)
    assert await listed(world) == []


async def test_mail_that_is_relayed_clears_an_address(world: World) -> None:
    await sent(world, FAILED, "5.1.1")
    await sent(world, FAILED, "5.2.2")
    assert await listed(world) == ["eve@example.net"]
    await sent(world, RELAYED, "2.1.5", to="Eve@example.net")
    assert await listed(world) == []
    assert not (await world.submit("alice", LETTER, recipients=["eve@example.net"])).failed_before


async def test_a_failure_is_remembered_for_its_time(world: World) -> None:
    await sent(world, FAILED, "5.1.1")
    await world.pass_time(6 * DAY)
    assert len((await world.submit("alice", LETTER, recipients=["eve@example.net"])).failed_before) == 1
    await world.pass_time(2 * DAY)
    assert await listed(world) == []
    assert not (await world.submit("alice", LETTER, recipients=["eve@example.net"])).failed_before
    await world.transport.purge()
    assert await world.db.read(lambda tx: tx.scalar(select(func.count()).select_from(schema.failed_address))) == 0


async def test_an_administrator_lists_and_clears(world: World) -> None:
    for to in ("b@example.net", "a@example.net", "c@xn--bcher-kva.example", "d@example.org"):
        await sent(world, FAILED, "5.1.1", to=to)
    assert await listed(world) == ["a@example.net", "b@example.net", "c@xn--bcher-kva.example", "d@example.org"]
    assert await listed(world, "EXAMPLE.net") == ["a@example.net", "b@example.net"]

    async def cleared(**which: object) -> int:
        answer = await world.run(v1.ClearFailedAddressesRequest(**which), ADMIN)  # type: ignore[arg-type]
        return int(answer.address_count)

    assert await cleared(address="B@example.net") == 1
    assert await cleared(address="b@example.net") == 0
    assert await cleared(domain="bücher.example") == 1
    assert await cleared(all=True) == 2
    for wrong in ({}, {"all": False}, {"domain": "a b"}):
        with pytest.raises(errors.InvalidArgument):
            await cleared(**wrong)


async def test_the_number_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed_addresses, "MAX_ADDRESSES", 3)
    now = world.call(ADMIN).now

    def fill(tx: Connection) -> None:
        failed_addresses.note(tx, [Failure(f"a{at}@example.net", "5.1.1", UNKNOWN, now + at) for at in range(10)])

    await world.db.write(Write(fill))
    await world.transport.purge()
    assert await listed(world) == ["a7@example.net", "a8@example.net", "a9@example.net"]


async def test_the_reason_is_told(world: World) -> None:
    waiting = await sent(world, DEFERRED, "4.7.5", "TLS: certificate refused")
    (entry,) = (await world.run(ListQueueRequest(), ADMIN)).entries
    assert entry.recipient.reason == v1.OUTCOME_REASON_TLS
    failed = await sent(world, FAILED, "5.0.0", "550 User unknown", to="x@example.net")
    for response, reason in ((waiting, v1.OUTCOME_REASON_TLS), (failed, v1.OUTCOME_REASON_BAD_ADDRESS)):
        request = GetSubmissionRequest(submission_id=response.submission.submission_id)
        found = await world.run(request, world.session("alice"))
        assert found.submission.recipients[0].reason == reason
        (trace,) = (await world.run(TraceMessagesRequest(transport_id=response.submission.submission_id), ADMIN)).traces
        assert [step.reason for step in trace.events if step.reason] == [reason]
