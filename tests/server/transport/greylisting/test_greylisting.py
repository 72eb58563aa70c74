"""Greylisting by VerifyRecipients: what is deferred, what passes, what is remembered, and how administrators see it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select

from restante import errors
from restante.v1 import checks_pb2
from restante.v1 import greylist_pb2 as v1
from restante.v1.admin_pb2 import UpdateDomainRequest
from restante.v1.greylist_pb2 import ClientEvidence
from restante.v1.transport_pb2 import RecipientVerdict, VerifyRecipientsRequest
from restante_process.addresses import parse_address, parse_networks
from restante_server.api.engine.caller import Caller
from restante_server.db import schema
from restante_server.db.operation import Write
from restante_server.directory import domains
from restante_server.transport.forwarding import Forwarded
from restante_server.transport.greylisting import rows
from restante_server.transport.greylisting.policy import DAY, HOUR, MINUTE, GreylistSettings
from restante_server.transport.greylisting.service import Greylist
from restante_server.transport.greylisting.triplet import Triplet
from restante_server.transport.hooks import Figures
from tests.server.transport.world import World

ADMIN = Caller(identity="admin")
EXEMPT = ("127.0.0.0/8", "10.0.0.0/8")
SPF_PASS = checks_pb2.SpfCheck(
    result=checks_pb2.CHECK_RESULT_PASS, identity=checks_pb2.SPF_IDENTITY_MAILFROM, domain="example.org"
)
ALICE, BOB = "alice@example.test", "bob@example.test"


class Outcomes(Figures):
    """Keeps what is counted."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def greylisted(self, outcome: str) -> None:
        self.seen.append(outcome)


@pytest.fixture
async def grey(world: World) -> World:
    """A world whose domain has greylisting, with exempt networks."""
    await world.run(UpdateDomainRequest(name="example.test", greylisting=True), ADMIN)
    use(world, exempt=parse_networks(EXEMPT))
    world.transport.figures = Outcomes()
    return world


def use(world: World, **settings: Any) -> None:
    world.transport.greylist.settings = replace(world.transport.greylist.settings, **settings)


def outcomes(world: World) -> list[str]:
    assert isinstance(world.transport.figures, Outcomes)
    seen, world.transport.figures.seen = world.transport.figures.seen, []
    return seen


async def verify(
    world: World,
    *paths: str,
    client: str = "192.0.2.7",
    reverse_path: str = "dave@example.org",
    evidence: ClientEvidence | None = ClientEvidence(),  # noqa: B008 - it is not changed
) -> list[RecipientVerdict]:
    request = VerifyRecipientsRequest(
        reverse_path=reverse_path, forward_paths=paths or [ALICE], client_address=client, evidence=evidence
    )
    return list((await world.run(request, world.gateway())).verdicts)


def said(verdicts: Iterable[RecipientVerdict]) -> list[str]:
    """The reason for each recipient; "" if it is accepted."""
    return ["" if one.accepted else errors.from_status(one.status).reason for one in verdicts]


async def deferred(world: World, *paths: str, **facts: Any) -> bool:
    """Whether one recipient is deferred."""
    (reason,) = said(await verify(world, *paths, **facts))
    assert reason in ("", "GREYLISTED")
    return bool(reason)


async def count(world: World, table: Any = schema.greylist_triplet) -> int:
    return await world.db.read(lambda tx: tx.scalar(select(func.count()).select_from(table)) or 0)


# --- What is deferred ---------------------------------------------------------------------------------------------


async def test_a_first_attempt_is_deferred_and_its_retry_passes(grey: World) -> None:
    (verdict,) = await verify(grey)
    error = errors.from_status(verdict.status)
    assert isinstance(error, errors.Greylisted)
    assert error.metadata == {"seconds": "300"}
    grey.clock.ahead += 4 * MINUTE
    (verdict,) = await verify(grey)
    seconds = int(errors.from_status(verdict.status).metadata["seconds"])
    assert 50 <= seconds <= 60
    grey.clock.ahead += MINUTE
    (verdict,) = await verify(grey)
    assert verdict.accepted
    assert not verdict.good_for_milliseconds  # the gateway may not repeat the verdict to other clients
    assert not await deferred(grey)
    assert outcomes(grey) == ["deferred", "early", "retried", "known"]


