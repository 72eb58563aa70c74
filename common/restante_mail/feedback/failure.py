"""DMARC failure reports (RFC 9991): their values, and the cases in which a domain wants one. *Pure.*"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from restante_mail.authentication.dmarc.record import Record
from restante_mail.authentication.results import Checks, DkimResult, DmarcResult, Identity, Result, SpfResult
from restante_mail.header.fields import content_value, raw_fields, wanted

__all__ = [
    "FailureReport",
    "failed_mechanisms",
    "failed_signature",
    "failed_spf",
    "is_automatic",
    "is_reported",
    "is_wanted",
    "wants_reports",
]

_AUTOMATIC = wanted("Auto-Submitted Content-Type")
_LONGEST_VALUE = 2_000  # characters of a field that tells an automatic message

_FAILED_DKIM = frozenset((Result.FAIL, Result.NEUTRAL, Result.POLICY, Result.PERMERROR))
_FAILED_SPF = frozenset((Result.FAIL, Result.SOFTFAIL, Result.PERMERROR))


@dataclass(frozen=True, slots=True)
class FailureReport:
    """The facts of a report (RFC 6591 3, RFC 9991 4). An empty text, and None, say that the field is absent."""

    policy_domain: str  # the domain that the report is about, in A-labels
    failure: str = "dmarc"  # keyword of Auth-Failure
    source_address: str = ""  # IP address of the client that sent the message
    reverse_path: str | None = None  # without angle brackets; "": the null path
    authentication_results: str = ""  # value of the field; folded where it is longer than a line
    failed: tuple[str, ...] = ()  # mechanisms that have authenticated no aligned domain: dkim, spf
    delivery: str = ""  # delivered, spam, policy, reject or other
    arrived_at: datetime | None = None
    incidents: int = 1  # similar messages that the report stands for
    dkim_domain: str = ""  # of a signature that failed
    dkim_identity: str = ""
    dkim_selector: str = ""
    spf_domain: str = ""  # whose SPF record was used
    spf_record: str = ""
    user_agent: str = ""  # the program that wrote the report
    header: bytes = b""  # of the message, as far as it is shown


def is_reported(policy_domain: str, domains: Collection[str]) -> bool:
    """Whether failures of a policy domain may be reported, by the domains of the configuration; "*" has all."""
    return "*" in domains or policy_domain.lower() in domains


def wants_reports(record: Record) -> bool:
    """Whether a policy record asks for failure reports. Those of public suffixes do not count (RFC 9991 2)."""
    return bool(record.failure_uris) and record.psd != "y"


def is_wanted(options: Collection[str], checks: Checks) -> bool:
    """Whether fo= asks for a report about a message with these results (RFC 9989 4.7).

    A message without a final result of DMARC is not reported: another attempt may pass.
    """
    dmarc = checks.dmarc
    if dmarc is None or dmarc.result not in (Result.PASS, Result.FAIL):
        return False
    return (
        ("0" in options and not (dmarc.dkim_aligned or dmarc.spf_aligned))
        or ("1" in options and not (dmarc.dkim_aligned and dmarc.spf_aligned))
        or ("d" in options and any(one.result in _FAILED_DKIM for one in checks.dkim))
        or ("s" in options and any(one.result in _FAILED_SPF for one in _of_sender(checks.spf)))
    )


def _of_sender(results: Sequence[SpfResult]) -> Sequence[SpfResult]:
    """The results that DMARC looks at: for the reverse-path, or for HELO if it is null."""
    return [one for one in results if one.identity is Identity.MAILFROM] or results


def is_automatic(header: bytes, reverse_path: str) -> bool:
    """Whether a program has written the message, such as a report: a report about it could begin a loop (RFC 9991 5.1).

    A message with the null path is one (RFC 5321 4.5.5).
    """
    if not reverse_path:
        return True
    found = raw_fields(header, _AUTOMATIC, _LONGEST_VALUE)
    if any(content_value(value).kind.lower() != "no" for value in found.get("auto-submitted", ())):  # RFC 3834 5
        return True
    kinds = [content_value(value) for value in found.get("content-type", ())]
    return any((kind.kind.lower(), kind.subkind.lower()) == ("multipart", "report") for kind in kinds)


def failed_mechanisms(dmarc: DmarcResult) -> tuple[str, ...]:
    """The mechanisms that have authenticated no aligned domain, for Identity-Alignment."""
    aligned = (("dkim", dmarc.dkim_aligned), ("spf", dmarc.spf_aligned))
    return tuple(name for name, is_aligned in aligned if not is_aligned)


def failed_signature(checks: Checks) -> DkimResult | None:
    """The signature that a report names: the first one that failed, if possible one of the author's organization."""
    failed = [one for one in checks.dkim if one.result in _FAILED_DKIM and one.domain]
    organization = checks.dmarc.organizational_domain if checks.dmarc is not None else ""
    return min(failed, key=lambda one: not _is_below(one.domain.lower(), organization), default=None)


def failed_spf(checks: Checks) -> SpfResult | None:
    """The result of SPF that did not pass, where the domain has a record."""
    return next((one for one in _of_sender(checks.spf) if one.record and one.result is not Result.PASS), None)


def _is_below(domain: str, other: str) -> bool:
    return domain == other or domain.endswith(f".{other}")
