"""The results of checks in the contract, within its bounds. *Pure.*"""

from __future__ import annotations

from restante.v1 import checks_pb2 as v1
from restante_mail.authentication.bounds import fitting
from restante_mail.authentication.results import (
    ArcResult,
    Checks,
    DkimResult,
    DmarcResult,
    DnsListResult,
    Identity,
    Policy,
    Result,
    SpfResult,
)

__all__ = ["message_checks"]

_RESULTS = {result: v1.CheckResult.Value(f"CHECK_RESULT_{result.name}") for result in Result}
_POLICIES = {policy: v1.DmarcPolicy.Value(f"DMARC_POLICY_{policy.name}") for policy in Policy}
_IDENTITIES = {identity: v1.SpfIdentity.Value(f"SPF_IDENTITY_{identity.name}") for identity in Identity}


def message_checks(checks: Checks) -> v1.MessageChecks:
    """The results; text that is longer than the contract allows is cut. Only failure reports need SPF records."""
    bounded = fitting(checks)
    with_records = bounded.dmarc is not None and bool(bounded.dmarc.failures_to)
    made = v1.MessageChecks(
        spf=[_spf(one, with_records) for one in bounded.spf],
        dkim=map(_dkim, bounded.dkim),
        dns_lists=map(_dns_list, bounded.dns_lists),
    )
    if bounded.dmarc is not None:
        made.dmarc.CopyFrom(_dmarc(bounded.dmarc))
    if bounded.arc is not None:
        made.arc.CopyFrom(_arc(bounded.arc))
    if bounded.reverse_dns is not None:
        made.reverse_dns.result = _RESULTS[bounded.reverse_dns.result]
        made.reverse_dns.name = bounded.reverse_dns.name
    return made


def _spf(one: SpfResult, with_record: bool) -> v1.SpfCheck:
    return v1.SpfCheck(
        result=_RESULTS[one.result],
        identity=_IDENTITIES[one.identity],
        domain=one.domain,
        mechanism=one.mechanism,
        explanation=one.explanation,
        problem=one.problem,
        record=one.record if with_record else "",
    )


def _dkim(one: DkimResult) -> v1.DkimCheck:
    return v1.DkimCheck(
        result=_RESULTS[one.result],
        domain=one.domain,
        selector=one.selector,
        identity=one.identity,
        algorithm=one.algorithm,
        key_bits=one.key_bits,
        signature_start=one.signature_start,
        testing=one.testing,
        partial=one.partial,
        problem=one.problem,
    )


def _dmarc(one: DmarcResult) -> v1.DmarcCheck:
    return v1.DmarcCheck(
        result=_RESULTS[one.result],
        author_domain=one.author_domain,
        policy_domain=one.policy_domain,
        organizational_domain=one.organizational_domain,
        policy=_POLICIES[one.policy],
        record=one.record,
        testing=one.testing,
        spf_aligned=one.spf_aligned,
        dkim_aligned=one.dkim_aligned,
        problem=one.problem,
        report_to=one.report_to,
        failures_to=one.failures_to,
    )


def _arc(one: ArcResult) -> v1.ArcCheck:
    return v1.ArcCheck(
        result=_RESULTS[one.result],
        sealers=one.sealers,
        oldest_pass=one.oldest_pass,
        authentication_results=one.authentication_results,
        problem=one.problem,
    )


def _dns_list(one: DnsListResult) -> v1.DnsListCheck:
    return v1.DnsListCheck(
        dns_zone=one.zone, listed=one.listed, answers=one.answers, weight=one.weight, problem=one.problem
    )
