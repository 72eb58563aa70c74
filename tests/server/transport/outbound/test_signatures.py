"""Outbound mail of our own authors is signed once for each form, by the keys that are active when it is read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from sqlalchemy import delete, update

from restante.errors import LeaseLost
from restante.v1.admin_pb2 import ResendingPolicy
from restante.v1.transport_pb2 import OutboundLease, OutcomeKind, ReadOutboundRequest
from restante_mail.authentication.dkim.sign import Signer
from restante_mail.authentication.dkim.verify import Verifier
from restante_mail.authentication.results import DkimResult, Result
from restante_server.api.services import leased, outbound
from restante_server.db import schema
from restante_server.db.operation import Write
from restante_server.directory import domain_keys, domains, keys, signing_keys
from restante_server.directory.domain_keys import NewKey
from restante_server.directory.domains import Resending
from restante_server.directory.keys import KeyRing, NotSealed
from restante_server.directory.signing_keys import Algorithm
from restante_server.transport.outbound import signatures
from restante_server.transport.outbound.signatures import SIGNATURE_OCTETS, Form, Signatures
from restante_server.transport.states import State
from tests.server.transport.world import FOREVER, START, World

NO_KEYS = partial(Signer, ())
PAIRS = [signing_keys.generate(algorithm) for algorithm in Algorithm]
LETTER = (
    b"From: Alice <alice@example.test>\r\nTo: eve@example.net\r\nSubject: Hello\r\n"
    b"List-Unsubscribe: <mailto:x@example.test>\r\n\r\nHi\r\n"
)
EIGHT_BITS = (
    b"From: alice@example.test\r\nSubject: Gr\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
)


class Published:
    """The DNS with the records of all keys of the store."""

    def __init__(self, records: dict[str, bytes]) -> None:
        self._records = records

    async def txt(self, name: str) -> Sequence[bytes]:
        found = self._records.get(name.rstrip("."))
        return [found] if found is not None else []

    async def addresses(self, name: str, version: int) -> Sequence[Any]:
        return []

    async def mail_servers(self, name: str) -> Sequence[str]:
        return []

    async def names(self, address: object) -> Sequence[str]:
        return []

    async def exists(self, name: str) -> bool:
        return name.rstrip(".") in self._records


async def add_keys(world: World, domain: str = "example.test", *, number: str = "") -> None:
    """Keys of both algorithms, active if they are the domain's first."""

    def write(tx: Any) -> None:
        new = [NewKey(pair, f"{pair.algorithm.name.lower().replace('_', '-')}{number}") for pair in PAIRS]
        domain_keys.create(tx, KeyRing(keys.load(tx)), START, domain, new)

    await world.db.write(Write(write))


async def change(world: World, function: Any, *arguments: Any) -> Any:
    return await world.db.write(Write(lambda tx: function(tx, *arguments)))


@pytest.fixture
async def signing(world: World) -> World:
    await add_keys(world)
    return world


async def verified(world: World, content: bytes) -> tuple[DkimResult, ...]:
    found = await world.db.read(domain_keys.listing, "", ("", ""), 100)
    dns = Published({key.record_name: key.record_text.encode() for key in found})
    verifier = Verifier()
    verifier.feed(content)
    verifier.finish()
    return await verifier.results(dns, datetime.now(UTC))


async def submit(world: World, content: bytes = LETTER, *recipients: str) -> None:
    await world.submit("alice", content, recipients=recipients or ("eve@example.net",))


async def read(world: World, lease: OutboundLease, *, seven_bit: bool) -> bytes:
    request = ReadOutboundRequest(lease_id=lease.lease_id, seven_bit=seven_bit)
    stream = outbound.read_outbound(world.call(world.gateway("relay"), FOREVER), request)
    return b"".join([response.octets async for response in stream])


