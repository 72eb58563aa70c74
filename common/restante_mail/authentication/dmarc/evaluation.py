"""DMARC: whether SPF or DKIM has authenticated the domain in From (RFC 9989 5.3). *Pure.*"""

from __future__ import annotations

from collections.abc import Sequence

from restante_mail.authentication.dmarc.author import Author
from restante_mail.authentication.dmarc.record import Record
from restante_mail.authentication.dmarc.tree_walk import TreeWalk
from restante_mail.authentication.dns import Dns, DnsFailure
from restante_mail.authentication.results import DkimResult, DmarcResult, Identity, Policy, Result, SpfResult

__all__ = ["dmarc"]

MAX_AUTHOR_DOMAINS = 4  # of one message that are looked up
MAX_SIGNERS = 10  # domains of DKIM signatures that are compared with one author's domain

_LOWERED = {Policy.REJECT: Policy.QUARANTINE, Policy.QUARANTINE: Policy.NONE, Policy.NONE: Policy.NONE}
_STRICTNESS = {Policy.NONE: 0, Policy.QUARANTINE: 1, Policy.REJECT: 2}
# Of a message with several author's domains, the worst result counts, so that a second one hides no failure.
_BADNESS = {Result.PASS: 0, Result.NONE: 1, Result.PERMERROR: 2, Result.TEMPERROR: 3, Result.FAIL: 4}


async def dmarc(author: Author, spf: Sequence[SpfResult], dkim: Sequence[DkimResult], dns: Dns) -> DmarcResult:
    """The result for a message.

    `spf` has the result for the reverse-path, or for a null one that of HELO. RFC 9989 5.3.1 leaves a From with several
    domains to the receiver: each is evaluated, up to MAX_AUTHOR_DOMAINS, and the worst result is returned. So a mailbox
    without a domain hides no failure of another.
    """
    problem, domains = author.problem, author.domains
    if len(domains) > MAX_AUTHOR_DOMAINS:
        problem = f"From has mailboxes of more than {MAX_AUTHOR_DOMAINS} domains"
        half = MAX_AUTHOR_DOMAINS // 2
        domains = (*domains[:half], *domains[-half:])  # programs show the first mailbox, or that of the last field
    walk = TreeWalk(dns)
    results = [await _Evaluation(domain, spf, dkim, dns, walk).result() for domain in domains]
    if problem:
        results.append(DmarcResult(Result.PERMERROR, domains[0] if domains else "", problem=problem))
    return max(results, key=lambda result: (_BADNESS[result.result], _STRICTNESS[result.policy]))


class _Evaluation:
    """The evaluation for one author's domain."""

    def __init__(
        self, domain: str, spf: Sequence[SpfResult], dkim: Sequence[DkimResult], dns: Dns, walk: TreeWalk
    ) -> None:
        self._domain, self._dns, self._walk = domain, dns, walk
        self._spf = [one for one in spf if one.identity is Identity.MAILFROM] or list(spf)
        self._dkim = dkim
        self._organizational: str | None = None
        self._problem = ""  # the first answer that is missing

    async def result(self) -> DmarcResult:
        """The result, from the policy record on."""
        try:
            found = await self._walk.policy(self._domain)
        except DnsFailure as error:
            return DmarcResult(Result.TEMPERROR, self._domain, problem=f"policy of {self._domain}: {error}")
        if found is None:
            return DmarcResult(Result.NONE, self._domain, problem="no DMARC policy is published")
        policy_domain, record = found
        if record.problem:  # RFC 9989 4.10.1: such a record gives no policy
            return DmarcResult(
                Result.NONE,
                self._domain,
                policy_domain,
                record=record.text,
                testing=record.testing,
                problem=record.problem,
            )
        return await self._evaluated(policy_domain, record)

    async def _evaluated(self, policy_domain: str, record: Record) -> DmarcResult:
        spf, dkim = await self._aligned_with(record)
        subdomain = policy_domain != self._domain
        asks = subdomain and not (spf or dkim) and record.nonexistent_policy is not None
        policy = record.policy_for(subdomain=subdomain, exists=await self._exists() if asks else True)
        if spf or dkim:
            result = Result.PASS
        else:  # RFC 9989 5.3.6: without all answers it neither passes nor fails
            result = Result.TEMPERROR if self._problem else Result.FAIL
        return DmarcResult(
            result,
            self._domain,
            policy_domain,
            self._organizational or self._domain,
            Policy.NONE if result is Result.TEMPERROR else _LOWERED[policy] if record.testing else policy,
            record.text,
            record.testing,
            spf,
            dkim,
            self._problem if result is Result.TEMPERROR else "",
        )

    async def _aligned_with(self, record: Record) -> tuple[bool, bool]:
        """Whether SPF and DKIM have authenticated an aligned domain."""
        spf = await self._any_aligned(
            [one.domain for one in self._spf if one.result is Result.PASS],
            [one.domain for one in self._spf if one.result is Result.TEMPERROR],
            record.strict_spf,
        )
        dkim = await self._any_aligned(
            [one.domain for one in self._dkim if one.authenticates],
            [one.domain for one in self._dkim if one.result is Result.TEMPERROR],
            record.strict_dkim,
        )
        return spf, dkim

    async def _exists(self) -> bool:
        try:
            return await self._dns.exists(self._domain)
        except DnsFailure as error:
            self._problem = self._problem or f"whether {self._domain} exists: {error}"
            return True

    async def _any_aligned(self, passed: Sequence[str], unknown: Sequence[str], strict: bool) -> bool:
        """Whether one of the domains that passed is aligned. Notes a problem when one of the unknown may be."""
        for domain in [*dict.fromkeys(passed)][:MAX_SIGNERS]:
            if await self._aligned(domain.lower(), strict):
                return True
        for domain in [*dict.fromkeys(unknown)][:MAX_SIGNERS]:
            if await self._aligned(domain.lower(), strict):
                self._problem = self._problem or f"SPF or DKIM of {domain} has no result yet"
        return False

    async def _aligned(self, domain: str, strict: bool) -> bool:
        """Identifier alignment (RFC 9989 4.4, 4.10.2). A missing answer is noted as the problem."""
        if domain == self._domain or strict:
            return domain == self._domain
        try:
            if self._organizational is None:
                self._organizational = await self._walk.organizational_domain(self._domain)
            if domain != self._organizational and not domain.endswith("." + self._organizational):
                return False  # an organizational domain is at the end of all its domains
            return await self._walk.organizational_domain(domain) == self._organizational
        except DnsFailure as error:
            self._problem = self._problem or f"organizational domain of {domain}: {error}"
            return False
