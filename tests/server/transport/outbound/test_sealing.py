"""Checked mail from elsewhere that an alias sends on is sealed (ARC) by a key of the alias's domain."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from restante.v1.checks_pb2 import MessageChecks
from restante.v1.transport_pb2 import OutboundLease
from restante_mail.authentication.arc.validate import ArcValidator
from restante_mail.authentication.dkim.content import Content
from restante_mail.authentication.results import (
    ArcResult,
    Checks,
    DkimResult,
    DmarcResult,
    Identity,
    Result,
    SpfResult,
)
from restante_server.directory import domain_keys
from restante_server.transport import results
from restante_server.transport.outbound.signatures import SEAL_OCTETS
from tests.server.transport.outbound.test_signatures import Published, add_keys, read
from tests.server.transport.world import MESSAGE, World

CHECKS = Checks(
    spf=(SpfResult(Result.PASS, Identity.MAILFROM, "example.org"),),
    dkim=(DkimResult(Result.PASS, "example.org", "s1", "@example.org", "rsa-sha256", 2_048),),
    dmarc=DmarcResult(Result.PASS, "example.org"),
    arc=ArcResult(Result.NONE),
)


@pytest.fixture
async def sealing(world: World) -> World:
    await add_keys(world)
    await world.add_alias("list@example.test", "eve@example.net")
    return world


async def sent(world: World, checks: Checks | None = CHECKS, content: bytes = MESSAGE) -> OutboundLease:
    given: MessageChecks | None = None if checks is None else results.message_of(checks)
    answer = await world.accept(["list@example.test"], content, checks=given)
    assert answer.accepted
    (lease,) = await world.lease()
    return lease


async def chain(world: World, content: bytes) -> ArcResult:
    found = await world.db.read(domain_keys.listing, "", ("", ""), 100)
    dns = Published({key.record_name: key.record_text.encode() for key in found})
    whole = Content()
    validator = ArcValidator(whole)
    whole.feed(content)
    whole.finish()
    return await validator.result(dns, datetime.now(UTC))


async def test_the_seal_vouches_for_our_results(sealing: World) -> None:
    lease = await sent(sealing)
    content = await sealing.read_outbound(lease)
    assert content.startswith(b"ARC-Seal: i=1; a=rsa-sha256;") and b"cv=none" in content.partition(b"\r\n\r\n")[0]
    assert b"DKIM-Signature" not in content  # of Dave's mail nothing is signed for him or for us
    found = await chain(sealing, content)
    assert (found.result, found.sealers) == (Result.PASS, ("example.test",))
    (written,) = found.authentication_results
    assert written.startswith("mx.example.test; spf=pass")
    for word in ("dkim=pass", "dmarc=pass", "arc=none"):
        assert word in written
    assert lease.size_octets - SEAL_OCTETS < len(content) <= lease.size_octets
    assert sealing.transport.signatures.made == 1
    assert await sealing.problems() == []


async def test_a_second_forwarder_adds_a_second_set(sealing: World) -> None:
    once = await sealing.read_outbound(await sent(sealing))
    passed = Checks(arc=ArcResult(Result.PASS, ("example.test",)))
    twice = await sealing.read_outbound(await sent(sealing, passed, once))
    found = await chain(sealing, twice)
    assert (found.result, found.sealers) == (Result.PASS, ("example.test", "example.test"))


async def test_a_broken_chain_is_sealed_as_broken_and_then_no_more(sealing: World) -> None:
    once = (await sealing.read_outbound(await sent(sealing))).replace(b"At noon?", b"At one?")
    failed = Checks(arc=ArcResult(Result.FAIL, problem="the body has changed"))
    twice = await sealing.read_outbound(await sent(sealing, failed, once))
    assert twice.startswith(b"ARC-Seal: i=2;") and b"cv=fail" in twice.partition(b"\r\n\r\n")[0]
    thrice = await sealing.read_outbound(await sent(sealing, failed, twice))
    assert b"i=3" not in thrice


@pytest.mark.parametrize(
    "checks", [None, Checks(), Checks(arc=ArcResult(Result.TEMPERROR)), Checks(arc=ArcResult(Result.PASS))]
)
async def test_nobody_vouches_for_a_chain_that_is_not_known(sealing: World, checks: Checks | None) -> None:
    """The last one claims that a chain passed, and the message has none."""
    content = await sealing.read_outbound(await sent(sealing, checks))
    assert b"ARC-" not in content
    assert content.startswith(b"Received:")


async def test_without_keys_nothing_is_sealed(world: World) -> None:
    await world.add_alias("list@example.test", "eve@example.net")
    lease = await sent(world)
    content = await world.read_outbound(lease)
    assert content.startswith(b"Received:")
    assert len(content) == lease.size_octets


async def test_the_converted_form_has_a_seal_of_its_own(sealing: World) -> None:
    mime = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    lease = await sent(sealing, CHECKS, mime + MESSAGE.replace(b"noon", b"n\xc3\xb6\xc3\xb6n"))
    for seven_bit in (False, True):
        content = await read(sealing, lease, seven_bit=seven_bit)
        assert content.isascii() is seven_bit
        assert (await chain(sealing, content)).result is Result.PASS


async def test_a_local_delivery_is_not_sealed(sealing: World) -> None:
    await sealing.accept(["alice@example.test"], checks=results.message_of(CHECKS))
    (letter,) = await sealing.letters("alice")
    assert b"ARC-" not in letter.octets