async def test_off_is_the_default_and_nothing_is_kept(world: World) -> None:
    (verdict,) = await verify(world)
    assert verdict.accepted
    assert verdict.good_for_milliseconds > 0
    assert await count(world) == 0


async def test_each_domain_decides_for_itself(grey: World) -> None:
    await grey.db.write(Write(lambda tx: domains.create(tx, 1, "example.com")))
    await grey.add_account("zoe@example.com")
    assert said(await verify(grey, ALICE, "zoe@example.com", "nobody@example.test", "x@elsewhere.example")) == [
        "GREYLISTED", "", "RECIPIENT_NOT_FOUND", "RELAY_DENIED",
    ]  # fmt: skip
    await grey.run(UpdateDomainRequest(name="example.test", greylisting=False), ADMIN)
    assert not await deferred(grey)


@pytest.mark.parametrize(
    "facts",
    [
        {"client": "127.0.0.1"},
        {"client": "10.1.2.3"},
        {"client": ""},
        {"evidence": None},  # LMTP, or a session of a user
    ],
)
async def test_some_clients_are_never_deferred(grey: World, facts: dict[str, Any]) -> None:
    assert not await deferred(grey, **facts)
    (verdict,) = await verify(grey, **facts)
    assert not verdict.good_for_milliseconds
    assert await count(grey) == 0


async def test_a_user_of_this_installation_is_never_deferred(grey: World) -> None:
    request = VerifyRecipientsRequest(reverse_path=BOB, forward_paths=[ALICE], client_address="192.0.2.7")
    (verdict,) = (await grey.run(request, grey.session("bob"))).verdicts
    assert verdict.accepted


@pytest.mark.parametrize("path", ["postmaster@example.test", "abuse+x@example.test", "Postmaster"])
async def test_roles_are_never_deferred(grey: World, path: str) -> None:
    assert not await deferred(grey, path)


async def test_a_client_that_passes_a_check_is_not_asked_where_so_configured(grey: World) -> None:
    evidence = ClientEvidence(spf=[SPF_PASS])
    assert await deferred(grey, evidence=evidence)
    use(grey, skip_passing=frozenset(["spf"]))
    assert not await deferred(grey, BOB, evidence=evidence)
    assert await deferred(grey, BOB)
    assert outcomes(grey) == ["deferred", "passing", "deferred"]
    with pytest.raises(errors.InvalidArgument) as refused:
        await verify(grey, evidence=ClientEvidence(spf=[SPF_PASS] * 3))
    assert refused.value.metadata["field"] == "evidence.spf"


async def test_the_content_of_the_null_path_is_deferred_and_not_the_recipient(grey: World) -> None:
    (verdict,) = await verify(grey, reverse_path="")
    assert verdict.accepted
    assert isinstance(errors.from_status(verdict.content_status), errors.Greylisted)
    grey.clock.ahead += 5 * MINUTE
    (verdict,) = await verify(grey, reverse_path="")
    assert verdict.accepted
    assert not verdict.HasField("content_status")


async def test_a_report_to_a_path_that_this_server_has_rewritten_is_not_deferred(grey: World) -> None:
    forwarded = [Forwarded("dave@example.org", "example.test")]
    (path,) = await grey.db.write(
        Write(lambda tx: grey.transport.forwarding.reverse_paths(tx, forwarded, grey.call(ADMIN).now))
    )
    assert path.startswith("SRS0=")
    (verdict,) = await verify(grey, path, reverse_path="")
    assert verdict.accepted
    assert not verdict.HasField("content_status")


