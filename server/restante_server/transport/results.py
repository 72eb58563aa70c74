"""The results of checks as values and in the contract: conversion both ways, within the bounds of the contract.

`MessageChecks` is also the form in which results are kept with a message.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import MappingProxyType

from restante.errors import InvalidArgument
from restante.v1 import checks_pb2 as v1
from restante.v1.greylist_pb2 import ClientEvidence
from restante_mail.authentication import bounds
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
    DnsListResult,
    Identity,
    Policy,
    Result,
    ReverseDnsResult,
    SpfResult,
)
from restante_server.store.listing import Listing
from restante_server.store.restriction import CHECK_MASK, CheckMethod

__all__ = ["client_results_of", "kept", "message_of", "packed", "results_of", "unpacked", "with_checks"]

_RESULTS = MappingProxyType(
    {number: Result(name.rpartition("_")[2].lower()) for name, number in v1.CheckResult.items()[1:]}
)
_IDENTITIES = MappingProxyType({v1.SPF_IDENTITY_MAILFROM: Identity.MAILFROM, v1.SPF_IDENTITY_HELO: Identity.HELO})
_POLICIES = MappingProxyType(
    {
        v1.DMARC_POLICY_UNSPECIFIED: Policy.NONE,
        v1.DMARC_POLICY_NONE: Policy.NONE,
        v1.DMARC_POLICY_QUARANTINE: Policy.QUARANTINE,
        v1.DMARC_POLICY_REJECT: Policy.REJECT,
    }
)
_RESULT_NUMBERS = MappingProxyType({result: number for number, result in _RESULTS.items()})
_RESULTS_BY_NUMBER = MappingProxyType({int(number): result for number, result in _RESULTS.items()})
_IDENTITY_NUMBERS = MappingProxyType({identity: number for number, identity in _IDENTITIES.items()})
_POLICY_NUMBERS = MappingProxyType({policy: number for number, policy in _POLICIES.items()})


def results_of(given: v1.MessageChecks, field: str = "checks") -> Checks:
    """The results that a gateway sent in `field`. Raises InvalidArgument, which names the bad field."""
    _limit(given.spf, bounds.MAX_SPF, f"{field}.spf")
    _limit(given.dkim, bounds.MAX_DKIM, f"{field}.dkim")
    _limit(given.dns_lists, bounds.MAX_DNS_LISTS, f"{field}.dns_lists")
    return Checks(
        spf=tuple(_spf(one, f"{field}.spf[{at}]") for at, one in enumerate(given.spf)),
        dkim=tuple(_dkim(one, f"{field}.dkim[{at}]") for at, one in enumerate(given.dkim)),
        dmarc=_dmarc(given.dmarc, f"{field}.dmarc") if given.HasField("dmarc") else None,
        arc=_arc(given.arc, f"{field}.arc") if given.HasField("arc") else None,
        reverse_dns=_reverse_dns(given.reverse_dns, f"{field}.reverse_dns") if given.HasField("reverse_dns") else None,
        dns_lists=tuple(_dns_list(one, f"{field}.dns_lists[{at}]") for at, one in enumerate(given.dns_lists)),
        checked_by=_name(given.checked_by, f"{field}.checked_by"),
    )


def client_results_of(given: ClientEvidence, field: str) -> tuple[tuple[SpfResult, ...], ReverseDnsResult | None]:
    """The results for a client that a gateway sent before the content. Raises InvalidArgument."""
    _limit(given.spf, bounds.MAX_SPF, f"{field}.spf")
    return (
        tuple(_spf(one, f"{field}.spf[{at}]") for at, one in enumerate(given.spf)),
        _reverse_dns(given.reverse_dns, f"{field}.reverse_dns") if given.HasField("reverse_dns") else None,
    )


def message_of(checks: Checks) -> v1.MessageChecks:
    """The same results in the contract's form."""
    return v1.MessageChecks(
        spf=[_spf_message(one) for one in checks.spf],
        dkim=[_dkim_message(one) for one in checks.dkim],
        dmarc=None if checks.dmarc is None else _dmarc_message(checks.dmarc),
        arc=None if checks.arc is None else _arc_message(checks.arc),
        reverse_dns=None if checks.reverse_dns is None else _reverse_dns_message(checks.reverse_dns),
        dns_lists=[_dns_list_message(one) for one in checks.dns_lists],
        checked_by=checks.checked_by,
    )


def kept(checks: Checks) -> bytes:
    """The octets that are kept with a message: all results but what was needed at reception alone: the copies
    of other servers' fields in an ARC chain, SPF records, and the addresses that get reports of DMARC.
    """
    made = message_of(checks)
    if made.HasField("arc"):
        made.arc.ClearField("authentication_results")
    if made.HasField("dmarc"):
        made.dmarc.ClearField("report_to")
        made.dmarc.ClearField("failures_to")
    for one in made.spf:
        one.ClearField("record")
    return made.SerializeToString()


