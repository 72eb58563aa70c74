"""The bounds of the results that a gateway gives to the core, and the cut of results to them. *Pure.*

The results hold text of hostile origin: domains, selectors, records, explanations. A gateway cuts them (`fitting`)
before it sends them; the core refuses results that exceed a bound (`problem_of`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from restante_mail.authentication.results import (
    ArcResult,
    Checks,
    DkimResult,
    DmarcResult,
    DnsListResult,
    Result,
    ReverseDnsResult,
    SpfResult,
)

__all__ = [
    "CHAIN_OCTETS",
    "MAX_ANSWERS",
    "MAX_DKIM",
    "MAX_DNS_LISTS",
    "MAX_REPORT_ADDRESSES",
    "MAX_SEALERS",
    "MAX_SPF",
    "MAX_WEIGHT",
    "NAME_OCTETS",
    "RECORD_OCTETS",
    "TEXT_OCTETS",
    "TOKEN_OCTETS",
    "fitting",
    "problem_of",
]

MAX_SPF = 2  # results: of HELO and of the reverse-path
MAX_DKIM = 20  # results
MAX_DNS_LISTS = 50  # results
MAX_SEALERS = 50  # instances of an ARC chain (RFC 8617 4.2.1)
MAX_ANSWERS = 20  # addresses in the answer of one DNS list
MAX_REPORT_ADDRESSES = 10  # of one DMARC record
MAX_WEIGHT = 1_000.0  # of a DNS list, above and below 0

NAME_OCTETS = 255  # of a domain, host, zone or selector (RFC 1035 2.3.4)
TOKEN_OCTETS = 64  # of an algorithm, of the start of a signature, of one answer of a DNS list
TEXT_OCTETS = 512  # of any other text
RECORD_OCTETS = 4 << 10  # of a DMARC record, of one ARC-Authentication-Results
CHAIN_OCTETS = 64 << 10  # of all ARC-Authentication-Results

_UNREADABLE = "?"

Bounded = TypeVar("Bounded", SpfResult, DkimResult, DmarcResult, ReverseDnsResult)


def problem_of(text: str, limit: int) -> str:
    """The reason for which a text exceeds the bounds; "" if it does not. `limit` is in octets of UTF-8."""
    if not text.isprintable():
        return "has a control character"
    if len(text) > limit or (not text.isascii() and len(text.encode("utf-8", "surrogatepass")) > limit):
        return f"has more than {limit} octets"
    return ""


def fitting(checks: Checks) -> Checks:
    """The same results within the bounds: texts are cut, control characters become question marks, and a list that is
    too long loses its end. Of DKIM results those that passed are kept first. Results that fit are returned as they are.
    """
    return Checks(
        spf=tuple(_spf(one) for one in checks.spf[:MAX_SPF]),
        dkim=tuple(_dkim(one) for one in _chosen(checks.dkim)),
        dmarc=None if checks.dmarc is None else _dmarc(checks.dmarc),
        arc=None if checks.arc is None else _arc(checks.arc),
        reverse_dns=None if checks.reverse_dns is None else _reverse_dns(checks.reverse_dns),
        dns_lists=tuple(_dns_list(one) for one in checks.dns_lists[:MAX_DNS_LISTS]),
        checked_by=_cut(checks.checked_by, NAME_OCTETS),
    )


def _cut(text: str, limit: int = TEXT_OCTETS) -> str:
    if not problem_of(text, limit):
        return text
    plain = "".join(character if character.isprintable() else _UNREADABLE for character in text[:limit])
    return plain.encode()[:limit].decode("utf-8", "ignore")


def _fitted(one: Bounded, **limits: int) -> Bounded:
    """The result with these texts cut. Most results fit, and a copy costs more than the look at all texts."""
    cut: dict[str, Any] = {}
    for name, limit in limits.items():
        text = getattr(one, name)
        if (fitting_text := _cut(text, limit)) is not text:
            cut[name] = fitting_text
    return replace(one, **cut) if cut else one


def _chosen(results: tuple[DkimResult, ...]) -> tuple[DkimResult, ...]:
    if len(results) <= MAX_DKIM:
        return results
    return tuple(sorted(results, key=lambda one: one.result is not Result.PASS)[:MAX_DKIM])


def _spf(one: SpfResult) -> SpfResult:
    return _fitted(
        one,
        domain=NAME_OCTETS,
        mechanism=TEXT_OCTETS,
        explanation=TEXT_OCTETS,
        problem=TEXT_OCTETS,
        record=TEXT_OCTETS,
    )


def _dkim(one: DkimResult) -> DkimResult:
    return _fitted(
        one,
        domain=NAME_OCTETS,
        selector=NAME_OCTETS,
        identity=TEXT_OCTETS,
        algorithm=TOKEN_OCTETS,
        signature_start=TOKEN_OCTETS,
        problem=TEXT_OCTETS,
    )


def _dmarc(one: DmarcResult) -> DmarcResult:
    report_to, failures_to = _addresses(one.report_to), _addresses(one.failures_to)
    if (report_to, failures_to) != (one.report_to, one.failures_to):
        one = replace(one, report_to=report_to, failures_to=failures_to)
    return _fitted(
        one,
        author_domain=NAME_OCTETS,
        policy_domain=NAME_OCTETS,
        organizational_domain=NAME_OCTETS,
        record=RECORD_OCTETS,
        problem=TEXT_OCTETS,
    )


def _addresses(given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(each for each in given if not problem_of(each, TEXT_OCTETS))[:MAX_REPORT_ADDRESSES]


def _arc(one: ArcResult) -> ArcResult:
    return replace(
        one,
        sealers=tuple(_cut(name, NAME_OCTETS) for name in one.sealers[:MAX_SEALERS]),
        authentication_results=_chain(one.authentication_results[:MAX_SEALERS]),
        problem=_cut(one.problem),
    )


def _chain(values: tuple[str, ...]) -> tuple[str, ...]:
    """The latest values that fit; the others are empty. A value that was cut could say something else."""
    kept: list[str] = []
    left = CHAIN_OCTETS
    for value in reversed(values):
        plain = _cut(value, len(value) * 4) if len(value) <= RECORD_OCTETS else ""
        octets = len(plain.encode())
        fits = octets <= min(RECORD_OCTETS, left)
        kept.append(plain if fits else "")
        left -= octets if fits else 0
    return tuple(reversed(kept))


def _reverse_dns(one: ReverseDnsResult) -> ReverseDnsResult:
    return _fitted(one, name=NAME_OCTETS)


def _dns_list(one: DnsListResult) -> DnsListResult:
    return replace(
        one,
        zone=_cut(one.zone, NAME_OCTETS),
        answers=tuple(_cut(answer, TOKEN_OCTETS) for answer in one.answers[:MAX_ANSWERS]),
        weight=min(MAX_WEIGHT, max(-MAX_WEIGHT, one.weight)),
        problem=_cut(one.problem),
    )
