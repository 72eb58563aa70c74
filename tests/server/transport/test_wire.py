"""The transport's streams over gRPC, by the gateways' library."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from restante import errors
from restante.link import CoreLink
from restante.target import ProcessIdentity, Target
from restante.v1 import methods
from restante.v1.submission_pb2 import EnvelopeRecipient
from restante.v1.transport_pb2 import (
    AcceptBegin,
    LeaseOutboundRequest,
    OutcomeKind,
    ReadOutboundRequest,
    RecipientOutcome,
    ReportOutcomeRequest,
    VerifyRecipientsRequest,
)
from restante_server.api.engine.dispatch import Dispatcher
from restante_server.api.engine.identity import Authenticator
from restante_server.api.engine.observe import CallObserver
from restante_server.api.engine.rpc import Listener
from restante_server.api.engine.server import ApiServer
from tests.server.api.people import RPCS
from tests.server.transport.world import MESSAGE, TRACE, World, reason

SECRETS = {"smtp": "5e", "relay": "4e"}


@pytest.fixture
def dialect() -> str:
    """One database is enough: these tests are about the wire."""
    return "sqlite"


class Wire:
    """A served core and the links of its gateways."""

    def __init__(self, world: World, server: ApiServer, target: str) -> None:
        self.world, self.server, self._target = world, server, target
        self.links: list[CoreLink] = []

    async def link(self, identity: str) -> CoreLink:
        made = await CoreLink.connect(Target(self._target, ProcessIdentity(identity, SECRETS[identity])))
        self.links.append(made)
        return made


@pytest.fixture
async def wire(world: World, tmp_path: Path) -> AsyncIterator[Wire]:
    sessions: Any = None  # no test logs on
    world.core.authenticator = Authenticator(SECRETS, sessions)
    observer = CallObserver(CollectorRegistry(), quiet=True)
    server = ApiServer(world.core, RPCS, Dispatcher(world.core, observer), observer)
    address = f"unix:{tmp_path / 'core.sock'}"
    await server.start([Listener(address)])
    made = Wire(world, server, address)
    yield made
    for link in made.links:
        await link.close()
    await server.stop(1)


def begin(*paths: str) -> AcceptBegin:
    return AcceptBegin(
        request_id=secrets.token_bytes(16),
        reverse_path="dave@example.org",
        recipients=[EnvelopeRecipient(forward_path=path) for path in paths],
        trace_field=TRACE,
    )


async def test_mail_is_verified_and_accepted_side_by_side_on_one_stream(wire: Wire) -> None:
    link = await wire.link("smtp")
    request = VerifyRecipientsRequest(forward_paths=["alice@example.test", "eve@example.net"])
    verdicts = await link.execute(methods.VERIFY_RECIPIENTS, request)
    assert [reason(verdict) for verdict in verdicts.verdicts] == ["", "RELAY_DENIED"]
    large = MESSAGE + b"0123456789abcdef\r\n" * 200_000  # needs grants
    slow = link.accept.start(begin("bob@example.test"))
    await slow.feed(large[: 1 << 19])

    async def quick() -> int:
        acceptance = link.accept.start(begin("alice@example.test"))
        await acceptance.feed(MESSAGE)
        return (await acceptance.commit()).transport_id

    numbers = await asyncio.gather(*(quick() for _ in range(20)))
    assert len(set(numbers)) == 20
    await slow.feed(large[1 << 19 :])
    assert (await slow.commit()).transport_id > max(numbers)
    assert (await wire.world.letters("bob"))[0].content == large
    refused = link.accept.start(begin("nobody@example.test"))
    with pytest.raises(errors.RecipientNotFound):
        await refused.commit()


async def accepted_at_last(link: CoreLink) -> None:
    """Accept a message. When the refusal of the stream meets a write on its way, gRPC drops the reason: ask again."""
    for _ in range(20):
        try:
            await link.accept.start(begin("alice@example.test")).commit()
            return
        except errors.Draining:
            await asyncio.sleep(0.05)
    raise AssertionError("every refusal met a write")


async def test_an_identity_has_only_its_own_powers(wire: Wire) -> None:
    relay, smtp = await wire.link("relay"), await wire.link("smtp")
    with pytest.raises(errors.PermissionDenied):
        await accepted_at_last(relay)
    with pytest.raises(errors.PermissionDenied):
        await relay.execute(methods.VERIFY_RECIPIENTS, VerifyRecipientsRequest())
    with pytest.raises(errors.PermissionDenied):
        await anext(aiter(smtp.lease_outbound(LeaseOutboundRequest(max_leases=1))))


async def test_outbound_mail_is_leased_read_and_reported(wire: Wire) -> None:
    relay = await wire.link("relay")
    stream = relay.lease_outbound(LeaseOutboundRequest(max_leases=5))
    first = asyncio.ensure_future(anext(aiter(stream)))
    await asyncio.sleep(0.1)
    body = b"0123456789\r\n" * 60_000
    upload = await wire.world.upload("alice", b"From: alice@example.test\r\n\r\n" + body)
    await wire.world.submit("alice", upload_id=upload, recipients=["eve@example.net"])
    async with asyncio.timeout(5):
        (lease,) = (await first).leases
    octets = [piece.octets async for piece in relay.read_outbound(ReadOutboundRequest(lease_id=lease.lease_id))]
    assert max(map(len, octets)) <= 256 << 10
    assert sum(map(len, octets)) == lease.size_octets
    assert b"".join(octets).endswith(b"From: alice@example.test\r\n\r\n" + body)
    outcome = RecipientOutcome(recipient_id=1, kind=OutcomeKind.OUTCOME_KIND_RELAYED, status="2.0.0")
    report = ReportOutcomeRequest(lease_id=lease.lease_id, outcomes=[outcome])
    await relay.execute(methods.REPORT_OUTCOME, report)
    await relay.execute(methods.REPORT_OUTCOME, report)
    with pytest.raises(errors.LeaseLost):
        await relay.execute(methods.REPORT_OUTCOME, ReportOutcomeRequest(lease_id=1))


async def test_a_stream_that_breaks_keeps_what_was_committed_and_forgets_the_rest(wire: Wire) -> None:
    link = await wire.link("smtp")
    done, half = link.accept.start(begin("alice@example.test")), link.accept.start(begin("bob@example.test"))
    await done.feed(MESSAGE)
    await half.feed(MESSAGE)
    await done.commit()
    await link.close()
    await wire.world.core.tasks.drain(5)
    assert len(await wire.world.letters("alice")) == 1
    assert await wire.world.letters("bob") == []


async def test_a_draining_core_finishes_what_has_begun(wire: Wire) -> None:
    link = await wire.link("smtp")
    acceptance = link.accept.start(begin("alice@example.test"))
    await acceptance.feed(MESSAGE)
    await asyncio.sleep(0.1)
    wire.world.core.tasks.announce_drain()
    await asyncio.sleep(0.1)
    assert (await acceptance.commit()).transport_id > 0
    assert len(await wire.world.letters("alice")) == 1