# --- What is remembered -------------------------------------------------------------------------------------------


async def test_another_server_of_the_network_may_retry_for_the_same_list(grey: World) -> None:
    assert await deferred(grey, client="192.0.2.7", reverse_path="list-return-17-x@lists.example")
    grey.clock.ahead += 5 * MINUTE
    assert not await deferred(grey, client="192.0.2.200", reverse_path="list-return-18-x@lists.example")
    assert await deferred(grey, client="192.0.3.7", reverse_path="list-return-19-x@lists.example")
    assert await deferred(grey, BOB, client="192.0.2.7", reverse_path="list-return-17-x@lists.example")


async def test_a_retry_that_comes_too_late_is_a_first_attempt(grey: World) -> None:
    assert await deferred(grey)
    grey.clock.ahead += DAY
    assert await deferred(grey)
    grey.clock.ahead += 5 * MINUTE
    assert not await deferred(grey)


async def test_a_triplet_lives_from_its_last_use_on(grey: World) -> None:
    assert await deferred(grey)
    grey.clock.ahead += 5 * MINUTE
    assert not await deferred(grey)
    for _ in range(3):
        grey.clock.ahead += 34 * DAY
        assert not await deferred(grey)
    grey.clock.ahead += 36 * DAY
    assert await deferred(grey)
    assert await count(grey) == 1


async def test_a_network_that_has_retried_in_several_hours_has_proven_itself(grey: World) -> None:
    for number in range(5):
        sender = f"{'abcde'[number]}@example.org"
        assert await deferred(grey, reverse_path=sender)
        grey.clock.ahead += HOUR
        assert not await deferred(grey, reverse_path=sender)
    outcomes(grey)
    assert not await deferred(grey, BOB, reverse_path="new@other.example", client="192.0.2.99")
    assert outcomes(grey) == ["proven"]
    assert await deferred(grey, BOB, reverse_path="new@other.example", client="192.0.3.99")
    use(grey, proven_after=0)
    assert await deferred(grey, BOB, reverse_path="new@other.example")
    use(grey, proven_after=5)
    grey.clock.ahead += 34 * DAY
    assert not await deferred(grey, BOB, reverse_path="newer@other.example")  # renews it
    grey.clock.ahead += 34 * DAY
    assert not await deferred(grey, BOB, reverse_path="newest@other.example")
    grey.clock.ahead += 36 * DAY
    assert await deferred(grey, BOB, reverse_path="newest@other.example")


async def test_a_burst_proves_nothing(grey: World) -> None:
    senders = [f"{name}@example.org" for name in ("a", "b", "c", "d", "e", "f", "g")]
    for sender in senders:
        assert await deferred(grey, reverse_path=sender)
    grey.clock.ahead += 5 * MINUTE
    for sender in senders:
        assert not await deferred(grey, reverse_path=sender)
    assert await deferred(grey, reverse_path="other@example.org")


async def test_two_gateways_meet_the_same_triplet_at_once(grey: World) -> None:
    other = Greylist(grey.transport.greylist.settings, grey.db)  # of another core
    asked, client = [Triplet("192.0.2.0/24", "dave@example.org", ALICE)], parse_address("192.0.2.7")
    read = grey.core.short_read

    async def both() -> list[str]:
        made = await asyncio.gather(*(one.decide(client, asked, read) for one in (grey.transport.greylist, other) * 4))
        return [decision.outcome.value for (decision,) in made]

    assert set(await both()) <= {"deferred", "early"}
    assert await count(grey) == 1
    grey.clock.ahead += 5 * MINUTE
    assert set(await both()) <= {"retried", "known"}
    found = await grey.run(v1.ListGreylistPassesRequest(), ADMIN)
    assert [(one.subject, one.times, one.passes) for one in found.passes] == [("192.0.2.0/24", 1, False)]


# --- Bounds -------------------------------------------------------------------------------------------------------


