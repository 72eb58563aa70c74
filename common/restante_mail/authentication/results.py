"""The results of the checks of one message (RFC 8601 2.7). *Pure.*"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Result(Enum):
    """The result of one method. The value is its keyword in Authentication-Results (RFC 8601 2.7)."""

    NONE = "none"
    PASS = "pass"  # noqa: S105 - no password
    FAIL = "fail"
    SOFTFAIL = "softfail"
    NEUTRAL = "neutral"
    POLICY = "policy"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


# The results that each method has (RFC 8601 2.7).
OF_SPF = frozenset(Result) - {Result.POLICY}
OF_DKIM = frozenset(Result) - {Result.SOFTFAIL}
OF_DMARC = frozenset((Result.NONE, Result.PASS, Result.FAIL, Result.TEMPERROR, Result.PERMERROR))
OF_ARC = frozenset((Result.NONE, Result.PASS, Result.FAIL, Result.TEMPERROR))
OF_REVERSE_DNS = frozenset((Result.PASS, Result.FAIL, Result.TEMPERROR, Result.PERMERROR))


class Identity(Enum):
    """The identity that SPF has checked. The value is its property in Authentication-Results (RFC 8601 2.7.2)."""

    MAILFROM = "mailfrom"
    HELO = "helo"


class Policy(Enum):
    """The wish of a domain for messages that fail DMARC (RFC 9989)."""

    NONE = "none"
    QUARANTINE = "quarantine"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class SpfResult:
    """The result of SPF (RFC 7208 2.6)."""

    result: Result
    identity: Identity
    domain: str  # checked; of the reverse-path or of HELO, in A-labels
    mechanism: str = ""  # that matched, as the record has it; "": the default
    explanation: str = ""  # of a fail, in the words of the domain (RFC 7208 6.2)
    problem: str = ""  # of a permerror, temperror or none: the reason
    record: str = ""  # of the domain, as published; "": there is none


@dataclass(frozen=True, slots=True)
class DkimResult:
    """The result for one DKIM signature (RFC 6376 6.1)."""

    result: Result
    domain: str = ""  # d=
    selector: str = ""  # s=
    identity: str = ""  # i=, or its default "@" and d=
    algorithm: str = ""  # a=
    key_bits: int = 0  # size of the public key; 0: not known
    signature_start: str = ""  # the first octets of b=, which tell signatures apart (RFC 6008)
    testing: bool = False  # the key has t=y
    partial: bool = False  # l= leaves octets of the body unsigned
    problem: str = ""  # the reason of every result but pass

    @property
    def authenticates(self) -> bool:
        """Whether the whole message is signed by `domain`. Anyone may add to octets that l= leaves unsigned."""
        return self.result is Result.PASS and not self.partial


@dataclass(frozen=True, slots=True)
class DmarcResult:
    """The result of DMARC (RFC 9989)."""

    result: Result
    author_domain: str = ""  # of From, in A-labels
    policy_domain: str = ""  # at which the policy record was found
    organizational_domain: str = ""
    policy: Policy = Policy.NONE  # that applies: p=, sp= or np=, lowered one step by t=y
    record: str = ""  # the policy record, as published
    testing: bool = False  # t=y
    spf_aligned: bool = False  # SPF passed, aligned with the author's domain
    dkim_aligned: bool = False  # a DKIM signature passed, aligned with the author's domain
    problem: str = ""  # the reason of a permerror, temperror or none
    report_to: tuple[str, ...] = ()  # addresses that may get aggregate reports (RFC 9990 4)
    failures_to: tuple[str, ...] = ()  # addresses that may get a failure report about this message (RFC 9991 5)


@dataclass(frozen=True, slots=True)
class ArcResult:
    """The result for an ARC chain (RFC 8617 5.2)."""

    result: Result  # none, pass, fail or temperror
    sealers: tuple[str, ...] = ()  # d= of each ARC-Seal, from instance 1 on
    oldest_pass: int = 0  # RFC 8617 5.2: the oldest instance whose message signature still passes; 0: every one
    authentication_results: tuple[str, ...] = ()  # of each set from instance 1 on: the field's value behind i=
    problem: str = ""  # the reason of a fail or temperror


@dataclass(frozen=True, slots=True)
class ReverseDnsResult:
    """The result of the reverse DNS check: an address of the client's name is the client's (RFC 8601 2.7.3)."""

    result: Result  # pass, fail, temperror or permerror
    name: str = ""  # the confirmed name


@dataclass(frozen=True, slots=True)
class DnsListResult:
    """The answer of one DNS list about the client (RFC 5782)."""

    zone: str
    listed: bool = False
    answers: tuple[str, ...] = ()  # the addresses in the answer
    weight: float = 0.0  # of the list, when it lists the client
    problem: str = ""  # the reason for no usable answer


@dataclass(frozen=True, slots=True)
class Checks:
    """All results for one message. None and () mean that the check was not made."""

    spf: tuple[SpfResult, ...] = ()  # of HELO and of the reverse-path
    dkim: tuple[DkimResult, ...] = ()
    dmarc: DmarcResult | None = None
    arc: ArcResult | None = None
    reverse_dns: ReverseDnsResult | None = None
    dns_lists: tuple[DnsListResult, ...] = ()
    checked_by: str = ""  # the server whose Authentication-Results say this; "": this installation has checked
