"""The machine-readable part of a failure report, message/feedback-report (RFC 5965 3, RFC 6591 3, RFC 9991 4). *Pure.*

`write` and `read` are inverse for reports within the bounds. Strangers write the reports that are read: the number of
fields and the length of each are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from ipaddress import ip_address

from restante_mail.feedback.errors import BadReport
from restante_mail.feedback.failure import FailureReport
from restante_mail.header.comments import without_comments
from restante_mail.header.dates import parse_date
from restante_mail.header.fields import fields, unfold

__all__ = ["MAX_OCTETS", "read", "write"]

MAX_OCTETS = 32 << 10  # of the part
MAX_FIELDS = 200
MAX_TEXT = 512  # characters of a value
_LIMITS = {"authentication-results": 4 << 10, "spf-dns": 2 << 10}  # characters of a value; else MAX_TEXT
_WITH_COMMENTS = frozenset(("authentication-results", "spf-dns", "user-agent", "original-mail-from"))
MAX_INCIDENTS = 1 << 31
_LINE = 76  # columns of a folded field

_UNSAFE = re.compile(r"[^\x20-\x7e]+")
_NUMBER = re.compile(r"[0-9]{1,10}")
_KEYWORD = re.compile(r"[A-Za-z0-9-]{1,32}")
_DOMAIN = re.compile(r"[A-Za-z0-9_.-]{1,253}")
_SPF_DNS = re.compile(r"[A-Za-z]{1,8}[ \t]*+:[ \t]*+([^\s:\"]{1,253})[ \t]*+:[ \t]*+\"((?:[^\"\\]|\\.)*+)\"?")
_PAIR = re.compile(r"\\(.)")
_TO_QUOTE = re.compile(r'(["\\])')
_DELIVERIES = frozenset(("delivered", "spam", "policy", "reject", "other"))
_MECHANISMS = ("dkim", "spf")


def write(report: FailureReport) -> bytes:
    """The fields, in 7-bit octets with CRLF."""
    return b"".join(_folded(f"{name}: {value}").encode("ascii") for name, value in _fields(report))


def _folded(field: str) -> str:
    """The field with its CRLF, folded between words where it is longer than a line."""
    lines, line = [], ""
    for word in field.split(" "):
        if line and len(line) + 1 + len(word) > _LINE:
            lines.append(line)
            line = ""
        line = f"{line} {word}" if line or lines else word
    return "\r\n".join([*lines, line]) + "\r\n"


def _fields(report: FailureReport) -> Iterator[tuple[str, str]]:
    yield "Feedback-Type", "auth-failure"
    yield "User-Agent", _clean(report.user_agent) or "unknown"
    yield "Version", "1"
    yield "Auth-Failure", report.failure
    if report.authentication_results:
        yield "Authentication-Results", _UNSAFE.sub("?", " ".join(report.authentication_results.split()))
    yield "Identity-Alignment", ",".join(report.failed) or "none"
    if report.delivery:
        yield "Delivery-Result", report.delivery
    if report.reverse_path is not None:
        yield "Original-Mail-From", f"<{_clean(report.reverse_path)}>"
    if report.arrived_at is not None:
        yield "Arrival-Date", format_datetime(report.arrived_at)
    if report.source_address:
        yield "Source-IP", report.source_address
    yield "Reported-Domain", _clean(report.policy_domain)
    yield "Incidents", str(report.incidents)
    for name, value in (
        ("DKIM-Domain", report.dkim_domain),
        ("DKIM-Identity", report.dkim_identity),
        ("DKIM-Selector", report.dkim_selector),
    ):
        if value:
            yield name, _clean(value)
    if report.spf_domain:
        yield "SPF-DNS", f"txt : {_clean(report.spf_domain)} : {_quoted(report.spf_record)}"


def read(octets: bytes, header: bytes = b"") -> FailureReport:
    """The report in the octets of a message/feedback-report part; `header` is that of the returned message.

    Raises BadReport. Fields that a report may lack and that have no valid value are ignored (RFC 5965 3).
    """
    found = _values(octets)
    kind = found.get("feedback-type", "").lower()
    if kind != "auth-failure":
        raise BadReport(f'Feedback-Type is "{kind[:32]}", not auth-failure' if kind else "there is no Feedback-Type")
    failure = found.get("auth-failure", "").lower()
    if not _KEYWORD.fullmatch(failure):
        raise BadReport("Auth-Failure is missing or no keyword")
    domain = found.get("reported-domain", "").lower().rstrip(".")
    if not _DOMAIN.fullmatch(domain):
        raise BadReport("Reported-Domain is missing or no domain")
    delivery = found.get("delivery-result", "").lower()
    spf_domain, spf_record = _spf_dns(found.get("spf-dns", ""))
    return FailureReport(
        policy_domain=domain,
        failure=failure,
        source_address=_address(found.get("source-ip", "")),
        reverse_path=_path(found.get("original-mail-from")),
        authentication_results=found.get("authentication-results", ""),
        failed=_mechanisms(found.get("identity-alignment", "")),
        delivery=delivery if delivery in _DELIVERIES else "",
        arrived_at=_moment(found.get("arrival-date") or found.get("received-date", "")),
        incidents=_incidents(found.get("incidents", "")),
        dkim_domain=found.get("dkim-domain", ""),
        dkim_identity=found.get("dkim-identity", ""),
        dkim_selector=found.get("dkim-selector", ""),
        spf_domain=spf_domain,
        spf_record=spf_record,
        user_agent=found.get("user-agent", ""),
        header=header,
    )


def _values(octets: bytes) -> dict[str, str]:
    """{name in lower case: value on one line}; the first of each name."""
    if len(octets) > MAX_OCTETS:
        raise BadReport(f"the report has more than {MAX_OCTETS} octets")
    found: dict[str, str] = {}
    for number, field in enumerate(fields(octets)):
        if number >= MAX_FIELDS:
            raise BadReport(f"the report has more than {MAX_FIELDS} fields")
        name = field.name.decode("ascii").lower()
        value = unfold(octets[field.value_start : field.end])
        value = " ".join(value[: _LIMITS.get(name, MAX_TEXT)].split())
        if name not in _WITH_COMMENTS:
            value = without_comments(value)
        found.setdefault(name, _UNSAFE.sub("?", value).strip())
    return found


def _path(text: str | None) -> str | None:
    return None if text is None else text.removeprefix("<").removesuffix(">").strip()


def _address(text: str) -> str:
    """An IP address; "" for anything else."""
    try:
        return str(ip_address(text.removeprefix("[").removesuffix("]").removeprefix("IPv6:")))
    except ValueError:
        return ""


def _moment(text: str) -> datetime | None:
    parsed = parse_date(text) if text else None
    return None if parsed is None else parsed.at.astimezone(UTC)


def _incidents(text: str) -> int:
    return min(MAX_INCIDENTS, max(1, int(text))) if _NUMBER.fullmatch(text) else 1


def _mechanisms(text: str) -> tuple[str, ...]:
    named = {word.strip().lower() for word in text.split(",")}
    return tuple(name for name in _MECHANISMS if name in named)


def _spf_dns(text: str) -> tuple[str, str]:
    """The domain and the record of SPF-DNS (RFC 6591 3.2.4)."""
    match = _SPF_DNS.match(text)
    return (match[1].lower(), _PAIR.sub(r"\1", match[2])) if match else ("", "")


def _clean(text: str) -> str:
    return _UNSAFE.sub("?", text)[:MAX_TEXT]


def _quoted(text: str) -> str:
    return '"' + _TO_QUOTE.sub(r"\\\1", _clean(text)) + '"'
