"""The queue in memory of the relay's tests, and the real core: the same calls get the same answers and errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from restante import errors
from restante.v1 import methods
from restante.v1.session_pb2 import GetServerRequest
from restante.v1.tls_pb2 import (
    GetStsPolicyRequest,
    ReportTlsSessionsRequest,
    StoreStsPolicyRequest,
    StsPolicy,
    TlsPolicyKind,
)
from restante.v1.tls_reports_pb2 import LeaseTlsReportsRequest
from restante.v1.transport_pb2 import (
    LeaseOutboundRequest,
    OutboundLease,
    OutcomeKind,
    ReadOutboundRequest,
    RecipientOutcome,
    RenewLeaseRequest,
    ReportOutcomeRequest,
)
from tests.harness.local_core import LocalCore, open_local_core, prepare_store
from tests.harness.outbound_queue import OutboundQueue

CONTENT = (
    b"From: alice@example.test\r\nDate: Mon, 1 Jan 2029 10:00:00 +0000\r\nMessage-ID: <1@example.test>\r\n"
    b"Subject: hello\r\n\r\n" + b"hello\r\n" * 100_000
)
EIGHT = CONTENT.replace(b"hello\r\n" * 100_000, "Grüße =\r\n".encode() * 100_000)
SIGNED = CONTENT.replace(
    b"\r\n\r\n" + b"hello\r\n" * 100_000,
    b"\r\nContent-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\xff\r\n--b\r\n\r\nsig\r\n--b--\r\n",
)
UNKNOWN = 1 << 40


class Relay:
    """A relay's calls, and a user whose mail it sends."""

    def __init__(self, link: Any, local: LocalCore | None) -> None:
        self.link, self._local = link, local

    async def put(self, *paths: str, content: bytes = CONTENT) -> None:
        """Make a message due."""
        if self._local is None:
            self.link.put(*paths, content=content)
            return
        user = await self._local.user("alice")
        await user.submissions.submit(content, recipients=list(paths))

    def leases(self, most: int = 10) -> AsyncIterator[Any]:
        return self.link.lease_outbound(LeaseOutboundRequest(max_leases=most, lease_seconds=30))  # type: ignore[no-any-return]

    async def lease(self, *paths: str, content: bytes = CONTENT) -> OutboundLease:
        """Put a message and lease it."""
        await self.put(*paths, content=content)
        async with asyncio.timeout(10):
            response = await anext(self.leases())
        (lease,) = response.leases
        return lease  # type: ignore[no-any-return]

    async def read(self, lease_id: int) -> list[bytes]:
        return [each.octets async for each in self.link.read_outbound(ReadOutboundRequest(lease_id=lease_id))]

    async def renew(self, *lease_ids: int) -> list[int]:
        request = RenewLeaseRequest(lease_ids=lease_ids, lease_seconds=30)
        return list((await self.link.execute(methods.RENEW_LEASE, request)).lost_lease_ids)

    async def report(self, lease_id: int, outcomes: list[RecipientOutcome]) -> None:
        await self.link.execute(methods.REPORT_OUTCOME, ReportOutcomeRequest(lease_id=lease_id, outcomes=outcomes))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("queue") / "data"
    prepare_store(directory)
    return directory


@pytest.fixture(params=["in memory", "real"])
async def relay(request: pytest.FixtureRequest, template: Path, tmp_path: Path) -> AsyncIterator[Relay]:
    if request.param == "in memory":
        yield Relay(OutboundQueue(), None)
        return
    async with open_local_core(template, tmp_path / "data") as local:
        yield Relay(await local.link("relay"), local)


def outcome(recipient_id: int) -> RecipientOutcome:
    kind = OutcomeKind.OUTCOME_KIND_RELAYED
    return RecipientOutcome(recipient_id=recipient_id, kind=kind, status="2.0.0", remote_host="mx.example.net")


async def test_a_lease_describes_its_message(relay: Relay) -> None:
    lease = await relay.lease("bob@example.net", "carol@example.net")
    assert (lease.destination, lease.reverse_path) == ("example.net", "alice@example.test")
    assert [each.recipient.forward_path for each in lease.recipients] == ["bob@example.net", "carol@example.net"]
    assert len({each.recipient_id for each in lease.recipients}) == 2
    assert lease.lease_id and lease.transport_id
    octets = await relay.read(lease.lease_id)
    assert b"".join(octets).endswith(CONTENT.partition(b"\r\n\r\n")[2])
    assert sum(map(len, octets)) == lease.size_octets
    assert len(octets) > 1 and max(map(len, octets)) <= 256 << 10


