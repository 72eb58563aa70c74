"""MTA-STS policies that relays store, and counted TLS sessions."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Connection, func, select

from restante import errors
from restante.v1 import tls_pb2 as v1
from restante_server.api.engine.caller import Caller
from restante_server.db import schema
from restante_server.db.operation import Write
from restante_server.transport.schedule import DAY
from restante_server.transport.tls import policies, sessions
from restante_server.transport.tls.policies import StoredPolicy
from restante_server.transport.tls.sessions import Kind
from tests.server.transport.world import World

POLICY = b"version: STSv1\nmode: enforce\nmx: mx.example.net\nmax_age: 86400\n"
ADMIN = Caller(identity="admin")
BROKEN = v1.TLS_RESULT_TYPE_VALIDATION_FAILURE


def policy(domain: str = "example.net", record_id: str = "1", text: bytes = POLICY) -> v1.StoreStsPolicyRequest:
    return v1.StoreStsPolicyRequest(policy=v1.StsPolicy(domain=domain, record_id=record_id, policy=text))


async def stored(world: World, domain: str = "example.net") -> v1.StsPolicy | None:
    answer = await world.run(v1.GetStsPolicyRequest(domain=domain), world.gateway("relay"))
    return answer.policy if answer.HasField("policy") else None


async def test_a_policy_is_kept_until_its_max_age(world: World) -> None:  # RFC 8461 3.3
    assert await stored(world) is None
    await world.run(policy(), world.gateway("relay"))
    found = await stored(world, "EXAMPLE.net")
    assert found is not None and (found.record_id, found.policy) == ("1", POLICY)
    assert found.expires_at.ToMicroseconds() - found.fetched_at.ToMicroseconds() == DAY
    await world.run(policy(record_id="2", text=POLICY.replace(b"86400", b"90000")), world.gateway("relay"))
    world.clock.ahead += DAY
    found = await stored(world)
    assert found is not None and found.record_id == "2"
    world.clock.ahead += DAY
    assert await stored(world) is None


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (policy(domain=""), "policy.domain"),
        (policy(record_id=""), "policy.record_id"),
        (policy(record_id="a b"), "policy.record_id"),
        (policy(text=b"version: STSv2"), "policy.policy"),
        (policy(text=POLICY + b"#" * 70_000), "policy.policy"),
    ],
)
async def test_what_is_no_policy_is_not_stored(world: World, request_: v1.StoreStsPolicyRequest, field: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await world.run(request_, world.gateway("relay"))
    assert caught.value.metadata["field"] == field


async def test_expired_and_surplus_policies_are_removed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "MAX_POLICIES", 3)
    for number, expires_at in enumerate([10, 10, 1 << 60, 1 << 60, 1 << 60, 1 << 60, 1 << 60]):
        row = StoredPolicy(f"{number}.example", "1", POLICY, number, expires_at)
        await world.db.write(Write(lambda tx, row=row: policies.store(tx, row)))  # type: ignore[misc]
    await world.transport.purge()
    left = await world.db.read(lambda tx: sorted(tx.scalars(select(schema.sts_policy.c.domain))))
    assert left == ["4.example", "5.example", "6.example"]


def report(world: World, *given: v1.TlsSessions, ahead: int = 0, **more: Any) -> v1.ReportTlsSessionsRequest:
    now = Timestamp()
    now.FromMicroseconds(world.call(ADMIN).now + ahead)
    values = {"request_id": secrets.token_bytes(16), "counted_at": now, "sessions": given, **more}
    return v1.ReportTlsSessionsRequest(**values)


def counts(successes: int = 1, *failures: v1.TlsFailure, domain: str = "example.net", **more: Any) -> v1.TlsSessions:
    values = {"kind": v1.TLS_POLICY_KIND_STS, "policy_lines": ["mode: enforce"], "mx_patterns": ["mx.example.net"]}
    return v1.TlsSessions(policy_domain=domain, successful_count=successes, failures=failures, **{**values, **more})


EXPIRED = v1.TlsFailure(
    result=v1.TLS_RESULT_TYPE_CERTIFICATE_EXPIRED,
    sending_address="192.0.2.1",
    receiving_host="mx.example.net",
    receiving_address="2001:db8::1",
    reason="certificate\nhas expired",
    session_count=2,
)


async def listed(world: World, **asked: Any) -> list[tuple[str, int, int]]:
    """(policy domain, result, count) of all pages."""
    found, token = [], ""
    while True:
        request = v1.ListTlsSessionsRequest(page_size=1, page_token=token, **asked)
        answer = await world.run(request, ADMIN)
        found += [(one.policy_domain, int(one.failure.result), one.failure.session_count) for one in answer.counts]
        token = answer.next_page_token
        if not token:
            return found


async def test_sessions_are_added_up_by_day(world: World) -> None:
    relay = world.gateway("relay")
    once = report(world, counts(5, EXPIRED), counts(1, domain="Example.ORG", kind=v1.TLS_POLICY_KIND_NONE))
    for request in (once, once, report(world, counts(1, EXPIRED)), report(world, counts(7), ahead=-DAY)):
        await world.run(request, relay)
    found = await listed(world)
    assert sorted(found[:3]) == [("example.net", 0, 6), ("example.net", 3, 4), ("example.org", 0, 1)]
    assert found[3:] == [("example.net", 0, 7)]  # yesterday
    assert await listed(world, policy_domain="EXAMPLE.org") == [("example.org", 0, 1)]
    assert await listed(world, failures_only=True) == [("example.net", 3, 4)]
    answer = await world.run(v1.ListTlsSessionsRequest(failures_only=True), ADMIN)
    (one,) = answer.counts
    expected = v1.TlsFailure()
    expected.CopyFrom(EXPIRED)
    expected.reason, expected.session_count = "certificate has expired", 4
    assert one.failure == expected and one.policy_lines == ["mode: enforce"]
    assert one.day.ToMicroseconds() % DAY == 0 and not one.HasField("reported_at")


async def test_a_report_has_an_id_of_its_own(world: World) -> None:
    with pytest.raises(errors.RequestIdRequired):
        await world.run(report(world, counts(), request_id=b""), world.gateway("relay"))
    used = secrets.token_bytes(16)
    await world.run(report(world, counts(), request_id=used), world.gateway("relay"))
    with pytest.raises(errors.RequestIdReused):
        await world.run(report(world, counts(2), request_id=used), world.gateway("relay"))
    assert await listed(world) == [("example.net", 0, 1)]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ([counts(domain="")], "sessions.policy_domain"),
        ([counts(kind=0)], "sessions.kind"),
        ([counts(kind=9)], "sessions.kind"),
        ([counts(-1)], "sessions.successful_count"),
        ([counts(policy_lines=["x" * 1_001])], "sessions.policy_lines"),
        ([counts(mx_patterns=["x"] * 1_001)], "sessions.mx_patterns"),
        ([counts(report_record="x" * 4_097)], "sessions.report_record"),
        ([counts(1, *[EXPIRED] * 101)], "sessions.failures"),
        ([counts(1, v1.TlsFailure(session_count=1))], "sessions.failures.result"),
        ([counts(1, v1.TlsFailure(result=BROKEN))], "sessions.failures.session_count"),
        (
            [counts(1, v1.TlsFailure(result=BROKEN, session_count=1, sending_address="me"))],
            "sessions.failures.sending_address",
        ),
        ([counts()] * 201, "sessions"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_bad_count_is_refused(world: World, given: list[v1.TlsSessions], field: str) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await world.run(report(world, *given), world.gateway("relay"))
    assert field in {violation.field for violation in caught.value.violations}
    assert await listed(world) == []


@pytest.mark.parametrize("ahead", [-3 * DAY, 3 * DAY])
async def test_counts_of_other_days_are_refused(world: World, ahead: int) -> None:
    with pytest.raises(errors.InvalidArgument):
        await world.run(report(world, counts(), ahead=ahead), world.gateway("relay"))


async def test_a_day_has_a_bounded_number_of_counts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_DAY_KINDS", 2)
    relay = world.gateway("relay")
    await world.run(report(world, counts(1, domain="a.example"), counts(1, domain="b.example")), relay)
    await world.run(report(world, counts(1, domain="a.example"), counts(1, domain="c.example")), relay)
    assert sorted(await listed(world)) == [("a.example", 0, 2), ("b.example", 0, 1)]


async def test_old_counts_are_removed(world: World) -> None:
    def add(tx: Connection, day: int) -> None:
        sessions.add(tx, day, [(Kind("example.net", 1, (), ()), 1)], [("example.net", "v=TLSRPTv1;")])

    today = world.call(ADMIN).now // DAY
    for day in (0, 5, today):
        await world.db.write(Write(lambda tx, day=day: add(tx, day)))  # type: ignore[misc]
    await world.transport.purge()
    for table in (schema.tls_session, schema.tls_report):
        assert await world.db.read(lambda tx, table=table: tx.scalar(select(func.count()).select_from(table))) == 1  # type: ignore[misc]