async def test_mail_waits_while_its_key_cannot_be_opened(signing: World) -> None:
    await submit(signing)
    (lease,) = await signing.lease()

    def lose(tx: Any) -> None:
        tx.execute(delete(schema.sealing_key))
        keys.create(tx, START)

    await signing.db.write(Write(lose))
    with pytest.raises(NotSealed, match=r"_domainkey\.example\.test"):  # the log has it with the incident of the answer
        await signing.read_outbound(lease)
    await signing.pass_time(10 * 60 * 1_000_000)
    assert [state for _, state, _ in await signing.states(lease.transport_id)] == [State.PENDING]
    await signing.db.write(Write(lambda tx: tx.execute(delete(schema.domain_key))))
    await add_keys(signing, number="2")
    (again,) = await signing.lease()
    assert len(await verified(signing, await signing.read_outbound(again))) == 2


async def test_a_submission_is_signed_by_both_keys_of_its_authors_domain(signing: World) -> None:
    await submit(signing)
    (lease,) = await signing.lease()
    content = await signing.read_outbound(lease)
    results = await verified(signing, content)
    assert [(one.result, one.domain, one.algorithm) for one in results] == [
        (Result.PASS, "example.test", "rsa-sha256"),
        (Result.PASS, "example.test", "ed25519-sha256"),
    ]
    assert content.startswith(b"DKIM-Signature:")
    assert b"List-Unsubscribe" in content.partition(b"bh=")[0]
    assert content.index(b"DKIM-Signature:") < content.index(b"Received:")
    assert lease.size_octets - SIGNATURE_OCTETS < len(content) <= lease.size_octets
    assert await signing.problems() == []


async def test_a_changed_message_does_not_verify(signing: World) -> None:
    await submit(signing)
    (lease,) = await signing.lease()
    content = await signing.read_outbound(lease)
    for changed in (content.replace(b"Hi\r\n", b"Ho\r\n"), content.replace(b"Subject: Hello", b"Subject: Help")):
        assert {one.result for one in await verified(signing, changed)} == {Result.FAIL}


async def test_a_domain_without_keys_is_sent_unsigned(world: World) -> None:
    await submit(world)
    (lease,) = await world.lease()
    content = await world.read_outbound(lease)
    assert content.startswith(b"Received:")
    assert len(content) == lease.size_octets


async def test_a_hundred_destinations_are_signed_once(signing: World) -> None:
    await submit(signing, LETTER, *(f"eve@d{number}.example.net" for number in range(100)))
    leases: list[OutboundLease] = []
    while more := await signing.lease():
        leases += more
    contents = await asyncio.gather(*map(signing.read_outbound, leases))
    assert (len(contents), len(set(contents)), signing.transport.signatures.made) == (100, 1, 1)


async def test_the_seven_bit_form_has_signatures_of_its_own(signing: World) -> None:
    await submit(signing, EIGHT_BITS)
    (lease,) = await signing.lease()
    as_stored, converted = [await read(signing, lease, seven_bit=seven_bit) for seven_bit in (False, True)]
    assert converted.isascii() and not as_stored.isascii()
    for content in (as_stored, converted):
        assert [one.result for one in await verified(signing, content)] == [Result.PASS] * 2
    assert signing.transport.signatures.made == 2


async def test_a_large_message_is_signed_while_it_streams(signing: World, monkeypatch: pytest.MonkeyPatch) -> None:
    content = LETTER + b"".join(b"line %d of a long message\r\n" % number for number in range(4_000))
    await submit(signing, content)
    (lease,) = await signing.lease()
    monkeypatch.setattr(leased, "PIECE_OCTETS", 10_000)
    for seven_bit in (False, True):
        assert [one.result for one in await verified(signing, await read(signing, lease, seven_bit=seven_bit))] == [
            Result.PASS
        ] * 2


async def test_waiting_mail_gets_the_keys_that_are_active_when_it_is_read(signing: World) -> None:
    await submit(signing)
    (lease,) = await signing.lease()
    before = await signing.read_outbound(lease)
    await add_keys(signing, number="-2")
    assert await signing.read_outbound(lease) == before
    await change(signing, domain_keys.activate, START, "example.test", [])
    after = await verified(signing, await signing.read_outbound(lease))
    assert [(one.result, one.selector) for one in after] == [(Result.PASS, "rsa-2048-2"), (Result.PASS, "ed25519-2")]
    await change(signing, domain_keys.revoke, START, "example.test", "rsa-2048-2")
    only = await verified(signing, await signing.read_outbound(lease))
    assert [one.selector for one in only] == ["ed25519-2"]