def triplets(network: int, number: int) -> tuple[Triplet, ...]:
    return tuple(Triplet(f"192.0.{network}.0/24", f"s{at}@example.org", ALICE) for at in range(number))


async def flood(grey: World, network: int, number: int) -> None:
    for one in triplets(network, number):
        await grey.transport.greylist.decide(parse_address(f"192.0.{network}.1"), [one], grey.core.short_read)


async def test_a_flood_of_one_network_is_bounded_and_deferred(grey: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_WAITING_OF_NETWORK", 5)
    await flood(grey, 2, 12)
    assert await count(grey) == 5
    assert await deferred(grey, client="192.0.2.1")
    assert await deferred(grey, client="192.0.3.1")
    assert await count(grey) == 6  # another network has room


async def test_a_flood_of_many_networks_is_bounded(grey: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_WAITING", 30)
    monkeypatch.setattr("restante_server.transport.greylisting.service.BOUND_EVERY", 10)
    for network in range(20):
        await flood(grey, network, 5)
        assert await count(grey) <= 30 + 10
    await grey.transport.greylist.purge()
    assert await count(grey) == 30


async def test_known_triplets_and_networks_are_bounded(grey: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for network in range(4):
        await flood(grey, network, 2)
    grey.clock.ahead += 5 * MINUTE
    for network in range(4):
        await flood(grey, network, 2)
    await grey.run(v1.AllowGreylistPassRequest(subject=ALICE), ADMIN)
    monkeypatch.setattr(rows, "MAX_KNOWN", 3)
    monkeypatch.setattr(rows, "MAX_NETWORKS", 2)
    await grey.transport.greylist.purge()
    assert await count(grey) == 3
    assert await count(grey, schema.greylist_pass) == 3  # the one that an administrator allowed stays


async def test_what_has_expired_is_removed(grey: World) -> None:
    await deferred(grey)
    grey.clock.ahead += 5 * MINUTE
    await deferred(grey)
    await deferred(grey, BOB)
    grey.clock.ahead += DAY
    await grey.transport.purge()
    assert await count(grey) == 1
    grey.clock.ahead += 35 * DAY
    await grey.transport.purge()
    assert (await count(grey), await count(grey, schema.greylist_pass)) == (0, 0)


# --- Administrators -----------------------------------------------------------------------------------------------


async def listed(world: World, **facts: Any) -> list[tuple[str, str, str, bool]]:
    found, token = [], ""
    while True:
        request = v1.ListGreylistTripletsRequest(page_size=1, page_token=token, **facts)
        answer = await world.run(request, ADMIN)
        found += [(one.network, one.reverse_path, one.recipient, one.known) for one in answer.triplets]
        token = answer.next_page_token
        if not token:
            return found


async def test_administrators_see_triplets(grey: World) -> None:
    await deferred(grey)
    grey.clock.ahead += 5 * MINUTE
    await deferred(grey)
    await deferred(grey, BOB, client="198.51.100.1", reverse_path="")
    dave, null = ("192.0.2.0/24", "dave@example.org", ALICE, True), ("198.51.100.0/24", "", BOB, False)
    assert await listed(grey) == [dave, null]
    assert await listed(grey, network="192.0.2.200") == [dave]
    assert await listed(grey, network="198.51.100.0/24") == [null]
    assert await listed(grey, recipient="BOB@example.test") == [null]
    assert await listed(grey, recipient=ALICE, network="198.51.100.0/24") == []
    for field in ("network", "recipient"):
        with pytest.raises(errors.InvalidArgument) as refused:
            await listed(grey, **{field: "x/y"})
        assert refused.value.metadata["field"] == field


@pytest.mark.parametrize(
    ("subject", "kept"),
    [("192.0.2.7", "192.0.2.7/32"), ("192.0.0.0/16", "192.0.0.0/16"), ("ALICE@example.test", ALICE)],
)
async def test_an_administrator_lets_clients_and_recipients_pass(grey: World, subject: str, kept: str) -> None:
    assert await deferred(grey)
    made = (await grey.run(v1.AllowGreylistPassRequest(subject=subject), ADMIN)).greylist_pass
    assert (made.subject, made.allowed, made.passes, made.HasField("expires_at")) == (kept, True, True, False)
    assert not await deferred(grey)
    assert not await deferred(grey, "alice+detail@example.test")
    assert await deferred(grey, BOB, client="203.0.113.7")
    assert [one.subject for one in (await grey.run(v1.ListGreylistPassesRequest(), ADMIN)).passes] == [kept]
    cleared = await grey.run(v1.ClearGreylistRequest(subject=subject), ADMIN)
    assert cleared.pass_count == 1
    assert await deferred(grey)


async def test_what_is_cleared_is_new_again(grey: World) -> None:
    for _ in range(2):
        await verify(grey, ALICE, BOB)
        grey.clock.ahead += 5 * MINUTE
    cleared = await grey.run(v1.ClearGreylistRequest(subject=BOB), ADMIN)
    assert (cleared.triplet_count, cleared.pass_count) == (1, 0)
    assert said(await verify(grey, ALICE, BOB)) == ["", "GREYLISTED"]
    cleared = await grey.run(v1.ClearGreylistRequest(subject="192.0.2.77"), ADMIN)
    assert (cleared.triplet_count, cleared.pass_count) == (2, 1)
    await deferred(grey)
    await grey.run(v1.AllowGreylistPassRequest(subject="10.0.0.0/8"), ADMIN)
    cleared = await grey.run(v1.ClearGreylistRequest(all=True), ADMIN)
    assert (cleared.triplet_count, cleared.pass_count) == (1, 1)


@pytest.mark.parametrize("subject", ["", "x", "192.0.2.0/33", "192.0.2.1/24", "0.0.0.0/0", "2000::/3", "@", "a@b@c"])
async def test_what_is_no_subject_is_refused(grey: World, subject: str) -> None:
    for request in (v1.AllowGreylistPassRequest(subject=subject), v1.ClearGreylistRequest(subject=subject)):
        with pytest.raises(errors.InvalidArgument) as refused:
            await grey.run(request, ADMIN)
        assert refused.value.metadata["field"] == "subject"
    for nothing in (v1.ClearGreylistRequest(), v1.ClearGreylistRequest(all=False)):
        with pytest.raises(errors.InvalidArgument):
            await grey.run(nothing, ADMIN)


async def test_a_client_without_an_address_is_a_fault_of_the_gateway(grey: World) -> None:
    with pytest.raises(errors.InvalidArgument) as refused:
        await verify(grey, client="unknown")
    assert refused.value.metadata["field"] == "client_address"


async def test_the_log_says_who_was_deferred_and_who_came_again(grey: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "restante_server.api.services.greylisting")
    await deferred(grey)
    grey.clock.ahead += 5 * MINUTE
    await deferred(grey)
    await deferred(grey)
    what = "client 192.0.2.7, from <dave@example.org> to <alice@example.test>"
    assert [record.getMessage() for record in caplog.records] == [
        f"greylisting: deferred: {what}; a retry passes in 300 s",
        f"greylisting: retried: {what}",
    ]


async def test_permissions_are_bounded(grey: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restante_server.transport.greylisting.overview.MAX_ALLOWED", 2)
    for subject in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
        await grey.run(v1.AllowGreylistPassRequest(subject=subject), ADMIN)
    with pytest.raises(errors.LimitExceeded):
        await grey.run(v1.AllowGreylistPassRequest(subject="192.0.2.3"), ADMIN)


def test_the_settings_have_these_defaults() -> None:
    assert GreylistSettings() == GreylistSettings(5 * MINUTE, DAY, 35 * DAY, 5, (), frozenset())
