"""Mail from elsewhere that an alias sends on: its reverse-path is rewritten, and reports come back to its sender."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import func, select, update

from restante.errors import RecipientNotFound, from_status
from restante.v1.forwarding_pb2 import ReplaceForwardingSecretRequest
from restante.v1.submission_pb2 import EnvelopeRecipient, NotifyCondition
from restante.v1.transport_pb2 import OutboundLease, OutcomeKind, RecipientVerdict, VerifyRecipientsRequest
from restante_mail.envelope.srs import LIFETIME_DAYS
from restante_server.db import schema
from restante_server.db.operation import Write
from restante_server.directory import domains, keys, lasting_secrets
from restante_server.directory.keys import KeyRing
from restante_server.transport import kept_paths
from restante_server.transport.forwarding import SECRET, Forwarding
from restante_server.transport.schedule import DAY
from restante_server.transport.states import State
from tests.server.transport.world import START, World, reason

REPORT = b"From: <MAILER-DAEMON@mx.example.net>\r\nTo: x\r\nSubject: Undelivered\r\n\r\nNo.\r\n"


@pytest.fixture
async def forwarding(world: World) -> World:
    """A store with an alias to another server."""
    await world.add_alias("list@example.test", "eve@example.net")
    return world


async def change(world: World, function: Any, *arguments: Any) -> Any:
    return await world.db.write(Write(lambda tx: function(tx, *arguments)))


async def sent(world: World, reverse_path: str = "dave@example.org", to: str = "list@example.test") -> OutboundLease:
    """The lease of a message from elsewhere that was sent on."""
    await world.accept([to], reverse_path=reverse_path)
    (lease,) = await world.lease()
    return lease


async def verify(world: World, path: str, reverse_path: str = "") -> RecipientVerdict:
    request = VerifyRecipientsRequest(reverse_path=reverse_path, forward_paths=[path])
    verdict: RecipientVerdict = (await world.run(request, world.gateway())).verdicts[0]
    return verdict


async def paths(world: World, leases: Sequence[OutboundLease]) -> list[tuple[str, list[str]]]:
    return [(one.reverse_path, [each.recipient.forward_path for each in one.recipients]) for one in leases]


async def test_the_reverse_path_of_a_forwarded_message_is_of_the_aliass_domain(forwarding: World) -> None:
    lease = await sent(forwarding)
    assert lease.reverse_path.startswith("SRS0=") and lease.reverse_path.endswith("=example.org=dave@example.test")
    rows = await forwarding.db.read(lambda tx: tx.scalars(select(schema.transport_message.c.reverse_path)).all())
    assert rows == ["dave@example.org"]  # to which this server's own reports go
    assert await forwarding.problems() == []


async def test_a_report_comes_back_to_the_sender(forwarding: World) -> None:
    lease = await sent(forwarding)
    verdict = await verify(forwarding, lease.reverse_path)
    assert verdict.accepted and not verdict.good_for_milliseconds  # good for the null path only
    accepted = await forwarding.accept([lease.reverse_path.lower()], REPORT, reverse_path="")
    assert accepted.accepted
    (back,) = await forwarding.lease()
    assert await paths(forwarding, [back]) == [("", ["dave@example.org"])]
    assert [state for _, state, _ in await forwarding.states(back.transport_id)] == [State.EXPANDED, State.LEASED]
    await forwarding.report_all(back, OutcomeKind.OUTCOME_KIND_FAILED, "5.1.1")
    assert await forwarding.lease() == []  # no report about a report
    assert await forwarding.problems() == []


@pytest.mark.parametrize("catch_all", [False, True])
async def test_a_rewritten_path_takes_reports_only(forwarding: World, catch_all: bool) -> None:
    if catch_all:
        await forwarding.set_catch_all("bob@example.test")
    lease = await sent(forwarding)
    refused = await verify(forwarding, lease.reverse_path, "mallory@example.com")
    assert not refused.accepted
    problem = from_status(refused.status)
    assert isinstance(problem, RecipientNotFound)
    assert problem.metadata["problem"] == "A rewritten reverse-path takes reports from the null path only"
    answer = await forwarding.accept([lease.reverse_path], REPORT, reverse_path="mallory@example.com")
    assert reason(answer) == "RECIPIENT_NOT_FOUND"
    assert await forwarding.letters("bob") == []


async def test_a_forged_or_old_path_is_refused_with_the_reason(forwarding: World) -> None:
    lease = await sent(forwarding)
    for path, problem in (
        (lease.reverse_path.replace("dave", "eve"), "was not written by this server"),
        ("SRS0=x@example.test", "lacks a part"),
    ):
        refused = from_status((await verify(forwarding, path)).status)
        assert refused.metadata["problem"] == f"The rewritten reverse-path {problem}"
        assert reason(await forwarding.accept([path], REPORT, reverse_path="")) == "RECIPIENT_NOT_FOUND"
    forwarding.clock.ahead += (LIFETIME_DAYS + 1) * DAY
    refused = from_status((await verify(forwarding, lease.reverse_path)).status)
    assert refused.metadata["problem"] == f"The rewritten reverse-path is older than {LIFETIME_DAYS} days"


async def test_a_store_that_never_forwarded_has_no_such_recipient(forwarding: World) -> None:
    refused = from_status((await verify(forwarding, "SRS0=aaaaaaaa=AA=example.org=dave@example.test")).status)
    assert refused.reason == "RECIPIENT_NOT_FOUND"
    foreign = await verify(forwarding, "SRS0=aaaaaaaa=AA=example.org=dave@example.net")
    assert from_status(foreign.status).reason == "RELAY_DENIED"


async def test_paths_of_our_domains_and_the_null_path_stay(forwarding: World) -> None:
    await change(forwarding, domains.create, START, "example.com")
    for path in ("alice@example.test", "anybody@example.com", ""):
        assert (await sent(forwarding, path)).reverse_path == path


async def test_a_submission_keeps_its_reverse_path(forwarding: World) -> None:
    letter = b"From: alice@example.test\r\nTo: list@example.test\r\n\r\nHi\r\n"
    await forwarding.submit("alice", letter, recipients=["list@example.test", "eve@example.org"])
    leases = await forwarding.lease()
    assert sorted(one.destination for one in leases) == ["example.net", "example.org"]
    assert {one.reverse_path for one in leases} == {"alice@example.test"}


async def test_a_path_of_another_forwarder_is_chained(forwarding: World) -> None:
    first = "SRS0=abcd=Y2=example.com=dave@first.example"
    lease = await sent(forwarding, first)
    assert lease.reverse_path.startswith("SRS1=")
    await forwarding.accept([lease.reverse_path], REPORT, reverse_path="")
    (back,) = await forwarding.lease()
    assert await paths(forwarding, [back]) == [("", [first])]


async def test_a_report_reaches_a_sender_whose_domain_has_moved_here(forwarding: World) -> None:
    lease = await sent(forwarding)
    await change(forwarding, domains.create, START, "example.org")
    await forwarding.add_account("dave@example.org")
    await forwarding.accept([lease.reverse_path], REPORT, reverse_path="")
    assert len(await forwarding.letters("dave")) == 1


async def test_the_domain_of_rewritten_paths_may_be_configured(forwarding: World) -> None:
    forwarding.transport.forwarding = Forwarding("bounces.example")
    lease = await sent(forwarding)
    assert lease.reverse_path.endswith("@bounces.example")
    assert (await verify(forwarding, lease.reverse_path)).accepted
    await forwarding.accept([lease.reverse_path], REPORT, reverse_path="")
    assert [one.destination for one in await forwarding.lease()] == ["example.org"]


async def test_one_of_our_own_reports_goes_to_the_original_path(forwarding: World) -> None:
    lease = await sent(forwarding)
    await forwarding.report_all(lease, OutcomeKind.OUTCOME_KIND_FAILED, "5.1.1")
    assert await paths(forwarding, await forwarding.lease()) == [("", ["dave@example.org"])]


async def test_every_core_of_a_store_has_the_same_secret(forwarding: World) -> None:
    lease = await sent(forwarding)
    other = Forwarding()
    (found,) = await forwarding.db.read(other.resolve, [lease.reverse_path], "", time.time_ns() // 1_000)
    assert [target.address for target in found.targets] == ["dave@example.org"]


async def test_the_secret_outlives_the_sealing_keys(forwarding: World) -> None:
    secret = await change(forwarding, lasting_secrets.get, SECRET, START)

    def replace(tx: Any) -> None:
        before = KeyRing(keys.load(tx))
        keys.create(tx, START + 1)
        lasting_secrets.reseal(tx, before, KeyRing(keys.load(tx)))
        tx.execute(schema.sealing_key.delete().where(schema.sealing_key.c.key_id == 1))

    await forwarding.db.write(Write(replace))
    assert len(secret) == 1 and await forwarding.db.read(lasting_secrets.find, SECRET) == secret
    assert await change(forwarding, lasting_secrets.get, SECRET, START) == secret


async def test_a_quoted_path_comes_back(forwarding: World) -> None:
    lease = await sent(forwarding, '"a b"@example.org')
    assert lease.reverse_path.startswith('"SRS0=')
    await forwarding.accept([lease.reverse_path], REPORT, reverse_path="")
    assert await paths(forwarding, await forwarding.lease()) == [("", ['"a b"@example.org'])]


async def test_a_relayed_report_is_not_reported_to_the_null_path(forwarding: World) -> None:
    lease = await sent(forwarding)
    await forwarding.accept(
        [EnvelopeRecipient(forward_path=lease.reverse_path, notify=[NotifyCondition.NOTIFY_CONDITION_SUCCESS])],
        REPORT,
        reverse_path="",
    )
    (back,) = await forwarding.lease()
    await forwarding.report_all(back, OutcomeKind.OUTCOME_KIND_RELAYED, "2.0.0")
    assert await forwarding.lease() == []


async def test_without_a_forwarder_nothing_is_rewritten(forwarding: World) -> None:
    await forwarding.accept(["list@example.test"])
    await change(forwarding, lambda tx: tx.execute(update(schema.transport_message).values(forwarder="")))
    (lease,) = await forwarding.lease()
    assert lease.reverse_path == "dave@example.org"


LONG = "x" * 70 + "@example.org"


async def test_a_long_path_gets_a_short_form_and_comes_back(forwarding: World) -> None:
    lease = await sent(forwarding, LONG)
    local_part = lease.reverse_path.partition("@")[0]
    assert local_part.startswith("SRS0=") and len(local_part) <= 64  # RFC 5321 4.5.3.1.1
    assert (await sent(forwarding, LONG)).reverse_path == lease.reverse_path
    assert await forwarding.db.read(lambda tx: tx.scalar(select(func.count()).select_from(schema.kept_path))) == 1
    assert (await forwarding.accept([lease.reverse_path.lower()], REPORT, reverse_path="")).accepted
    assert ("", [LONG]) in await paths(forwarding, await forwarding.lease())
    assert await forwarding.problems() == []


async def test_a_path_that_becomes_too_long_with_the_prefix_gets_a_short_form(forwarding: World) -> None:
    theirs = "SRS0=abcd=Y2=a-long-domain-of-an-author.example=dave.jones@first-forwarder.example"
    lease = await sent(forwarding, theirs)
    assert len(lease.reverse_path.partition("@")[0]) <= 64
    await forwarding.accept([lease.reverse_path], REPORT, reverse_path="")
    assert await paths(forwarding, await forwarding.lease()) == [("", [theirs])]


async def test_kept_paths_live_as_long_as_reports_and_are_bounded(
    forwarding: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await sent(forwarding, LONG)
    forwarding.clock.ahead += 10 * DAY
    assert (await sent(forwarding, LONG)).reverse_path != first.reverse_path  # the day has changed
    forwarding.clock.ahead += 15 * DAY
    await forwarding.transport.purge()
    assert (await verify(forwarding, first.reverse_path)).accepted is False
    assert await forwarding.db.read(kept_paths.find, await key_of(forwarding)) == LONG  # for the later message
    monkeypatch.setattr(kept_paths, "MAX_PATHS", 1)
    other = await sent(forwarding, "y" * 70 + "@example.org")
    assert len(other.reverse_path.partition("@")[0]) > 64  # the long form, which many servers take
    forwarding.clock.ahead += 24 * DAY
    await forwarding.transport.purge()
    assert await forwarding.db.read(lambda tx: tx.scalar(select(func.count()).select_from(schema.kept_path))) == 0


async def key_of(world: World) -> str:
    (key,) = await world.db.read(lambda tx: tx.scalars(select(schema.kept_path.c.path_key)).all())
    return str(key)


async def numbers(world: World) -> list[int]:
    return [version.number for version in await world.db.read(lasting_secrets.find, SECRET)]


async def test_the_secret_is_replaced_and_the_old_one_reads_for_21_days(forwarding: World) -> None:
    other_core = Forwarding()
    lease = await sent(forwarding)
    assert await change(forwarding, other_core.resolve, [lease.reverse_path], "", START)
    forwarding.clock.ahead += 29 * DAY
    await forwarding.transport.purge()
    assert await numbers(forwarding) == [1]
    old = await sent(forwarding)
    forwarding.clock.ahead += 2 * DAY
    await forwarding.transport.purge()
    assert await numbers(forwarding) == [2, 1]
    new = await sent(forwarding)
    now = time.time_ns() // 1_000 + forwarding.clock.ahead
    for path in (new.reverse_path, old.reverse_path):
        assert (await verify(forwarding, path)).accepted
        (found,) = await forwarding.db.read(other_core.resolve, [path], "", now)
        assert [target.address for target in found.targets] == ["dave@example.org"]
    forwarding.clock.ahead += 24 * DAY
    await forwarding.transport.purge()
    assert await numbers(forwarding) == [2]


async def test_a_store_that_never_forwarded_makes_no_secret(forwarding: World) -> None:
    await forwarding.transport.purge()
    assert await numbers(forwarding) == []


async def test_an_administrator_replaces_the_secret_and_revokes_earlier_ones(forwarding: World) -> None:
    other_core = Forwarding()
    first = await sent(forwarding)
    await forwarding.db.read(other_core.resolve, [first.reverse_path], "", START)
    admin = forwarding.gateway("admin")
    answer = await forwarding.run(ReplaceForwardingSecretRequest(), admin)
    assert answer.secret_count == 2
    second = await sent(forwarding)
    assert second.reverse_path != first.reverse_path
    for path in (first.reverse_path, second.reverse_path):
        assert (await verify(forwarding, path)).accepted
    answer = await forwarding.run(ReplaceForwardingSecretRequest(revoke_earlier=True), admin)
    assert answer.secret_count == 1
    now = time.time_ns() // 1_000
    for path in (first.reverse_path, second.reverse_path):
        refused = from_status((await verify(forwarding, path)).status)
        assert refused.metadata["problem"] == "The rewritten reverse-path was not written by this server"
        (found,) = await forwarding.db.read(other_core.resolve, [path], "", now)
        assert not found.targets
    assert (await verify(forwarding, (await sent(forwarding)).reverse_path)).accepted


async def test_a_secret_may_be_replaced_before_there_is_one(forwarding: World) -> None:
    answer = await forwarding.run(ReplaceForwardingSecretRequest(revoke_earlier=True), forwarding.gateway("admin"))
    assert answer.secret_count == 1
    assert (await verify(forwarding, (await sent(forwarding)).reverse_path)).accepted