async def test_a_message_is_read_in_seven_bits(relay: Relay) -> None:  # RFC 6152 3
    lease = await relay.lease("bob@example.net", content=EIGHT)
    request = ReadOutboundRequest(lease_id=lease.lease_id, seven_bit=True)
    answers = [each async for each in relay.link.read_outbound(request)]
    octets = b"".join(each.octets for each in answers)
    assert max(len(each.octets) for each in answers) <= 256 << 10
    header, _, body = octets.partition(b"\r\n\r\n")
    assert b"\r\nContent-Transfer-Encoding: quoted-printable" in header and b"\r\nMIME-Version: 1.0\r\n" in header
    assert body == b"Gr=C3=BC=C3=9Fe =3D\r\n" * 100_000
    assert not any(each.not_converted for each in answers)
    assert b"".join(await relay.read(lease.lease_id)).endswith(EIGHT.partition(b"\r\n\r\n")[2])


async def test_a_message_without_conversion_comes_with_the_reason(relay: Relay) -> None:
    lease = await relay.lease("bob@example.net", content=SIGNED)
    request = ReadOutboundRequest(lease_id=lease.lease_id, seven_bit=True)
    answers = [each async for each in relay.link.read_outbound(request)]
    assert "multipart/signed" in answers[0].not_converted and not any(each.not_converted for each in answers[1:])
    assert b"".join(each.octets for each in answers).endswith(SIGNED.partition(b"\r\n\r\n")[2])


async def test_a_held_lease_is_renewed_and_an_unknown_one_is_lost(relay: Relay) -> None:
    lease = await relay.lease("bob@example.net")
    assert await relay.renew(lease.lease_id, UNKNOWN) == [UNKNOWN]


async def test_a_report_ends_its_lease(relay: Relay) -> None:
    lease = await relay.lease("bob@example.net")
    outcomes = [outcome(each.recipient_id) for each in lease.recipients]
    await relay.report(lease.lease_id, outcomes)
    assert await relay.renew(lease.lease_id) == [lease.lease_id]
    await relay.report(lease.lease_id, outcomes)  # a repeat is harmless
    with pytest.raises(errors.LeaseLost) as lost:
        await relay.read(lease.lease_id)
    assert lost.value.metadata == errors.LeaseLost().metadata


async def test_a_report_without_outcomes_returns_the_lease(relay: Relay) -> None:
    lease = await relay.lease("bob@example.net")
    await relay.report(lease.lease_id, [])
    assert await relay.renew(lease.lease_id) == [lease.lease_id]


async def test_an_unknown_lease_can_be_neither_read_nor_reported(relay: Relay) -> None:
    for call in (relay.read, lambda lease_id: relay.report(lease_id, [])):
        with pytest.raises(errors.LeaseLost) as lost:
            await call(UNKNOWN)
        assert lost.value.metadata == errors.LeaseLost().metadata


async def test_no_more_leases_come_than_the_relay_wants(relay: Relay) -> None:
    leases = relay.leases(most=1)
    await relay.put("bob@example.net")
    await relay.put("carol@example.net")
    async with asyncio.timeout(10):
        (first,) = (await anext(leases)).leases
        second = asyncio.ensure_future(anext(leases))
        assert not (await asyncio.wait([second], timeout=0.3))[0]
        await relay.report(first.lease_id, [outcome(each.recipient_id) for each in first.recipients])
        (other,) = (await second).leases
    assert other.lease_id != first.lease_id


async def test_a_policy_is_stored_and_sessions_are_reported(relay: Relay) -> None:
    asked = GetStsPolicyRequest(domain="example.net")
    assert not (await relay.link.execute(methods.GET_STS_POLICY, asked)).HasField("policy")
    policy = StsPolicy(domain="example.net", record_id="1", policy=b"version: STSv1\nmode: none\nmax_age: 1000\n")
    await relay.link.execute(methods.STORE_STS_POLICY, StoreStsPolicyRequest(policy=policy))
    found = (await relay.link.execute(methods.GET_STS_POLICY, asked)).policy
    assert (found.domain, found.record_id, found.policy) == (policy.domain, policy.record_id, policy.policy)
    assert found.expires_at.seconds - found.fetched_at.seconds == 1_000
    report = ReportTlsSessionsRequest(request_id=b"1" * 16, counted_at=found.fetched_at)
    report.sessions.add(policy_domain="example.net", kind=TlsPolicyKind.TLS_POLICY_KIND_NONE, successful_count=1)
    for _ in range(2):  # a repeat is harmless
        await relay.link.execute(methods.REPORT_TLS_SESSIONS, report)


async def test_no_tls_report_is_due(relay: Relay) -> None:
    assert not (await relay.link.execute(methods.LEASE_TLS_REPORTS, LeaseTlsReportsRequest(max_leases=1))).leases


async def test_the_queue_in_memory_serves_nothing_else() -> None:
    with pytest.raises(errors.UnknownReason) as refusal:
        await OutboundQueue().execute(methods.GET_SERVER, GetServerRequest())
    assert refusal.value.status_code is grpc.StatusCode.UNIMPLEMENTED
