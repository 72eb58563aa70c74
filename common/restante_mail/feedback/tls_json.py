"""Reading the JSON of a TLS report in bounded time and memory (RFC 8460 4.4). *Pure.*

A report comes from anybody. Its depth, its number of values and the digits of its numbers are limited before or while
it is parsed. Texts lose control characters and are cut. Types of results and policies that RFC 8460 does not name stay
as they are, because it lets others be registered.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from restante_mail.envelope.paths import BadPath, ascii_domain
from restante_mail.feedback.errors import BadReport

MAX_OCTETS = 4 << 20  # of the JSON
MAX_DEPTH = 16  # of nested lists and objects
MAX_VALUES = 200_000  # in all
MAX_DIGITS = 15  # of a number
MAX_POLICIES = 100
MAX_FAILURES = 20_000  # of all policies
MAX_LINES = 1_100  # of one policy; more are cut
MAX_TEXT = 1_000  # characters of a text; more are cut
MAX_MOMENT = 1 << 33  # seconds since 1970


@dataclass(frozen=True, slots=True)
class TlsFailures:
    """Sessions that failed for one reason. Texts are "" where the report has none."""

    result: str  # a result type
    session_count: int
    sending_address: str = ""
    receiving_host: str = ""
    receiving_address: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TlsPolicyCounts:
    """The sessions of one policy."""

    kind: str  # a policy type
    domain: str  # A-labels
    lines: tuple[str, ...]
    patterns: tuple[str, ...]
    successful_count: int
    failed_count: int
    failures: tuple[TlsFailures, ...]


@dataclass(frozen=True, slots=True)
class TlsDocument:
    """A report. Moments are seconds since 1970-01-01 UTC."""

    organization: str
    contact: str
    report_id: str
    begin: int
    end: int
    policies: tuple[TlsPolicyCounts, ...]  # at least one


def read(octets: bytes) -> TlsDocument:
    """Read a report. Raises BadReport."""
    whole = _object(_parsed(octets), "the report")
    dates = _object(whole.get("date-range"), "date-range")
    begin, end = (_moment(dates.get(name), name) for name in ("start-datetime", "end-datetime"))
    if begin > end:
        raise BadReport("the period ends before it begins")
    policies = _list(whole.get("policies"), "policies")
    if not 0 < len(policies) <= MAX_POLICIES:
        raise BadReport(f"the report has {len(policies)} policies; 1 to {MAX_POLICIES} are read")
    read_policies = tuple(map(_policy, policies))
    if sum(len(policy.failures) for policy in read_policies) > MAX_FAILURES:
        raise BadReport(f"the report has more than {MAX_FAILURES} failure-details")
    report_id = _text(whole.get("report-id"), "report-id")
    if not report_id:
        raise BadReport("report-id is missing")
    return TlsDocument(
        _text(whole.get("organization-name"), "organization-name"),
        _text(whole.get("contact-info"), "contact-info"),
        report_id,
        begin,
        end,
        read_policies,
    )


def _parsed(octets: bytes) -> Any:
    """The JSON as Python values. Raises BadReport."""
    if len(octets) > MAX_OCTETS:
        raise BadReport(f"the report has more than {MAX_OCTETS} octets")
    _bound(octets)
    try:
        text = octets.decode("utf-8-sig")
        return json.loads(text, parse_int=_integer, parse_float=_fraction, parse_constant=_constant)
    except UnicodeDecodeError:
        raise BadReport("the report is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise BadReport(f"the report is not JSON: {error.msg} at character {error.pos}") from None


def _bound(octets: bytes) -> None:
    """Raises BadReport for too deep a nesting and too many values, before anything is built."""
    without_escapes = octets.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = b"".join(without_escapes.split(b'"')[::2])  # of strings
    marks = outside.translate(None, _NO_MARKS)
    if len(marks) > 2 * MAX_VALUES:
        raise BadReport(f"the report has more than {MAX_VALUES} values")
    depth = 0
    for mark in marks:
        depth += _DEPTHS[mark]
        if depth > MAX_DEPTH:
            raise BadReport(f"the report is nested more than {MAX_DEPTH} deep")


_DEPTHS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1, ord(","): 0}
_NO_MARKS = bytes(set(range(256)) - set(_DEPTHS))


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise BadReport(f"a number has more than {MAX_DIGITS} digits")
    return int(digits)


def _fraction(digits: str) -> float:
    raise BadReport(f"the number {digits[:MAX_DIGITS]} is no whole number")


def _constant(name: str) -> None:
    raise BadReport(f"{name} is no JSON")


def _policy(given: Any) -> TlsPolicyCounts:
    whole = _object(given, "a policy")
    policy, summary = _object(whole.get("policy"), "policy"), _object(whole.get("summary"), "summary")
    try:
        domain = ascii_domain(_text(policy.get("policy-domain"), "policy-domain").rstrip("."))
    except BadPath as bad:
        raise BadReport(f"policy-domain {bad.problem}") from None
    failures = _list(whole.get("failure-details", []), "failure-details")
    return TlsPolicyCounts(
        _text(policy.get("policy-type"), "policy-type"),
        domain,
        _texts(policy.get("policy-string"), "policy-string"),
        _texts(policy.get("mx-host"), "mx-host"),
        _count(summary.get("total-successful-session-count"), "total-successful-session-count"),
        _count(summary.get("total-failure-session-count"), "total-failure-session-count"),
        tuple(map(_failure, failures)),
    )


def _failure(given: Any) -> TlsFailures:
    whole = _object(given, "an entry of failure-details")
    reason, more = (_text(whole.get(name), name) for name in ("failure-reason-code", "additional-information"))
    return TlsFailures(
        _text(whole.get("result-type"), "result-type") or "unknown",
        _count(whole.get("failed-session-count"), "failed-session-count"),
        _text(whole.get("sending-mta-ip"), "sending-mta-ip"),
        _text(whole.get("receiving-mx-hostname"), "receiving-mx-hostname"),
        _text(whole.get("receiving-ip"), "receiving-ip"),
        " ".join(filter(None, (reason, more)))[:MAX_TEXT],
    )


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadReport(f"{name} is no object")
    return value


def _list(value: Any, name: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadReport(f"{name} is no list")
    return value


def _text(value: Any, name: str) -> str:
    """A text without control characters and lone surrogates; "" for none."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadReport(f"{name} is no text")
    return "".join(character for character in value[:MAX_TEXT] if character.isprintable()).strip()


def _texts(value: Any, name: str) -> tuple[str, ...]:
    """A list of texts; one text stands for itself, as the first form of RFC 8460 4.4 had it."""
    given = [value] if isinstance(value, str) else _list(value, name)
    return tuple(_text(one, name) for one in given[:MAX_LINES])


def _count(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadReport(f"{name} is no number of sessions")
    return value


def _moment(value: Any, name: str) -> int:
    """Seconds of a moment (RFC 3339 5.6); without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(_text(value, name))
        seconds = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise BadReport(f"{name} is no date and time") from None
    if not 0 <= seconds < MAX_MOMENT:
        raise BadReport(f"{name} lies outside of the years that are read")
    return seconds