async def test_a_report_that_leaves_is_signed(signing: World) -> None:
    await signing.add_alias("list@example.test", "eve@example.net")
    await signing.accept(["list@example.test"])
    (lease,) = await signing.lease()
    assert not (await signing.read_outbound(lease)).startswith(b"DKIM-Signature")  # Dave's mail, from elsewhere
    await signing.report_all(lease, OutcomeKind.OUTCOME_KIND_FAILED, "5.1.1")
    (report,) = await signing.lease()
    content = await signing.read_outbound(report)
    assert b"From: Mail Delivery System <" in content and b"@mx.example.test>" in content
    assert [(one.result, one.domain) for one in await verified(signing, content)] == [(Result.PASS, "example.test")] * 2


async def test_mail_from_elsewhere_is_never_signed_even_if_it_claims_our_domain(signing: World) -> None:
    await signing.add_alias("list@example.test", "eve@example.net")
    for reverse_path in ("", "alice@example.test", "dave@example.org"):
        await signing.accept(["list@example.test"], LETTER, reverse_path=reverse_path)
    leases = await signing.lease()
    assert len(leases) == 3
    for lease in leases:
        assert b"DKIM-Signature" not in await signing.read_outbound(lease)


async def test_resent_mail_is_not_signed_for_its_author(signing: World) -> None:
    await change(signing, domains.set_resending, "example.test", Resending(ResendingPolicy.RESENDING_POLICY_ANYWHERE))
    resent = b"Resent-From: alice@example.test\r\nResent-To: eve@example.net\r\n"
    for author in (b"bob@example.test", b"dave@example.org"):
        await submit(signing, resent + b"From: " + author + b"\r\nSubject: x\r\n\r\nx\r\n")
    for lease in await signing.lease():
        assert b"DKIM-Signature" not in await signing.read_outbound(lease)


async def test_a_reader_that_fails_leaves_the_work_to_the_next() -> None:
    made = Signatures()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def lost() -> AsyncIterator[bytes]:
        begun.set()
        await go_on.wait()
        yield LETTER
        raise LeaseLost

    async def whole() -> AsyncIterator[bytes]:
        yield LETTER

    form = Form(1, False, (1,))
    first = asyncio.create_task(made.of(form, NO_KEYS, lost))
    await begun.wait()
    second = asyncio.create_task(made.of(form, NO_KEYS, whole))
    cancelled = asyncio.create_task(made.of(form, NO_KEYS, whole))
    await asyncio.sleep(0)
    cancelled.cancel()
    go_on.set()
    with pytest.raises(LeaseLost):
        await first
    assert await second == b""  # no keys, no fields
    assert made.made == 1


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "KEPT", 3)
    made = Signatures()

    async def whole() -> AsyncIterator[bytes]:
        yield LETTER

    for number in range(5):
        await made.of(Form(number, False, ()), NO_KEYS, whole)
    assert [number for number in range(5) if made.known(Form(number, False, ())) is not None] == [2, 3, 4]


async def test_a_header_that_is_too_long_is_sent_unsigned(signing: World) -> None:
    made = Signatures()

    async def endless() -> AsyncIterator[bytes]:
        for number in range(40):
            yield b"X-%d: " % number + b"x" * 50_000 + b"\r\n"

    assert await made.of(Form(1, False, ()), NO_KEYS, endless) == b""


async def test_a_message_of_before_has_no_signing_domain(signing: World) -> None:
    """The column is what decides, not the header."""
    await submit(signing)
    await change(signing, lambda tx: tx.execute(update(schema.transport_message).values(signing_domain="")))
    (lease,) = await signing.lease()
    assert (await signing.read_outbound(lease)).startswith(b"Received:")
