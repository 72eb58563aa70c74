"""TLS with other mail servers: RPCs for relays (policies, counted sessions) and for administrators (the counts)."""

from __future__ import annotations

import ipaddress

from sqlalchemy import Connection

from restante.errors import InvalidArgument
from restante.v1 import methods
from restante.v1 import tls_pb2 as v1
from restante_mail.authentication import mta_sts
from restante_server.api.engine import access
from restante_server.api.engine.call import Call
from restante_server.api.engine.registry import Handlers
from restante_server.api.services import convert, pages
from restante_server.api.services.violations import Violations, collected
from restante_server.db.clock import now_microseconds
from restante_server.directory import addresses
from restante_server.transport.outbound.dsn import clean
from restante_server.transport.tls import policies, sessions
from restante_server.transport.tls.policies import StoredPolicy
from restante_server.transport.tls.sessions import DAY, Counted, Kind, Place

handlers = Handlers()

RELAY = access.identities("relay")
SECOND = 1_000_000  # microseconds
MAX_SESSIONS = 200  # TlsSessions of one report
MAX_FAILURES = 100  # of one TlsSessions
MAX_LINES = 1_100
MAX_LINE_CHARACTERS = 1_000
MAX_PATTERNS = 1_000
MAX_HOST_CHARACTERS = 255
MAX_REASON_CHARACTERS = 500
MAX_RECORD_CHARACTERS = 4_096
MAX_COUNT = 1 << 31
SOME_DAYS = 2  # a report may be about sessions of yesterday


@handlers.read(methods.GET_STS_POLICY, rule=RELAY)
def get_sts_policy(tx: Connection, call: Call, request: v1.GetStsPolicyRequest) -> v1.GetStsPolicyResponse:
    """See TransportService.GetStsPolicy."""
    found = policies.find(tx, _domain(request.domain, "domain"), now_microseconds(tx))
    if found is None:
        return v1.GetStsPolicyResponse()
    return v1.GetStsPolicyResponse(
        policy=v1.StsPolicy(
            domain=found.domain,
            record_id=found.record_id,
            policy=found.policy,
            fetched_at=convert.timestamp(found.fetched_at),
            expires_at=convert.timestamp(found.expires_at),
        )
    )


@handlers.write(methods.STORE_STS_POLICY, rule=RELAY)
def store_sts_policy(tx: Connection, call: Call, request: v1.StoreStsPolicyRequest) -> v1.StoreStsPolicyResponse:
    """See TransportService.StoreStsPolicy."""
    given = request.policy
    domain = _domain(given.domain, "policy.domain")
    if not mta_sts.is_record_id(given.record_id):
        raise InvalidArgument(field="policy.record_id", problem="must be 1 to 32 letters and digits")
    try:
        parsed = mta_sts.parse_policy(given.policy)
    except mta_sts.BadPolicy as bad:
        raise InvalidArgument(field="policy.policy", problem=f"is no policy: {bad}") from None
    now = now_microseconds(tx)
    expires_at = now + parsed.max_age_seconds * SECOND
    policies.store(tx, StoredPolicy(domain, given.record_id, given.policy, now, expires_at))
    return v1.StoreStsPolicyResponse()


@handlers.write(methods.REPORT_TLS_SESSIONS, rule=RELAY)
def report_tls_sessions(
    tx: Connection, call: Call, request: v1.ReportTlsSessionsRequest
) -> v1.ReportTlsSessionsResponse:
    """See TransportService.ReportTlsSessions."""
    day, today = request.counted_at.ToMicroseconds() // DAY, now_microseconds(tx) // DAY
    with collected() as bad:
        bad.require(0 <= today - day < SOME_DAYS or day == today + 1, "counted_at", "must be today or yesterday")
        bad.require(len(request.sessions) <= MAX_SESSIONS, "sessions", f"must be at most {MAX_SESSIONS}")
        for given in request.sessions[:MAX_SESSIONS]:
            _judge(given, bad)
    counts = [(kind, count) for given in request.sessions for kind, count in _kinds(given)]
    records = [(given.policy_domain.lower(), given.report_record) for given in request.sessions]
    sessions.add(tx, day, counts, records)
    return v1.ReportTlsSessionsResponse()


