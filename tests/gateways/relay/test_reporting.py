"""The requests that report counted TLS sessions."""

from __future__ import annotations

from collections import Counter

from restante_gateways.relay.tls.reporting import FAILURES_OF_SESSIONS, OCTETS_OF_REQUEST, requests
from restante_gateways.relay.tls.sessions import MAX_KINDS, Session, Sessions
from restante_mail.authentication.dane import TlsaRecord
from restante_mail.authentication.tls_result import PolicyKind, TlsPolicy, TlsResult

NOW = 1_800_000_000.0


def failure(number: int, policy: TlsPolicy) -> Session:
    return Session(policy, TlsResult.VALIDATION_FAILURE, reason=f"{number} " + "x" * 190)


def test_requests_are_bounded_and_complete() -> None:
    policies = [TlsPolicy(f"{number}.example", PolicyKind.STS, ("x" * 255,) * 500) for number in range(10)]
    counts = Counter({failure(number, policy): 2 for policy in policies for number in range(150)})
    counts[Session(policies[0])] = 7
    records = {policy.domain: "" for policy in policies}
    made = list(requests(counts, records, NOW))
    assert len({request.request_id for request in made}) == len(made) > 1
    assert all(request.ByteSize() <= 2 * OCTETS_OF_REQUEST and request.sessions for request in made)
    assert all(len(one.failures) <= FAILURES_OF_SESSIONS for request in made for one in request.sessions)
    assert sum(each.session_count for request in made for one in request.sessions for each in one.failures) == 3_000
    assert sum(one.successful_count for request in made for one in request.sessions) == 7
    assert list(requests(Counter(), {}, NOW)) == []


def test_a_long_record_is_cut() -> None:
    policy = TlsPolicy("a.example", PolicyKind.TLSA, (str(TlsaRecord(3, 0, 0, b"x" * 16_000)),))
    (request,) = requests(Counter([Session(policy)]), {"a.example": ""}, NOW)
    assert len(request.sessions[0].policy_lines[0]) == 1_000


def test_kinds_are_bounded_and_come_back() -> None:
    sessions, policy = Sessions(), TlsPolicy("a.example")
    for number in range(MAX_KINDS + 10):
        sessions.failed(policy, TlsResult.VALIDATION_FAILURE, str(number))
    sessions.failed(policy, TlsResult.VALIDATION_FAILURE, "0")
    taken = sessions.taken()
    assert len(taken) == MAX_KINDS and taken.total() == MAX_KINDS + 1
    sessions.succeeded(policy)
    sessions.put_back(Counter({Session(policy): 2}))
    assert sessions.taken() == Counter({Session(policy): 3})
