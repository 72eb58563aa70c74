"""Checked mail: folder, refusal, head, what is kept and what is found by queries."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import pytest
from sqlalchemy import select

from restante.errors import MessageRefused, from_status
from restante.v1.checks_pb2 import (
    CHECK_RESULT_FAIL,
    CHECK_RESULT_NEUTRAL,
    CHECK_RESULT_PASS,
    DMARC_POLICY_REJECT,
    SPF_IDENTITY_MAILFROM,
    DmarcCheck,
    MessageChecks,
    SpfCheck,
)
from restante.v1.submission_pb2 import EnvelopeRecipient
from restante.v1.transport_pb2 import AcceptBegin, AcceptMessageRequest, AcceptMessageResponse
from restante_server.api.services.accept_message import accept_message
from restante_server.db import schema
from restante_server.db.operation import Write
from restante_server.directory import domains
from restante_server.directory.check_rules import OnFailure
from restante_server.store.folders import Role
from restante_server.transport import oversight
from tests.server.transport.world import FOREVER, TRACE, World

FROM_BANK = b"From: Bank <info@bank.example>\r\nSubject: Your account\r\n\r\nClick here.\r\n"
FROM_ALICE = FROM_BANK.replace(b"info@bank.example", b"alice@example.test")
PASSED = MessageChecks(
    spf=[SpfCheck(result=CHECK_RESULT_PASS, identity=SPF_IDENTITY_MAILFROM, domain="bank.example")],
    dmarc=DmarcCheck(result=CHECK_RESULT_PASS, author_domain="bank.example", policy_domain="bank.example"),
)
FAILED = MessageChecks(
    spf=[SpfCheck(result=CHECK_RESULT_NEUTRAL, identity=SPF_IDENTITY_MAILFROM, domain="bank.example")],
    dmarc=DmarcCheck(
        result=CHECK_RESULT_FAIL,
        author_domain="bank.example",
        policy_domain="bank.example",
        policy=DMARC_POLICY_REJECT,
    ),
)
JUNK = int(Role.JUNK)


async def take(
    world: World,
    checks: MessageChecks | None,
    paths: Sequence[str] = ("alice@example.test",),
    content: bytes = FROM_BANK,
    reverse_path: str = "info@bank.example",
) -> int:
    return (await answer_to(world, checks, paths, content, reverse_path)).transport_id


async def answer_to(
    world: World,
    checks: MessageChecks | None,
    paths: Sequence[str],
    content: bytes = FROM_BANK,
    reverse_path: str = "info@bank.example",
    *,
    lmtp: bool = False,
    request_id: bytes = b"",
) -> AcceptMessageResponse:
    start = AcceptBegin(
        request_id=request_id or secrets.token_bytes(16),
        reverse_path=reverse_path,
        recipients=[EnvelopeRecipient(forward_path=path) for path in paths],
        client_address="192.0.2.1",
        trace_field=TRACE,
        lmtp=lmtp,
    )
    request = AcceptMessageRequest(start=start, content=content, checks=checks)
    return await accept_message(world.call(world.gateway(), FOREVER), request)


async def rule(
    world: World,
    domain: str = "example.test",
    *,
    failed_dmarc: OnFailure | None = None,
    forged_sender: OnFailure | None = None,
) -> None:
    await world.db.write(
        Write(lambda tx: domains.set_rules(tx, domain, failed_dmarc=failed_dmarc, forged_sender=forged_sender))
    )


async def history(world: World, transport_id: int) -> oversight.History:
    (found,) = await world.db.read(oversight.by_id, transport_id)
    return found


async def test_mail_that_fails_dmarc_goes_to_junk_and_the_trace_says_why(world: World) -> None:
    taken = await take(world, FAILED, ["alice@example.test", "bob@example.test"])
    assert await world.letters("alice") == []
    (letter,) = await world.letters("alice", JUNK)
    assert letter.content == FROM_BANK
    assert len(await world.letters("bob", JUNK)) == 1
    found = await history(world, taken)
    details = {event.detail for event in found.events}
    assert details == {"2.1.5 delivered to Junk: DMARC fails for bank.example, whose policy is reject"}
    assert MessageChecks.FromString(found.checks) == FAILED


async def test_the_field_stands_behind_received_in_every_head(world: World) -> None:
    await take(world, PASSED)
    (letter,) = await world.letters("alice")
    expected = (
        b"Return-Path: <info@bank.example>\r\nDelivered-To: alice@example.test\r\n"
        + TRACE.encode()
        + b"Authentication-Results: "
        + world.core.transport.settings.hostname.encode()
        + b";\r\n spf=pass smtp.mailfrom=bank.example;\r\n dmarc=pass header.from=bank.example policy.dmarc=none\r\n"
    )
    assert letter.head == expected


async def test_mail_without_checks_is_as_it_was(world: World) -> None:
    taken = await take(world, None, content=FROM_ALICE)
    (letter,) = await world.letters("alice")
    assert b"Authentication-Results" not in letter.head
    assert (await history(world, taken)).checks == b""


async def test_forged_fields_give_way_to_the_true_one(world: World) -> None:
    hostname = world.core.transport.settings.hostname
    forged = "".join(
        f"{name}: {server}; dmarc=pass header.from=bank.example\r\n"
        for name in ("Authentication-Results", "AUTHENTICATION-RESULTS", "authentication-results ")
        for server in (
            hostname,
            f'"{hostname}"',
            hostname.upper(),
            f"(c) {hostname} 1",
            f"{hostname}.",
            f"\r\n {hostname}",
        )
    )
    other = b"Authentication-Results: elsewhere.example; spf=pass\r\n"
    await take(world, FAILED, content=forged.encode() + other + FROM_BANK)
    (letter,) = await world.letters("alice", JUNK)
    assert letter.content == other + FROM_BANK
    assert letter.head.count(b"Authentication-Results:") == 1
    assert b"dmarc=fail" in letter.head


async def test_a_refusing_domain_refuses_in_the_session(world: World) -> None:
    await rule(world, failed_dmarc=OnFailure.REJECT)
    with pytest.raises(MessageRefused) as refused:
        await take(world, FAILED)
    assert refused.value.metadata == {
        "check": "dmarc",
        "domain": "bank.example",
        "problem": "DMARC fails for bank.example, whose policy is reject",
    }
    answer = await world.accept(["alice@example.test"], FROM_BANK, checks=FAILED)
    assert isinstance(from_status(answer.status), MessageRefused)
    assert await world.letters("alice") == []
    assert await world.letters("alice", JUNK) == []
    await rule(world, failed_dmarc=OnFailure.NONE)  # from now on, not when a cache expires
    await take(world, FAILED)
    assert len(await world.letters("alice")) == 1


async def test_recipients_of_a_refusing_domain_get_in_junk_what_others_take(world: World) -> None:
    await world.db.write(Write(lambda tx: domains.create(tx, 1, "example.com")))
    await world.add_account("zoe@example.com")
    await rule(world, failed_dmarc=OnFailure.REJECT)
    await rule(world, "example.com", failed_dmarc=OnFailure.NONE)
    taken = await take(world, FAILED, ["alice@example.test", "zoe@example.com"])
    assert len(await world.letters("alice", JUNK)) == 1
    assert len(await world.letters("zoe")) == 1
    details = {event.forward_path: event.detail for event in (await history(world, taken)).events}
    assert details["alice@example.test"].endswith("; not refused, because another recipient's domain takes it")
    assert details["zoe@example.com"] == "2.1.5"


def reasons(answer: AcceptMessageResponse) -> list[str]:
    return ["" if one.accepted else from_status(one.status).reason for one in answer.verdicts]


async def test_by_lmtp_each_domain_refuses_for_its_own_recipients(world: World) -> None:
    await world.db.write(Write(lambda tx: domains.create(tx, 1, "example.com")))
    await world.add_account("zoe@example.com")
    await rule(world, failed_dmarc=OnFailure.REJECT)
    await rule(world, "example.com", failed_dmarc=OnFailure.NONE)
    paths = ["nobody@example.com", "alice@example.test", "zoe@example.com", "bob@example.test"]
    same = secrets.token_bytes(16)
    first = await answer_to(world, FAILED, paths, lmtp=True, request_id=same)
    assert first.transport_id
    assert reasons(first) == ["RECIPIENT_NOT_FOUND", "MESSAGE_REFUSED", "", "MESSAGE_REFUSED"]
    why = from_status(first.verdicts[1].status).metadata["problem"]
    assert why == "DMARC fails for bank.example, whose policy is reject"
    assert [len(await world.letters(name)) for name in ("alice", "bob", "zoe")] == [0, 0, 1]
    assert await world.letters("alice", JUNK) == []
    assert [event.forward_path for event in (await history(world, first.transport_id)).events] == ["zoe@example.com"]
    assert await answer_to(world, FAILED, paths, lmtp=True, request_id=same) == first
    await rule(world, failed_dmarc=OnFailure.NONE)  # the repetition has the first answer all the same
    again = await answer_to(world, FAILED, paths, lmtp=True, request_id=same)
    assert reasons(again) == reasons(first)
    assert len(await world.letters("zoe")) == 1


async def test_by_lmtp_a_message_that_all_domains_refuse_is_refused_for_each(world: World) -> None:
    await rule(world, failed_dmarc=OnFailure.REJECT)
    answer = await answer_to(world, FAILED, ["alice@example.test", "bob@example.test"], lmtp=True)
    assert answer.transport_id == 0
    assert reasons(answer) == ["MESSAGE_REFUSED"] * 2
    assert await world.letters("alice", JUNK) == []


async def test_mail_from_outside_in_the_name_of_a_local_domain(world: World) -> None:
    await take(world, PASSED, content=FROM_ALICE)
    assert len(await world.letters("alice", JUNK)) == 1
    await rule(world, forged_sender=OnFailure.REJECT)
    with pytest.raises(MessageRefused) as refused:
        await take(world, PASSED, content=FROM_ALICE)
    assert refused.value.metadata["check"] == "forged"
    assert refused.value.metadata["domain"] == "example.test"


async def test_an_alias_passes_its_verdict_to_its_targets(world: World) -> None:
    await world.add_alias("team@example.test", "alice@example.test", "bob@example.test")
    await take(world, FAILED, ["team@example.test"])
    assert len(await world.letters("alice", JUNK)) == 1
    assert len(await world.letters("bob", JUNK)) == 1


async def test_a_mailbox_without_a_junk_folder_gets_it_in_the_inbox(world: World) -> None:
    folder = schema.folder
    mailbox_id = world.people["alice"].mailbox_id
    await world.db.write(
        Write(
            lambda tx: tx.execute(
                folder.update().where(folder.c.mailbox_id == mailbox_id, folder.c.role == JUNK).values(role=0)
            )
        )
    )
    taken = await take(world, FAILED)
    assert len(await world.letters("alice")) == 1
    (event,) = (await history(world, taken)).events
    assert event.detail.startswith("2.1.5 delivered to the Inbox for want of a Junk folder: DMARC fails")


async def test_recipients_that_wait_get_the_same_head_folder_and_results(world: World) -> None:
    names = [f"u{number}@example.test" for number in range(world.core.transport.settings.direct_deliveries + 2)]
    await world.add_accounts(names)
    taken = await take(world, FAILED, names)
    await world.core.transport.deliver()
    first, last = [await world.letters(name.partition("@")[0], JUNK) for name in (names[0], names[-1])]
    assert len(first) == len(last) == 1
    assert last[0].head == first[0].head.replace(names[0].encode(), names[-1].encode())
    events = (await history(world, taken)).events
    assert sum("delivered to Junk" in event.detail for event in events) == len(names)
    listing = schema.listing
    rows = await world.db.read(
        lambda tx: tx.execute(
            select(listing.c.checks, listing.c.check_results).execution_options(across_mailboxes=True)
        ).all()
    )
    assert [MessageChecks.FromString(row.checks) for row in rows] == [FAILED]
    assert all(row.check_results for row in rows)