def _judge(given: v1.TlsSessions, bad: Violations) -> None:
    with bad.noting("sessions.policy_domain"):
        _domain(given.policy_domain, "sessions.policy_domain")
    bad.require(given.kind in _KINDS, "sessions.kind", "must be NONE, STS or TLSA")
    lines = len(given.policy_lines) <= MAX_LINES and all(len(one) <= MAX_LINE_CHARACTERS for one in given.policy_lines)
    bad.require(lines, "sessions.policy_lines", f"must be at most {MAX_LINES} of {MAX_LINE_CHARACTERS} characters")
    patterns = len(given.mx_patterns) <= MAX_PATTERNS and all(
        len(one) <= MAX_HOST_CHARACTERS for one in given.mx_patterns
    )
    bad.require(patterns, "sessions.mx_patterns", f"must be at most {MAX_PATTERNS} host names")
    bad.require(0 <= given.successful_count <= MAX_COUNT, "sessions.successful_count", f"must be 0 to {MAX_COUNT}")
    record = len(given.report_record) <= MAX_RECORD_CHARACTERS
    bad.require(record, "sessions.report_record", f"must be at most {MAX_RECORD_CHARACTERS} characters")
    bad.require(len(given.failures) <= MAX_FAILURES, "sessions.failures", f"must be at most {MAX_FAILURES}")
    for failure in given.failures[:MAX_FAILURES]:
        bad.require(failure.result in _RESULTS, "sessions.failures.result", "must be a type of failure")
        count = 1 <= failure.session_count <= MAX_COUNT
        bad.require(count, "sessions.failures.session_count", f"must be 1 to {MAX_COUNT}")
        for field in ("sending_address", "receiving_address"):
            address = getattr(failure, field)
            bad.require(not address or _is_address(address), f"sessions.failures.{field}", "must be an IP address")


_KINDS = frozenset(v1.TlsPolicyKind.values()) - {v1.TLS_POLICY_KIND_UNSPECIFIED}
_RESULTS = frozenset(v1.TlsResultType.values()) - {v1.TLS_RESULT_TYPE_UNSPECIFIED}


def _kinds(given: v1.TlsSessions) -> list[tuple[Kind, int]]:
    policy = (
        given.policy_domain.lower(),
        int(given.kind),
        tuple(map(clean, given.policy_lines)),
        tuple(map(clean, given.mx_patterns)),
    )
    found = [(Kind(*policy), given.successful_count)] if given.successful_count else []
    for failure in given.failures:
        host, reason = (
            clean(failure.receiving_host)[:MAX_HOST_CHARACTERS],
            clean(failure.reason)[:MAX_REASON_CHARACTERS],
        )
        kind = Kind(*policy, int(failure.result), failure.sending_address, host, failure.receiving_address, reason)
        found.append((kind, failure.session_count))
    return found


@handlers.read(methods.LIST_TLS_SESSIONS, rule=access.administrators, slow=True)
def list_tls_sessions(tx: Connection, call: Call, request: v1.ListTlsSessionsRequest) -> v1.ListTlsSessionsResponse:
    """See AdminService.ListTlsSessions."""
    of = f"tls sessions {request.policy_domain} {request.failures_only}"
    page = pages.Page.asked(of, request, call.result_octets, 2)
    after = Place(pages.number(page.key[0]), _octets(page.key[1])) if any(page.key) else None
    domain = _domain(request.policy_domain, "policy_domain") if request.policy_domain else ""
    found = sessions.listing(tx, domain, request.failures_only, after, page.most)
    answer = v1.ListTlsSessionsResponse()
    return page.fill(answer, answer.counts, found, _count, lambda last: (str(last.day), last.digest.hex()))


def _octets(text: str) -> bytes:
    """Raises InvalidArgument for a page token whose key is not of this list."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise InvalidArgument(field="page_token", problem="is not from this list") from None


def _count(counted: Counted) -> v1.TlsSessionCount:
    kind = counted.kind
    answer = v1.TlsSessionCount(
        day=convert.timestamp(counted.day * DAY),
        policy_domain=kind.policy_domain,
        kind=v1.TlsPolicyKind.ValueType(kind.policy_kind),
        policy_lines=kind.policy_lines,
        failure=v1.TlsFailure(
            result=v1.TlsResultType.ValueType(kind.result),
            sending_address=kind.sending_address,
            receiving_host=kind.receiving_host,
            receiving_address=kind.receiving_address,
            reason=kind.reason,
            session_count=counted.session_count,
        ),
    )
    if counted.reported_at is not None:
        answer.reported_at.CopyFrom(convert.timestamp(counted.reported_at))
    return answer


def _domain(given: str, field: str) -> str:
    """Raises InvalidArgument."""
    domain = addresses.ascii_domain(given) if given else ""
    if not domain:
        raise InvalidArgument(field=field, problem="must be a domain")
    return domain


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
