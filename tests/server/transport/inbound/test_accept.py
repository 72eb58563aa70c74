"""Mail from other servers: accepted once, delivered at once, with an outcome for every recipient."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

from restante.v1.submission_pb2 import DsnReturn, EnvelopeOptions, EnvelopeRecipient, NotifyCondition
from restante.v1.transport_pb2 import (
    AcceptBegin,
    AcceptEnd,
    AcceptRequest,
    AcceptResponse,
    VerifyRecipientsRequest,
)
from restante_server.accounts import lifecycle
from restante_server.api.services import accept
from restante_server.db.operation import Write
from restante_server.directory import aliases, domains, rights
from restante_server.store import mailboxes
from restante_server.transport.states import State
from tests.server.transport.world import FOREVER, MESSAGE, TRACE, World, reason


async def test_accepted_mail_is_in_the_inbox_with_its_head(world: World) -> None:
    answer = await world.accept(["Alice@example.test"])
    assert answer.accepted
    (letter,) = await world.letters("alice")
    # RFC 5321 4.4
    head = b"Return-Path: <dave@example.org>\r\nDelivered-To: Alice@example.test\r\n" + TRACE.encode()
    assert letter.head == head
    assert letter.content == MESSAGE
    assert await world.states(answer.transport_id) == [("Alice@example.test", State.DELIVERED, "2.1.5")]


async def test_a_repeated_request_id_gets_the_first_answer(world: World) -> None:
    request_id = secrets.token_bytes(16)
    first = await world.accept(["alice@example.test"], request_id=request_id)
    again = await world.accept(["alice@example.test"], request_id=request_id)
    assert (first.accepted, first.transport_id) == (again.accepted, again.transport_id)
    assert len(await world.letters("alice")) == 1
    other = await world.accept(["bob@example.test"], request_id=request_id)
    assert reason(other) == "REQUEST_ID_REUSED"
    assert await world.letters("bob") == []


async def test_the_same_request_at_the_same_moment_is_one_acceptance(world: World) -> None:
    request_id = secrets.token_bytes(16)
    answers = await asyncio.gather(
        *(world.accept(["alice@example.test"], request_id=request_id) for _ in range(5)),
        *(world.accept(["alice@example.test"]) for _ in range(3)),
    )
    assert all(answer.accepted for answer in answers)
    assert len({answer.transport_id for answer in answers}) == 4
    assert len(await world.letters("alice")) == 4


async def test_recipients_share_one_content_and_have_heads_of_their_own(world: World) -> None:
    answer = await world.accept(["alice@example.test", "bob@example.test", "carol+lists@example.test"])
    assert answer.accepted
    heads = [(await world.letters(name))[0].head.split(b"\r\n")[1] for name in ("alice", "bob", "carol")]
    assert heads == [
        b"Delivered-To: alice@example.test",
        b"Delivered-To: bob@example.test",
        b"Delivered-To: carol+lists@example.test",
    ]


async def test_two_recipients_of_one_mailbox_are_one_message(world: World) -> None:
    answer = await world.accept(["alice@example.test", "alice+x@example.test", "ALICE@example.test"])
    assert len(await world.letters("alice")) == 1
    assert [state for _, state, _ in await world.states(answer.transport_id)] == [State.DELIVERED] * 2


async def test_a_thousand_recipients_are_delivered_exactly_once(world: World) -> None:
    names = [f"user{number}@example.test" for number in range(250)]

    for name in names:
        await world.add_account(name)
    aliases = [f"list{number}@example.test" for number in range(3)]
    for number, alias in enumerate(aliases):
        await world.add_alias(alias, *names[number * 80 : number * 80 + 100])
    answer = await world.accept([*names, *aliases])
    assert answer.accepted
    waiting = [state for _, state, _ in await world.states(answer.transport_id) if state is State.PENDING]
    assert len(waiting) > 100
    await world.settle()
    states = {state for _, state, _ in await world.states(answer.transport_id)}
    assert states == {State.DELIVERED, State.EXPANDED}
    for name in (names[0], names[99], names[100], names[249]):
        assert len(await world.letters(name.partition("@")[0])) == 1


async def test_what_waits_when_a_core_dies_is_delivered_once_by_the_next(world: World) -> None:
    """Two cores find the same waiting recipients."""
    names = [f"user{number}@example.test" for number in range(130)]
    for name in names:
        await world.add_account(name)
    answer = await world.accept(names)
    await asyncio.gather(world.transport.deliver(), world.transport.deliver(), world.transport.deliver())
    assert {state for _, state, _ in await world.states(answer.transport_id)} == {State.DELIVERED}
    assert [len(await world.letters(f"user{number}")) for number in range(130)] == [1] * 130


async def test_unknown_recipients_refuse_only_when_nobody_is_known(world: World) -> None:
    assert reason(await world.accept(["nobody@example.test"])) == "RECIPIENT_NOT_FOUND"
    # RFC 5321 3.6.2: an mx gateway cannot relay, even with a claim of verification
    assert reason(await world.accept(["eve@example.net"])) == "RECIPIENT_NOT_FOUND"
    answer = await world.accept(["alice@example.test", "nobody@example.test", "eve@example.net"])
    assert answer.accepted
    assert await world.states(answer.transport_id) == [
        ("alice@example.test", State.DELIVERED, "2.1.5"),
        ("nobody@example.test", State.FAILED, "5.1.1"),
        ("eve@example.net", State.FAILED, "5.7.1"),
    ]
    (lease,) = await world.lease()
    assert lease.destination == "example.org"
    assert lease.reverse_path == ""


async def test_an_account_that_vanishes_after_rcpt_is_a_failure_and_reported(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, removed = asyncio.Event(), asyncio.Event()
    resolve: Any = world.core.short_read

    async def slowly(function: Any) -> Any:
        found = await resolve(function)
        entered.set()
        await removed.wait()
        return found

    monkeypatch.setattr(world.core, "short_read", slowly)
    accepting = asyncio.create_task(world.accept(["alice@example.test", "bob@example.test"]))
    await entered.wait()
    await world.db.write(Write(lambda tx: lifecycle.remove(tx, "alice@example.test")))
    removed.set()
    answer = await accepting
    assert answer.accepted
    assert await world.states(answer.transport_id) == [
        ("alice@example.test", State.FAILED, "5.1.1"),
        ("bob@example.test", State.DELIVERED, "2.1.5"),
    ]
    assert [lease.destination for lease in await world.lease()] == ["example.org"]


async def test_a_message_accepted_at_rcpt_may_overrun_the_quota(world: World) -> None:
    await world.add_account("dora@example.test", quota_octets=len(MESSAGE) // 2)
    answer = await world.accept(["dora@example.test"])
    assert await world.states(answer.transport_id) == [("dora@example.test", State.DELIVERED, "2.1.5")]
    verdicts = await world.run(VerifyRecipientsRequest(forward_paths=["dora@example.test"]), world.gateway())
    assert reason(verdicts.verdicts[0]) == "QUOTA_EXCEEDED"


async def test_a_full_mailbox_behind_an_alias_is_a_failure(world: World) -> None:
    """RCPT checks only the alias; its targets have no reserved quota."""
    await world.add_account("dora@example.test", quota_octets=10)
    await world.add_alias("team@example.test", "dora@example.test", "bob@example.test")
    answer = await world.accept(["team@example.test"])
    assert await world.states(answer.transport_id) == [
        ("team@example.test", State.EXPANDED, "2.1.5"),
        ("dora@example.test", State.FAILED, "5.2.2"),
        ("bob@example.test", State.DELIVERED, "2.1.5"),
    ]
    await world.lease()  # the report to dave


async def test_aliases_are_expanded_and_loops_end(world: World) -> None:
    await world.add_alias("all@example.test", "team@example.test", "alice@example.test", "frank@example.net")
    await world.add_alias("team@example.test", "all@example.test", "bob@example.test", "alice@example.test")
    answer = await world.accept(["all@example.test", "team@example.test", "bob@example.test"])
    states = await world.states(answer.transport_id)
    assert {path for path, state, _ in states if state is State.EXPANDED} == {"all@example.test", "team@example.test"}
    assert [path for path, state, _ in states if state is State.PENDING] == ["frank@example.net"]
    assert len(await world.letters("alice")) == len(await world.letters("bob")) == 1
    await world.add_alias("self@example.test", "self2@example.test")
    await world.add_alias("self2@example.test", "self@example.test")
    assert reason(await world.accept(["self@example.test"])) == "RECIPIENT_NOT_FOUND"
    # an alias of ours may lead elsewhere: that is no open relay (RFC 5321 3.6.2)
    (lease,) = await world.lease()
    assert [one.recipient.forward_path for one in lease.recipients] == ["frank@example.net"]
    assert lease.recipients[0].recipient.original_recipient == "rfc822;all@example.test"
    assert await world.read_outbound(lease) == TRACE.encode() + MESSAGE


async def test_mail_that_went_round_too_often_is_refused(world: World) -> None:
    # RFC 5321 6.3
    hops = b"".join(b"Received: by h%d; Mon, 1 Jan 2029 10:00:00 +0000\r\n" % number for number in range(101))
    assert reason(await world.accept(["alice@example.test"], hops + MESSAGE)) == "MAIL_LOOP"
    assert (await world.accept(["alice@example.test"], hops.split(b"\r\n", 1)[1] + MESSAGE)).accepted


async def test_an_address_that_has_had_the_message_fails_with_a_report(world: World) -> None:
    # RFC 5321 6.3
    came_back = b"Delivered-To: ALICE@example.test\r\n" + MESSAGE
    answer = await world.accept(["alice@example.test", "bob@example.test"], came_back)
    assert await world.states(answer.transport_id) == [
        ("alice@example.test", State.FAILED, "5.4.6"),
        ("bob@example.test", State.DELIVERED, "2.1.5"),
    ]
    assert (await world.letters("bob"))[0].content == MESSAGE


FULL = EnvelopeOptions(dsn_return=DsnReturn.DSN_RETURN_FULL)


@pytest.mark.parametrize("recipients", [["alice@example.test"], ["Alice@example.test", "bob@example.test"], ["all"]])
async def test_mail_that_every_recipient_has_had_is_refused_and_reported_to_nobody(
    world: World, recipients: list[str]
) -> None:  # RFC 5321 6.3; Delivered-To is forged as easily as the reverse-path
    await world.add_alias("all@example.test", "alice@example.test", "bob@example.test")
    named = [name if "@" in name else f"{name}@example.test" for name in recipients]
    had = b"Delivered-To: alice@example.test\r\nDelivered-To: bob@example.test\r\n"
    answer = await world.accept(named, had + MESSAGE, reverse_path="victim@example.net", options=FULL)
    assert reason(answer) == "MAIL_LOOP"
    await world.settle()
    assert await world.lease() == await world.letters("alice") == await world.letters("bob") == []


async def test_a_loop_among_others_is_reported_by_the_header_alone(world: World) -> None:
    had = b"Delivered-To: alice@example.test\r\n"
    named = ["alice@example.test", "bob@example.test"]
    assert (await world.accept(named, had + MESSAGE, reverse_path="victim@example.net", options=FULL)).accepted
    (lease,) = await world.lease()
    assert lease.recipients[0].recipient.forward_path == "victim@example.net"
    report = await world.read_outbound(lease)
    assert b"Status: 5.4.6" in report
    assert b"text/rfc822-headers" in report
    assert b"At noon?" not in report


async def test_forged_trace_fields_are_cut_whatever_the_chunks(world: World) -> None:
    forged = (
        b"Return-Path: <boss@example.test>\r\nAuthentication-Results: mx.example.test; spf=pass\r\n"
        b"DELIVERED-TO: somebody@example.net\r\n folded\r\n"
    )
    for chunk in (1, 7, 64, 100_000):
        assert (await world.accept(["alice@example.test"], forged + MESSAGE, chunk=chunk)).accepted
    assert [letter.content for letter in await world.letters("alice")] == [MESSAGE] * 4


@pytest.mark.parametrize(
    "content",
    [b"Subject: x\r\n\r\na\nb\r\n", b"Subject: x\r\n\r\na\rb\r\n", b"Subject: x\r\n\r\na\0b\r\n", b"Subject: x\n\nb\n"],
)
async def test_what_is_not_canonical_is_refused(world: World, content: bytes) -> None:
    # RFC 5321 2.3.8, 4.1.1.4
    assert reason(await world.accept(["alice@example.test"], content)) == "INVALID_CONTENT"
    assert await world.letters("alice") == []


async def test_a_large_message_comes_in_pieces_that_are_granted(world: World) -> None:
    body = b"0123456789abcdef" * 4 + b"\r\n"
    content = MESSAGE + body * 60_000  # about 4 MB
    number = 7
    granted = asyncio.Semaphore(0)
    room = [1 << 20]

    async def requests() -> AsyncIterator[AcceptRequest]:
        begin = AcceptBegin(
            request_id=secrets.token_bytes(16),
            reverse_path="dave@example.org",
            recipients=[EnvelopeRecipient(forward_path="alice@example.test")],
            trace_field=TRACE,
        )
        yield AcceptRequest(acceptance_id=number, start=begin)
        for start in range(0, len(content), 256 << 10):
            chunk = content[start : start + (256 << 10)]
            while room[0] < len(chunk):
                await granted.acquire()
            room[0] -= len(chunk)
            yield AcceptRequest(acceptance_id=number, chunk=chunk)
        yield AcceptRequest(acceptance_id=number, commit=AcceptEnd())

    responses: list[AcceptResponse] = []
    async with asyncio.timeout(30):
        async for response in accept.accept(world.call(world.gateway(), FOREVER), requests()):
            room[0] += response.granted_octets
            granted.release()
            responses.append(response)
    assert responses[-1].accepted
    assert sum(response.granted_octets for response in responses) <= len(content)
    assert (await world.letters("alice"))[0].content == content


async def test_octets_beyond_the_grant_end_the_acceptance(world: World) -> None:
    async def requests() -> AsyncIterator[AcceptRequest]:
        begin = AcceptBegin(
            request_id=secrets.token_bytes(16),
            recipients=[EnvelopeRecipient(forward_path="alice@example.test")],
            trace_field=TRACE,
        )
        yield AcceptRequest(acceptance_id=1, start=begin)
        for _ in range(5):
            yield AcceptRequest(acceptance_id=1, chunk=b"x" * (256 << 10))
        yield AcceptRequest(acceptance_id=1, commit=AcceptEnd())

    stream = accept.accept(world.call(world.gateway(), FOREVER), requests())
    reasons = [reason(response) for response in [response async for response in stream] if reason(response)]
    assert reasons == ["INVALID_ARGUMENT"]
    assert await world.letters("alice") == []


async def test_a_client_that_takes_no_answers_is_read_no_further(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accept, "MAX_OPEN", 0)  # each acceptance is answered at once
    monkeypatch.setattr(accept, "MAX_ANSWERS", 10)
    sent = 0

    async def requests() -> AsyncIterator[AcceptRequest]:
        nonlocal sent
        while sent < 1_000:
            sent += 1
            yield AcceptRequest(acceptance_id=sent, start=AcceptBegin())

    stream = accept.accept(world.call(world.gateway(), FOREVER), requests())
    assert reason(await anext(stream)) == "STORE_BUSY"
    for _ in range(100):
        await asyncio.sleep(0)
    assert sent <= 12
    assert len([response async for response in stream]) == 999


async def test_acceptances_of_one_stream_are_distinguished_and_an_abort_discards_one(world: World) -> None:
    def begin(path: str) -> AcceptBegin:
        return AcceptBegin(
            request_id=secrets.token_bytes(16),
            reverse_path="",
            recipients=[EnvelopeRecipient(forward_path=path)],
            trace_field=TRACE,
        )

    async def requests() -> AsyncIterator[AcceptRequest]:
        for number, name in enumerate(("alice", "bob", "carol"), 1):
            yield AcceptRequest(acceptance_id=number, start=begin(f"{name}@example.test"))
        half = len(MESSAGE) // 2
        for part in (MESSAGE[:half], MESSAGE[half:]):
            for number in (3, 1, 2):
                yield AcceptRequest(acceptance_id=number, chunk=part)
                await asyncio.sleep(0)
        yield AcceptRequest(acceptance_id=2, abort=True)
        yield AcceptRequest(acceptance_id=3, commit=AcceptEnd())
        yield AcceptRequest(acceptance_id=1, commit=AcceptEnd())

    stream = accept.accept(world.call(world.gateway(), FOREVER), requests())
    accepted = {response.acceptance_id async for response in stream if response.accepted}
    assert accepted == {1, 3}
    found = [[letter.content for letter in await world.letters(name)] for name in ("alice", "bob", "carol")]
    assert found == [[MESSAGE], [], [MESSAGE]]


@pytest.mark.parametrize(
    ("paths", "size", "identity", "verdicts"),
    [
        (["alice@example.test", "Alice+x@Example.TEST", "postmaster"], 0, "smtp", ["", "", ""]),
        (["nobody@example.test"], 0, "smtp", ["RECIPIENT_NOT_FOUND"]),
        (["eve@example.net", "eve%example.net@example.test"], 0, "smtp", ["RELAY_DENIED", "RECIPIENT_NOT_FOUND"]),
        (["eve@example.net", "nobody@example.test"], 0, "alice", ["", "RECIPIENT_NOT_FOUND"]),
        (["not an address", "a@b@example.test", "@example.test"], 0, "smtp", ["INVALID_ADDRESS"] * 3),
        (["small@example.test", "team@example.test"], 200, "smtp", ["QUOTA_EXCEEDED", ""]),
        (["small@example.test"], 50, "smtp", [""]),
    ],
)
async def test_recipients_are_verified(
    world: World, paths: list[str], size: int, identity: str, verdicts: list[str]
) -> None:
    await world.add_account("small@example.test", quota_octets=100)
    await world.add_alias("team@example.test", "small@example.test")
    caller = world.session(identity) if identity in world.people else world.gateway(identity)
    answer = await world.run(VerifyRecipientsRequest(forward_paths=paths, size_octets=size), caller)
    assert [reason(verdict) for verdict in answer.verdicts] == verdicts
    assert [verdict.accepted for verdict in answer.verdicts] == [not refused for refused in verdicts]


async def verdict(world: World, path: str) -> str:
    answer = await world.run(VerifyRecipientsRequest(forward_paths=[path]), world.gateway())
    return reason(answer.verdicts[0]) or "ACCEPTED"


async def test_a_known_recipient_is_asked_for_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await verdict(world, "alice@example.test") == "ACCEPTED"
    monkeypatch.setattr(world.core, "short_read", None)  # nothing may be read any more
    assert await verdict(world, "alice@example.test") == "ACCEPTED"
    assert (await world.accept(["alice@example.test"])).accepted
    assert len(await world.letters("alice")) == 1


async def test_only_what_takes_any_mail_need_not_be_asked_for_again(world: World) -> None:
    await world.add_account("dora@example.test", quota_octets=1 << 20)
    paths = ["alice@example.test", "dora@example.test", "nobody@example.test"]
    for _ in range(2):
        answer = await world.run(VerifyRecipientsRequest(forward_paths=paths), world.gateway())
        assert [verdict.good_for_milliseconds for verdict in answer.verdicts] == [2_000, 0, 0]
    answer = await world.run(VerifyRecipientsRequest(forward_paths=paths[:1]), world.gateway())
    assert answer.verdicts[0].good_for_milliseconds == 2_000


async def test_room_in_a_mailbox_with_a_quota_is_looked_at_each_time(world: World) -> None:
    await world.add_account("dora@example.test", quota_octets=2 * len(MESSAGE))
    for expected in ("ACCEPTED", "QUOTA_EXCEEDED"):
        found = await world.run(
            VerifyRecipientsRequest(forward_paths=["dora@example.test"], size_octets=len(MESSAGE)), world.gateway()
        )
        assert (reason(found.verdicts[0]) or "ACCEPTED") == expected
        await world.accept(["dora@example.test"])


async def test_a_change_of_the_directory_is_seen_by_the_next_message(world: World) -> None:
    await world.add_alias("team@example.test", "bob@example.test")
    for path in ("alice@example.test", "bob+lists@example.test", "team@example.test"):
        assert await verdict(world, path) == "ACCEPTED"
    await world.db.write(Write(lambda tx: lifecycle.remove(tx, "alice@example.test")))
    assert await verdict(world, "alice@example.test") == "RECIPIENT_NOT_FOUND"
    assert reason(await world.accept(["alice@example.test"])) == "RECIPIENT_NOT_FOUND"
    await world.add_alias("bob+lists@example.test", "carol@example.test")
    await world.accept(["bob+lists@example.test"])
    assert (len(await world.letters("bob")), len(await world.letters("carol"))) == (0, 1)
    await world.db.write(Write(lambda tx: aliases.remove(tx, "team@example.test")))
    assert await verdict(world, "team@example.test") == "RECIPIENT_NOT_FOUND"
    await world.set_catch_all("carol@example.test")
    assert await verdict(world, "nobody@example.test") == "ACCEPTED"
    await world.db.write(Write(lambda tx: domains.set_catch_all(tx, "example.test", "")))
    assert await verdict(world, "nobody@example.test") == "RECIPIENT_NOT_FOUND"


async def test_a_smaller_quota_is_obeyed_at_once(world: World) -> None:
    alice = world.people["alice"].mailbox_id
    await world.accept(["alice@example.test"])
    await world.db.write(
        Write(partial(mailboxes.set_quota, place=rights.system(alice), quota_octets=1), mailboxes=frozenset({alice}))
    )
    answer = await world.run(VerifyRecipientsRequest(forward_paths=["alice@example.test"]), world.gateway())
    assert reason(answer.verdicts[0]) == "QUOTA_EXCEEDED"


async def test_success_is_reported_where_it_was_asked_for(world: World) -> None:
    # RFC 3461 5.2.3
    wanted = EnvelopeRecipient(
        forward_path="bob@example.test",
        notify=[NotifyCondition.NOTIFY_CONDITION_SUCCESS],
        original_recipient="rfc822;bobby@example.test",
    )
    answer = await world.accept([wanted, "carol@example.test"], reverse_path="alice@example.test")
    assert answer.accepted
    await world.settle()
    (report,) = await world.letters("alice")
    assert b"Action: delivered\r\n" in report.content
    assert b"Original-Recipient: rfc822; bobby@example.test\r\n" in report.content
    assert b"carol" not in report.content.split(b"text/rfc822-headers")[0]
    assert report.head.startswith(b"Return-Path: <>\r\n")