def with_checks(listing: Listing, octets: bytes) -> Listing:
    """The listing of a content with the results that were kept (see `kept`); unchanged if it was not checked."""
    if not octets:
        return listing
    return listing._replace(checks=octets, check_results=packed(results_of(v1.MessageChecks.FromString(octets))))


def packed(checks: Checks) -> int:
    """The result of each method in one number, as queries compare it (see CheckMethod).

    SPF has the result for the reverse-path, or else for HELO. DKIM passes if one signature does; else it has the result
    of the first one. DNS lists fail if one for bad clients has the client, and pass if one for good clients has it.
    """
    found: dict[CheckMethod, Result] = {}
    if checks.spf:
        found[CheckMethod.SPF] = max(checks.spf, key=lambda one: one.identity is Identity.MAILFROM).result
    if checks.dkim:
        found[CheckMethod.DKIM] = max(checks.dkim, key=lambda one: one.result is Result.PASS).result
    if checks.dmarc is not None:
        found[CheckMethod.DMARC] = checks.dmarc.result
    if checks.arc is not None:
        found[CheckMethod.ARC] = checks.arc.result
    if checks.reverse_dns is not None:
        found[CheckMethod.REVERSE_DNS] = checks.reverse_dns.result
    if checks.dns_lists:
        found[CheckMethod.DNS_LISTS] = _of_lists(checks.dns_lists)
    return sum(_RESULT_NUMBERS[result] << method.shift for method, result in found.items())


def unpacked(number: int) -> Iterator[tuple[CheckMethod, Result]]:
    """The results in a packed number."""
    for method in CheckMethod:
        result = _RESULTS_BY_NUMBER.get(number >> method.shift & CHECK_MASK)
        if result is not None:
            yield method, result


def _of_lists(lists: Sequence[DnsListResult]) -> Result:
    weights = [one.weight for one in lists if one.listed]
    if any(weight > 0 for weight in weights):
        return Result.FAIL
    if any(weight < 0 for weight in weights):
        return Result.PASS
    return Result.TEMPERROR if all(one.problem for one in lists) else Result.NONE


# --- From the contract --------------------------------------------------------------------------------------------


def _spf(one: v1.SpfCheck, field: str) -> SpfResult:
    identity = _IDENTITIES.get(one.identity)
    if identity is None:
        raise InvalidArgument(field=f"{field}.identity", problem="must be a known value other than UNSPECIFIED")
    return SpfResult(
        _result(one.result, OF_SPF, field),
        identity,
        _name(one.domain, f"{field}.domain"),
        _text(one.mechanism, f"{field}.mechanism"),
        _text(one.explanation, f"{field}.explanation"),
        _text(one.problem, f"{field}.problem"),
        _text(one.record, f"{field}.record"),
    )


def _dkim(one: v1.DkimCheck, field: str) -> DkimResult:
    if one.key_bits < 0:
        raise InvalidArgument(field=f"{field}.key_bits", problem="must not be negative")
    return DkimResult(
        _result(one.result, OF_DKIM, field),
        _name(one.domain, f"{field}.domain"),
        _name(one.selector, f"{field}.selector"),
        _text(one.identity, f"{field}.identity"),
        _text(one.algorithm, f"{field}.algorithm", bounds.TOKEN_OCTETS),
        one.key_bits,
        _text(one.signature_start, f"{field}.signature_start", bounds.TOKEN_OCTETS),
        one.testing,
        one.partial,
        _text(one.problem, f"{field}.problem"),
    )


def _dmarc(one: v1.DmarcCheck, field: str) -> DmarcResult:
    policy = _POLICIES.get(one.policy)
    if policy is None:
        raise InvalidArgument(field=f"{field}.policy", problem="must be a known value")
    return DmarcResult(
        _result(one.result, OF_DMARC, field),
        _name(one.author_domain, f"{field}.author_domain"),
        _name(one.policy_domain, f"{field}.policy_domain"),
        _name(one.organizational_domain, f"{field}.organizational_domain"),
        policy,
        _text(one.record, f"{field}.record", bounds.RECORD_OCTETS),
        one.testing,
        one.spf_aligned,
        one.dkim_aligned,
        _text(one.problem, f"{field}.problem"),
        _addresses(one.report_to, f"{field}.report_to"),
        _addresses(one.failures_to, f"{field}.failures_to"),
    )


def _addresses(given: Sequence[str], field: str) -> tuple[str, ...]:
    _limit(given, bounds.MAX_REPORT_ADDRESSES, field)
    return tuple(_text(address, f"{field}[{at}]") for at, address in enumerate(given))


