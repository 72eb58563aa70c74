"""The values of a DMARC aggregate report (RFC 9990 3.1). *Pure.* `aggregate_xml` writes and reads them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PublishedPolicy:
    """The policy record of a domain, with the defaults of absent tags (RFC 9989 4.7)."""

    domain: str  # at which the record was found
    policy: str  # p=: none, quarantine or reject
    subdomain_policy: str = ""  # sp=; "": not known
    nonexistent_policy: str = ""  # np=; "": not known
    dkim_alignment: str = ""  # adkim=: r or s; "": not known
    spf_alignment: str = ""  # aspf=: r or s; "": not known
    failure_options: str = ""  # fo=; "": not known
    testing: bool = False  # t=y
    discovery_method: str = ""  # treewalk or psl; "": not known


@dataclass(frozen=True, slots=True)
class DkimAuthentication:
    """The result of one DKIM signature, whether aligned or not."""

    domain: str  # d=
    selector: str  # s=; "": not known
    result: str  # RFC 8601 2.7.1
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class SpfAuthentication:
    """The result of SPF for the reverse-path, whether aligned or not."""

    domain: str
    result: str  # RFC 8601 2.7.2
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class Override:
    """The reason for another disposition than the policy demands (RFC 9990 3.1.6)."""

    kind: str  # local_policy, mailing_list, other, policy_test_mode or trusted_forwarder
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """The facts that a number of messages have in common."""

    source_address: str
    disposition: str  # none, pass, quarantine or reject
    dkim_aligned: bool
    spf_aligned: bool
    header_from: str  # domain
    envelope_from: str = ""  # domain; "": the null path, or not known
    envelope_to: str = ""  # domain; "": not known
    overrides: tuple[Override, ...] = ()
    dkim: tuple[DkimAuthentication, ...] = ()
    spf: SpfAuthentication | None = None


@dataclass(frozen=True, slots=True)
class AggregateReport:
    """One report: of one receiver, about one policy domain and one period."""

    organization: str  # of the receiver
    email: str  # its contact
    report_id: str
    begin: int  # seconds since 1970
    end: int  # seconds since 1970
    published: PublishedPolicy
    rows: tuple[tuple[Row, int], ...]  # with the number of messages
    contact: str = ""  # more about the contact
    errors: tuple[str, ...] = ()  # of the policy record
    generator: str = ""  # the program that wrote the report
