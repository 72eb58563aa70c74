"""The row of a DMARC report that a checked message counts in. *Pure.*"""

from __future__ import annotations

import ipaddress
from enum import Enum

from restante_mail.authentication.dmarc.record import parse_record
from restante_mail.authentication.results import Checks, DkimResult, DmarcResult, Identity, Policy, Result
from restante_mail.feedback.aggregate import DkimAuthentication, Override, Row, SpfAuthentication

MAX_SIGNATURES = 10  # of one row; RFC 9990 3.1.3 allows 100
_STRICTNESS = {"none": 0, "quarantine": 1, "reject": 2}
MAX_TEXT = 100  # characters of an explanation, so that rows of equal kind stay few


class Treatment(Enum):
    """The outcome for the message. The value is the disposition in a report (RFC 9990 3.1.1.9)."""

    NONE = "none"
    QUARANTINED = "quarantine"
    REFUSED = "reject"


def row_of(checks: Checks, source: str, reverse_domain: str, treatment: Treatment, override: str) -> Row | None:
    """The row of a message; None if no report counts it.

    `source` is the client's address and `reverse_domain` the domain of the reverse-path. `override` is the reason for a
    treatment against the policy, where there is one.
    """
    dmarc = checks.dmarc
    if dmarc is None or dmarc.result not in (Result.PASS, Result.FAIL):
        return None
    if not dmarc.report_to or not _is_address(source):
        return None
    passed = dmarc.result is Result.PASS
    disposition = "pass" if passed and dmarc.policy is not Policy.NONE else treatment.value
    spf = max(checks.spf, key=lambda one: one.identity is Identity.MAILFROM, default=None)  # HELO for the null path
    return Row(
        source_address=source,
        disposition=disposition,
        dkim_aligned=dmarc.dkim_aligned,
        spf_aligned=dmarc.spf_aligned,
        header_from=dmarc.author_domain,
        envelope_from=reverse_domain,
        overrides=() if passed else _overrides(dmarc, treatment, override),
        dkim=tuple(
            DkimAuthentication(one.domain, one.selector, one.result.value, one.problem[:MAX_TEXT])
            for one in sorted(checks.dkim, key=lambda one: _rank(one, dmarc))[:MAX_SIGNATURES]
        ),
        spf=None if spf is None else SpfAuthentication(spf.domain, spf.result.value, spf.problem[:MAX_TEXT]),
    )


def _overrides(dmarc: DmarcResult, treatment: Treatment, override: str) -> tuple[Override, ...]:
    """The reasons for another treatment than the policy demands (RFC 9990 3.1.6)."""
    published = _published(dmarc)
    if treatment.value == published.value:
        return ()
    if dmarc.testing and _STRICTNESS[treatment.value] < _STRICTNESS[published.value]:
        return (Override("policy_test_mode"),)
    return (Override("local_policy", override[:MAX_TEXT]),)


def _published(dmarc: DmarcResult) -> Policy:
    """The policy that applies, as published: t=y lowers it by one step (RFC 9989 4.7)."""
    if not dmarc.testing:
        return dmarc.policy
    if dmarc.policy is not Policy.NONE:
        return Policy.REJECT
    record = parse_record(dmarc.record.encode("ascii", "replace"))
    asked = record.policy_for(subdomain=dmarc.author_domain != dmarc.policy_domain, exists=True)
    return Policy.NONE if asked is Policy.NONE else Policy.QUARANTINE


def _rank(one: DkimResult, dmarc: DmarcResult) -> int:
    """The order of signatures in a report: aligned ones that passed are the first (RFC 9990 3.1.3)."""
    if one.result is not Result.PASS:
        return 3
    domain = one.domain.lower()
    if domain == dmarc.author_domain:
        return 0
    organizational = dmarc.organizational_domain
    return 1 if domain == organizational or domain.endswith(f".{organizational}") else 2


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