def _arc(one: v1.ArcCheck, field: str) -> ArcResult:
    _limit(one.sealers, bounds.MAX_SEALERS, f"{field}.sealers")
    _limit(one.authentication_results, bounds.MAX_SEALERS, f"{field}.authentication_results")
    if one.oldest_pass < 0:
        raise InvalidArgument(field=f"{field}.oldest_pass", problem="must not be negative")
    chain = f"{field}.authentication_results"
    values = [
        _text(value, f"{chain}[{at}]", bounds.RECORD_OCTETS) for at, value in enumerate(one.authentication_results)
    ]
    if sum(len(value.encode()) for value in values) > bounds.CHAIN_OCTETS:
        raise InvalidArgument(field=chain, problem=f"must have at most {bounds.CHAIN_OCTETS} octets together")
    return ArcResult(
        _result(one.result, OF_ARC, field),
        tuple(_name(name, f"{field}.sealers[{at}]") for at, name in enumerate(one.sealers)),
        one.oldest_pass,
        tuple(values),
        _text(one.problem, f"{field}.problem"),
    )


def _reverse_dns(one: v1.ReverseDnsCheck, field: str) -> ReverseDnsResult:
    return ReverseDnsResult(_result(one.result, OF_REVERSE_DNS, field), _name(one.name, f"{field}.name"))


def _dns_list(one: v1.DnsListCheck, field: str) -> DnsListResult:
    _limit(one.answers, bounds.MAX_ANSWERS, f"{field}.answers")
    if not -bounds.MAX_WEIGHT <= one.weight <= bounds.MAX_WEIGHT:  # false for NaN, too
        most = f"{bounds.MAX_WEIGHT:g}"
        raise InvalidArgument(field=f"{field}.weight", problem=f"must be from -{most} to {most}")
    answers = (_text(text, f"{field}.answers[{at}]", bounds.TOKEN_OCTETS) for at, text in enumerate(one.answers))
    return DnsListResult(
        _name(one.dns_zone, f"{field}.dns_zone"),
        one.listed,
        tuple(answers),
        one.weight,
        _text(one.problem, f"{field}.problem"),
    )


def _result(given: v1.CheckResult.ValueType, allowed: frozenset[Result], field: str) -> Result:
    result = _RESULTS.get(given)
    if result is None or result not in allowed:
        names = ", ".join(sorted(one.name for one in allowed))
        raise InvalidArgument(field=f"{field}.result", problem=f"must be one of {names}")
    return result


def _name(given: str, field: str) -> str:
    return _text(given, field, bounds.NAME_OCTETS)


def _text(given: str, field: str, limit: int = bounds.TEXT_OCTETS) -> str:
    problem = bounds.problem_of(given, limit)
    if problem:
        raise InvalidArgument(field=field, problem=problem)
    return given


def _limit(given: Sequence[object], most: int, field: str) -> None:
    if len(given) > most:
        raise InvalidArgument(field=field, problem=f"must have at most {most} entries")


# --- To the contract ----------------------------------------------------------------------------------------------


def _spf_message(one: SpfResult) -> v1.SpfCheck:
    return v1.SpfCheck(
        result=_RESULT_NUMBERS[one.result],
        identity=_IDENTITY_NUMBERS[one.identity],
        domain=one.domain,
        mechanism=one.mechanism,
        explanation=one.explanation,
        problem=one.problem,
        record=one.record,
    )


def _dkim_message(one: DkimResult) -> v1.DkimCheck:
    return v1.DkimCheck(
        result=_RESULT_NUMBERS[one.result],
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


def _dmarc_message(one: DmarcResult) -> v1.DmarcCheck:
    return v1.DmarcCheck(
        result=_RESULT_NUMBERS[one.result],
        author_domain=one.author_domain,
        policy_domain=one.policy_domain,
        organizational_domain=one.organizational_domain,
        policy=_POLICY_NUMBERS[one.policy],
        record=one.record,
        testing=one.testing,
        spf_aligned=one.spf_aligned,
        dkim_aligned=one.dkim_aligned,
        problem=one.problem,
        report_to=one.report_to,
        failures_to=one.failures_to,
    )


def _arc_message(one: ArcResult) -> v1.ArcCheck:
    return v1.ArcCheck(
        result=_RESULT_NUMBERS[one.result],
        sealers=one.sealers,
        oldest_pass=one.oldest_pass,
        authentication_results=one.authentication_results,
        problem=one.problem,
    )


def _reverse_dns_message(one: ReverseDnsResult) -> v1.ReverseDnsCheck:
    return v1.ReverseDnsCheck(result=_RESULT_NUMBERS[one.result], name=one.name)


def _dns_list_message(one: DnsListResult) -> v1.DnsListCheck:
    return v1.DnsListCheck(
        dns_zone=one.zone, listed=one.listed, answers=one.answers, weight=one.weight, problem=one.problem
    )
