"""The kinds of policy and the results of a TLS session that reports name (RFC 8460 4.2, 4.3). *Pure.*"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class PolicyKind(Enum):
    """The kind of policy that applied. The value is its keyword (RFC 8460 4.2)."""

    NONE = "no-policy-found"
    STS = "sts"
    TLSA = "tlsa"


class TlsResult(Enum):
    """The type of a failure. The value is its keyword (RFC 8460 4.3)."""

    STARTTLS_NOT_SUPPORTED = "starttls-not-supported"
    CERTIFICATE_HOST_MISMATCH = "certificate-host-mismatch"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_NOT_TRUSTED = "certificate-not-trusted"
    VALIDATION_FAILURE = "validation-failure"
    TLSA_INVALID = "tlsa-invalid"
    DNSSEC_INVALID = "dnssec-invalid"
    DANE_REQUIRED = "dane-required"
    STS_POLICY_FETCH_ERROR = "sts-policy-fetch-error"
    STS_POLICY_INVALID = "sts-policy-invalid"
    STS_WEBPKI_INVALID = "sts-webpki-invalid"


@dataclass(frozen=True, slots=True)
class TlsPolicy:
    """A policy as it applied to the mail of one domain."""

    domain: str  # the policy domain, in A-labels
    kind: PolicyKind = PolicyKind.NONE
    lines: tuple[str, ...] = ()  # of the policy, or its TLSA records
    patterns: tuple[str, ...] = ()  # mx patterns of an MTA-STS policy
