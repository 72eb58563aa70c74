"""The results of checks that another server has put into Authentication-Results (RFC 8601), as values. *Pure.*

A server in front of this one has checked the mail, and its administrator is trusted. The text in its results is of
hostile origin all the same: of many fields, long values and unknown words only so much is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Final, NamedTuple

from restante_mail.authentication.bounds import NAME_OCTETS, fitting
from restante_mail.authentication.results import (
    OF_ARC,
    OF_DKIM,
    OF_DMARC,
    OF_REVERSE_DNS,
    OF_SPF,
    ArcResult,
    Checks,
    DkimResult,
    DmarcResult,
    Identity,
    Policy,
    Result,
    ReverseDnsResult,
    SpfResult,
)
from restante_mail.header.authres import MethodResult, authserv_id, method_results

__all__ = ["MOST_FIELDS", "reported"]

MOST_FIELDS: Final = 20  # of one message that are read

# smtp.mail is an older name.
_IDENTITIES = MappingProxyType(
    {"smtp.mailfrom": Identity.MAILFROM, "smtp.mail": Identity.MAILFROM, "smtp.helo": Identity.HELO}
)
_OLDER_NAMES = MappingProxyType({"hardfail": Result.FAIL, "softfail": Result.SOFTFAIL})
# The policy stands in a property (RFC 7489 11.2), or in a comment such as (p=reject dis=none) or (policy=reject).
_POLICY = re.compile(r"(?<![\w.-])(?:p|policy)\s{0,9}=\s{0,9}(none|quarantine|reject)(?![\w-])", re.IGNORECASE)


class _Found(NamedTuple):
    """The results of one method, with the server that has reported them."""

    server: str
    results: list[MethodResult]


def reported(values: Iterable[str]) -> Checks | None:
    """The results in the unfolded values of trusted fields, from the top of the header; None if there are none.

    A server puts its fields above those that are there. Of a method, the results of the uppermost field that has it
    count, and none below. `checked_by` has the names of the servers.
    """
    found: dict[str, _Found] = {}
    for value in islice(values, MOST_FIELDS):
        by_method: dict[str, list[MethodResult]] = {}
        for one in method_results(value):
            by_method.setdefault(one.method, []).append(one)
        for method, results in by_method.items():
            if method in _METHODS:
                found.setdefault(method, _Found(authserv_id(value), results))
    servers = dict.fromkeys(one.server for one in found.values())
    checks = Checks(
        spf=tuple(_of_spf(_results(found, "spf"))),
        dkim=tuple(_of_dkim(_results(found, "dkim"))),
        dmarc=_worst(_of_dmarc(_results(found, "dmarc"))),
        arc=next((ArcResult(result) for _, result in _known(_results(found, "arc"), OF_ARC)), None),
        reverse_dns=next(
            (ReverseDnsResult(result) for _, result in _known(_results(found, "iprev"), OF_REVERSE_DNS)), None
        ),
        checked_by=", ".join(servers)[:NAME_OCTETS],
    )
    nothing = Checks(checked_by=checks.checked_by)
    return None if checks == nothing else fitting(checks)


_METHODS = frozenset(("spf", "dkim", "dmarc", "arc", "iprev"))


def _results(found: Mapping[str, _Found], method: str) -> list[MethodResult]:
    return found[method].results if method in found else []


def _known(results: Iterable[MethodResult], of_method: frozenset[Result]) -> Iterator[tuple[MethodResult, Result]]:
    """The results with words that the method has."""
    for one in results:
        result = _OLDER_NAMES.get(one.result) or next((each for each in Result if each.value == one.result), None)
        if result in of_method and result is not None:
            yield one, result


def _of_spf(results: Iterable[MethodResult]) -> Iterator[SpfResult]:
    """At most one result for each identity, that of HELO first."""
    by_identity: dict[Identity, SpfResult] = {}
    for one, result in _known(results, OF_SPF):
        name, identity = next(
            ((name, identity) for name, identity in _IDENTITIES.items() if name in one.properties),
            ("", Identity.MAILFROM),
        )
        domain = _domain(one.properties.get(name, ""))
        by_identity.setdefault(identity, SpfResult(result, identity, domain, problem=_reason(one)))
    yield from sorted(by_identity.values(), key=lambda one: one.identity is Identity.MAILFROM)


def _of_dkim(results: Iterable[MethodResult]) -> Iterator[DkimResult]:
    for one, result in _known(results, OF_DKIM):
        given = one.properties
        yield DkimResult(
            result,
            _domain(given.get("header.d", "") or given.get("header.i", "")),
            given.get("header.s", ""),
            given.get("header.i", ""),
            given.get("header.a", ""),
            signature_start=given.get("header.b", ""),
            problem=_reason(one),
        )


def _of_dmarc(results: Iterable[MethodResult]) -> Iterator[DmarcResult]:
    for one, result in _known(results, OF_DMARC):
        domain = _domain(one.properties.get("header.from", ""))
        policy = _policy(one)
        if policy is None and result is Result.FAIL:
            policy = Policy.QUARANTINE  # the server has not said what the domain wishes: Junk is the careful answer
        yield DmarcResult(
            result, domain, domain if policy is not None else "", policy=policy or Policy.NONE, problem=_reason(one)
        )


def _worst(results: Iterable[DmarcResult]) -> DmarcResult | None:
    """The result that counts for a message with several authors: a failure, so that a second one hides nothing."""
    every = list(results)
    return next((one for one in every if one.result is Result.FAIL), every[0] if every else None)


def _policy(one: MethodResult) -> Policy | None:
    """The wish of the author's domain; None if the server has not said it."""
    named = one.properties.get("policy.dmarc", "").lower()
    match = _POLICY.search(one.comments)
    word = named if named in {each.value for each in Policy} else match[1].lower() if match else ""
    return Policy(word) if word else None


def _domain(text: str) -> str:
    """The domain of an address or of a name."""
    return text.rpartition("@")[2].rstrip(".").lower()


def _reason(one: MethodResult) -> str:
    return one.properties.get("reason", "")
