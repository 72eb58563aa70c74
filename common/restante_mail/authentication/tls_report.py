"""Reports of TLS sessions: the record that asks for them, and their JSON (RFC 8460 3, 4.4). *Pure.*"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import unquote

from restante_mail.authentication.https_url import is_https
from restante_mail.authentication.tls_result import TlsPolicy, TlsResult
from restante_mail.envelope.paths import BadPath, parse_path

MAX_RECORD_OCTETS = 4_096
MAX_TARGETS = 5  # URIs of one record that are used
_VERSION = re.compile(rb"v=TLSRPTv1[ \t]{0,64};")


@dataclass(frozen=True, slots=True)
class Targets:
    """The targets of a domain's reports."""

    addresses: tuple[str, ...] = ()  # of mailto: URIs
    urls: tuple[str, ...] = ()  # https: URIs


@dataclass(frozen=True, slots=True)
class Failure:
    """Sessions that did not meet a policy, for one reason."""

    result: TlsResult
    session_count: int
    sending_address: str = ""
    receiving_host: str = ""
    receiving_address: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PolicySessions:
    """The sessions of one policy."""

    policy: TlsPolicy
    successful_count: int
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class TlsReport:
    """A report about one domain."""

    organization: str
    contact: str  # an address
    report_id: str
    start: datetime  # the begin of the day, UTC
    policies: tuple[PolicySessions, ...]


def report_record(records: Sequence[bytes]) -> str:
    """The record among the TXT records of `_smtp._tls.DOMAIN`; "" without exactly one usable record (RFC 8460 3)."""
    named = [record for record in records if _VERSION.match(record)]
    if len(named) != 1 or len(named[0]) > MAX_RECORD_OCTETS or not named[0].isascii():
        return ""
    record = named[0].decode("ascii")
    return record if targets(record) != Targets() else ""


def targets(record: str) -> Targets:
    """The targets in a record, at most 5; those of other schemes and malformed ones are left out."""
    addresses: list[str] = []
    urls: list[str] = []
    for field in record.split(";")[1:]:
        key, _, value = field.partition("=")
        if key.strip(" \t") != "rua":
            continue
        for uri in value.split(",")[:MAX_TARGETS]:
            scheme, _, rest = uri.strip(" \t").partition(":")
            if scheme.lower() == "mailto" and (address := _address(rest)):
                addresses.append(address)
            elif scheme.lower() == "https" and is_https(url := f"https:{rest}"):
                urls.append(url)
        break  # a repeated field counts once
    return Targets(tuple(dict.fromkeys(addresses)), tuple(dict.fromkeys(urls)))


def _address(rest: str) -> str:
    """The address of a mailto: URI (RFC 6068 2); "" for an unusable one."""
    try:
        return parse_path(unquote(rest.partition("?")[0], errors="strict")).address
    except (BadPath, UnicodeDecodeError):
        return ""


def report_json(report: TlsReport) -> bytes:
    """The JSON of a report (RFC 8460 4.4)."""
    end = report.start + timedelta(days=1, seconds=-1)
    made = {
        "organization-name": report.organization,
        "date-range": {"start-datetime": _moment(report.start), "end-datetime": _moment(end)},
        "contact-info": report.contact,
        "report-id": report.report_id,
        "policies": [_policy(one) for one in report.policies],
    }
    return json.dumps(made, indent=1).encode("ascii")


def _policy(sessions: PolicySessions) -> dict[str, object]:
    policy = sessions.policy
    described: dict[str, object] = {"policy-type": policy.kind.value}
    if policy.lines:
        described["policy-string"] = list(policy.lines)
    described["policy-domain"] = policy.domain
    if policy.patterns:
        described["mx-host"] = list(policy.patterns)
    made: dict[str, object] = {
        "policy": described,
        "summary": {
            "total-successful-session-count": sessions.successful_count,
            "total-failure-session-count": sum(one.session_count for one in sessions.failures),
        },
    }
    if sessions.failures:
        made["failure-details"] = [_failure(one) for one in sessions.failures]
    return made


def _failure(failure: Failure) -> dict[str, object]:
    made: dict[str, object] = {"result-type": failure.result.value}
    optional = {
        "sending-mta-ip": failure.sending_address,
        "receiving-mx-hostname": failure.receiving_host,
        "receiving-ip": failure.receiving_address,
    }
    made |= {key: value for key, value in optional.items() if value}
    made["failed-session-count"] = failure.session_count
    if failure.reason:
        made["failure-reason-code"] = failure.reason
    return made


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
