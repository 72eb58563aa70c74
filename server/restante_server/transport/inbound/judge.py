"""The policy for checked mail: the results of its checks give a verdict for each recipient's domain. *Pure.*

`find` reads the results once for a message, and `judge` applies the settings of a recipient's domain to what it has
found (docs/design.md "Checked mail"). Mail that was not checked is never judged here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from restante_mail.authentication.results import ArcResult, Checks, DmarcResult, Identity, Policy, Result
from restante_mail.header.authres import MethodResult, method_results
from restante_server.directory.check_rules import CheckSettings, DomainRules, OnFailure

_SHOWN = 100  # characters of a name in a reason
_SHOWN_LISTS = 3


class Action(IntEnum):
    """The treatment of a message for one recipient, from mild to severe."""

    DELIVER = 0
    JUNK = 1
    REFUSE = 2


class Verdict(NamedTuple):
    """The treatment with its reason."""

    action: Action = Action.DELIVER
    check: str = ""  # that decided: dmarc, forged or dnslist
    domain: str = ""  # that it speaks of
    reason: str = ""  # one line of ASCII, for the trace and the refusal; "": nothing to say


class Claimed(NamedTuple):
    """The domains that a message claims to be from, in A-labels and lower case."""

    authors: frozenset[str]  # of From
    reverse_path: str  # "": the null path


@dataclass(frozen=True, slots=True)
class Findings:
    """The failures of one message."""

    dmarc: DmarcResult | None = None  # failed, and the author's domain wishes a treatment
    override: str = ""  # the trusted sealer for whose results this failure counts for nothing
    evidence: str = ""  # beside the failure of DMARC; "": none
    forged: str = ""  # the local domain that the message claims
    weight: float = 0.0  # of the DNS lists that have the client
    lists: tuple[str, ...] = ()  # their zones


NOTHING = Findings()


def find(checks: Checks, claimed: Claimed, local: Collection[str], settings: CheckSettings) -> Findings:
    """The findings against a message. `local` has those of the claimed domains that are local domains."""
    listed = [one for one in checks.dns_lists if one.listed]
    weight = sum(one.weight for one in listed)
    dmarc = checks.dmarc
    if dmarc is not None and (dmarc.result is not Result.FAIL or dmarc.policy is Policy.NONE):
        dmarc = None
    failed_domain = dmarc.author_domain.lower() if dmarc is not None else ""
    return Findings(
        dmarc,
        _vouching_sealer(checks.arc, failed_domain, settings.trusted_sealers) if dmarc is not None else "",
        _evidence(checks, weight, settings),
        _forged(checks, claimed, local, settings),
        weight,
        tuple(one.zone for one in listed if one.weight > 0),
    )


def judge(found: Findings, rules: DomainRules, settings: CheckSettings) -> Verdict:
    """The verdict for recipients of a domain: the most severe of those of the single checks."""
    if found == NOTHING:
        return Verdict()
    verdicts = (_by_dmarc(found, rules), _by_forgery(found, rules), _by_lists(found, settings))
    return max(verdicts, key=lambda verdict: (verdict.action, bool(verdict.reason)))


def _by_dmarc(found: Findings, rules: DomainRules) -> Verdict:
    dmarc = found.dmarc
    if dmarc is None or rules.failed_dmarc is OnFailure.NONE:
        return Verdict()
    name = shown(dmarc.author_domain)
    if found.override:
        reason = f"DMARC fails for {name}, but the trusted ARC sealer {shown(found.override)} has seen it pass"
        return Verdict(Action.DELIVER, "dmarc", name, reason)
    reason = f"DMARC fails for {name}, whose policy is {dmarc.policy.value}"
    if dmarc.policy is not Policy.REJECT:
        return Verdict(Action.JUNK, "dmarc", name, reason)
    if rules.failed_dmarc is OnFailure.REJECT:
        return Verdict(Action.REFUSE, "dmarc", name, reason)
    if found.evidence:
        return Verdict(Action.REFUSE, "dmarc", name, f"{reason}; {found.evidence}")
    return Verdict(Action.JUNK, "dmarc", name, reason)


def _by_forgery(found: Findings, rules: DomainRules) -> Verdict:
    if not found.forged or rules.forged_sender is OnFailure.NONE:
        return Verdict()
    name = shown(found.forged)
    action = Action.REFUSE if rules.forged_sender is OnFailure.REJECT else Action.JUNK
    return Verdict(
        action, "forged", name, f"mail from outside claims the local domain {name}, and no check confirms it"
    )


def _by_lists(found: Findings, settings: CheckSettings) -> Verdict:
    action = Action.DELIVER
    if 0 < settings.junk_weight <= found.weight:
        action = Action.JUNK
    if 0 < settings.refuse_weight <= found.weight:
        action = Action.REFUSE
    if action is Action.DELIVER or not found.lists:
        return Verdict()
    first = shown(found.lists[0])
    return Verdict(action, "dnslist", first, f"the client is in {_lists(found.lists)} (weight {found.weight:g})")


def local_override(found: Findings) -> str:
    """The reason for which a failure of DMARC counts for nothing, for Authentication-Results; "" if it counts."""
    return f"local policy: the ARC sealer {shown(found.override)} is trusted" if found.override else ""


# --- What speaks against a message --------------------------------------------------------------------------------


def _evidence(checks: Checks, weight: float, settings: CheckSettings) -> str:
    """The evidence that confirms a failure of DMARC. With it, a domain with p=reject needs no setting.

    A forwarder breaks SPF, and a mailing list breaks signatures, but hardly one does both for mail that its author has
    signed, and none of them is on DNS lists.
    """
    if 0 < settings.junk_weight <= weight:
        return f"the client has the weight {weight:g} on DNS lists"
    spf_fails = any(one.identity is Identity.MAILFROM and one.result is Result.FAIL for one in checks.spf)
    signed = any(one.result in (Result.PASS, Result.TEMPERROR) for one in checks.dkim)
    sealed = checks.arc is not None and checks.arc.result in (Result.PASS, Result.TEMPERROR)
    return "SPF fails, too, and no signature passes" if spf_fails and not signed and not sealed else ""


def _forged(checks: Checks, named: Claimed, local: Collection[str], settings: CheckSettings) -> str:
    """The local domain that a message claims and no check confirms; "" if there is none, or if nothing can be said now.

    A reverse-path alone is no forgery where the author's domain is confirmed, as with a report that comes back.
    """
    claimed = sorted(domain for domain in named.authors if domain in local)
    authors_confirmed = bool(named.authors) and all(_confirmed(checks, domain) for domain in named.authors)
    if named.reverse_path in local and not authors_confirmed:
        claimed.append(named.reverse_path)
    if not claimed or _undecided(checks):
        return ""
    for domain in claimed:
        if not _confirmed(checks, domain) and not _vouching_sealer(checks.arc, domain, settings.trusted_sealers):
            return domain
    return ""


def _undecided(checks: Checks) -> bool:
    """Whether nothing was checked, or a check may have another result later."""
    results = [one.result for one in checks.spf] + [one.result for one in checks.dkim]
    if checks.dmarc is not None:
        results.append(checks.dmarc.result)
    return not results or Result.TEMPERROR in results


def _confirmed(checks: Checks, domain: str) -> bool:
    """Whether DMARC, a signature or SPF has shown that the message is from a domain, in relaxed alignment."""
    dmarc = checks.dmarc
    if dmarc is not None and dmarc.result is Result.PASS and dmarc.author_domain.lower() == domain:
        return True
    if any(one.authenticates and _aligned(one.domain, domain) for one in checks.dkim):
        return True
    return any(
        one.result is Result.PASS and one.identity is Identity.MAILFROM and _aligned(one.domain, domain)
        for one in checks.spf
    )


def _aligned(one: str, other: str) -> bool:
    """Whether two domains are the same, or one is below the other and neither is a top level."""
    one, other = one.lower().rstrip("."), other.lower().rstrip(".")
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    return longer == shorter or ("." in shorter and longer.endswith(f".{shorter}"))


def _vouching_sealer(arc: ArcResult | None, domain: str, trusted: frozenset[str]) -> str:
    """The trusted sealer of a passing chain whose results confirm a domain; "" if there is none.

    Every sealer behind it must be trusted, too: each may have changed the message, and it alone says how it came.
    """
    if arc is None or arc.result is not Result.PASS or not trusted:
        return ""
    sealed = list(zip(arc.sealers, arc.authentication_results, strict=False))
    for sealer, results in reversed(sealed):
        if sealer.lower() not in trusted:
            return ""
        if any(_confirms(result, domain) for result in method_results(results)):
            return sealer
    return ""


_NAMED_BY = {"dmarc": "header.from", "dkim": "header.d", "spf": "smtp.mailfrom"}


def _confirms(result: MethodResult, domain: str) -> bool:
    named = result.properties.get(_NAMED_BY.get(result.method, ""), "").rpartition("@")[2]
    return result.result == Result.PASS.value and bool(named) and _aligned(named, domain)


def shown(name: str) -> str:
    """A name for a reason: cut, and in ASCII, since a reason may become the text of a reply."""
    return name[:_SHOWN].encode("ascii", "replace").decode("ascii")


def _lists(zones: tuple[str, ...]) -> str:
    named = ", ".join(map(shown, zones[:_SHOWN_LISTS]))
    return named if len(zones) <= _SHOWN_LISTS else f"{named} and {len(zones) - _SHOWN_LISTS} more"
