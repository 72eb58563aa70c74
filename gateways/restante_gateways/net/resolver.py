"""The mail servers of a domain: MX records, then addresses (RFC 5321 5.1, RFC 7505); TLSA and TXT records.

With `validating`, an answer with the AD bit is secure: a name server on this machine has validated it by DNSSEC
(RFC 6840 5.8). Without it, no answer is secure.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.name
import dns.rdatatype
import dns.resolver
from dns.nameserver import Do53Nameserver
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.TLSA import TLSA
from dns.rdtypes.ANY.TXT import TXT

from restante_gateways.net.dns_cache import BoundedCache
from restante_mail.authentication.dane import MAX_RECORDS, TlsaRecord
from restante_process.addresses import parse_address

MAX_HOSTS = 20  # of one domain; a longer list is cut
MAX_ADDRESSES = 6  # of one host
MAX_TEXTS = 20  # TXT records of one name
UDP_OCTETS = 1_232  # of an answer; a longer one comes over TCP


# Errors for text that is not a domain name.
IMPOSSIBLE = (dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel, dns.name.BadEscape)


class LookupFailed(Exception):
    """The DNS gave no answer now, but may give one later."""


class NoSuchDomain(Exception):
    """The domain does not exist, cannot exist, or has neither MX nor address."""


class TakesNoMail(Exception):
    """The domain has a null MX: it accepts no mail (RFC 7505)."""


class LoopsBack(Exception):
    """This server is the preferred server of the domain (RFC 5321 5.1)."""


@dataclass(frozen=True, slots=True)
class MailServer:
    """A host that accepts mail for a domain."""

    preference: int  # lower is tried first
    host: str  # lower case, no final dot
    secure: bool = False  # the records that name it are secure; of an implicit MX: the denial of MX records


@dataclass(frozen=True, slots=True)
class Host:
    """The addresses of a host name, and what of the answer is secure."""

    addresses: tuple[str, ...] = ()  # at most 6, alternating IPv6 and IPv4
    canonical: str = ""  # the name that has the addresses, at the end of the CNAMEs
    secure: bool = False  # every CNAME and address is
    alias_secure: bool = False  # the first CNAME is, which begins at the host name itself


@dataclass(frozen=True, slots=True)
class Nameserver:
    """One DNS server."""

    address: str
    port: int = 53

    @classmethod
    def parse(cls, text: str) -> Nameserver:
        """Parse ADDRESS, ADDRESS:PORT or [IPV6]:PORT. Raises ValueError."""
        if text.startswith("["):
            address, closed, port = text[1:].partition("]")
            if not closed:
                raise ValueError(f"{text!r} has no closing bracket")
            return cls(str(parse_address(address)), int(port.removeprefix(":")) if port else 53)
        if text.count(":") == 1:
            address, _, port = text.partition(":")
            return cls(str(parse_address(address)), int(port))
        return cls(str(parse_address(text)))


class Resolver:
    """Queries the DNS. Answers are cached for their time to live."""

    def __init__(
        self,
        nameservers: Sequence[str],
        own_names: Sequence[str],
        *,
        lookup_seconds: float = 20.0,
        validating: bool = False,
    ) -> None:
        """`nameservers` are in the syntax of `Nameserver.parse`; if empty, the system's are used. `own_names` are this
        server's names in MX records. `lookup_seconds` limits one question over all servers. `validating` name servers
        must be named, and on loopback: anybody on a network could set the AD bit (RFC 7672 2.1.1).

        Raises ValueError, and dns.resolver.NoResolverConfiguration if the system has no name servers.
        """
        servers = [Nameserver.parse(text) for text in nameservers]
        if validating and not (servers and all(parse_address(server.address).is_loopback for server in servers)):
            raise ValueError("relay.dnssec needs relay.nameservers, all of them on loopback")
        self._validating = validating
        self._resolver = dns.asyncresolver.Resolver(configure=not nameservers)
        if nameservers:
            self._resolver.nameservers = [Do53Nameserver(server.address, server.port) for server in servers]
        if validating:
            self._resolver.set_flags(dns.flags.RD | dns.flags.AD)  # RFC 6840 5.7
            self._resolver.use_edns(0, 0, UDP_OCTETS)
        self._resolver.lifetime = lookup_seconds
        self._resolver.cache = BoundedCache()
        self._own = {name.rstrip(".").lower() for name in own_names}

    async def servers(self, domain: str) -> list[MailServer]:
        """Servers in the order to try, equal preferences shuffled; the domain itself if it has no MX.

        Leaves out this server and all of the same or a higher preference number, which would send the mail back.
        `domain` is in A-labels. Raises LookupFailed, NoSuchDomain, TakesNoMail, LoopsBack.
        """
        found, secure = await self._mx(domain)
        if not found:
            found = [MailServer(0, domain.lower().rstrip("."))]  # RFC 5321 5.1: the implicit MX
        found = [replace(server, secure=secure) for server in found]
        if any(not server.host for server in found):
            if len(found) == 1:
                raise TakesNoMail(domain)
            found = [server for server in found if server.host]  # RFC 7505 3: a null MX beside others is ignored
        own = min((server.preference for server in found if server.host in self._own), default=None)
        if own is not None:
            found = [server for server in found if server.preference < own]
            if not found:
                raise LoopsBack(domain)
        random.shuffle(found)
        return sorted(found, key=lambda server: server.preference)[:MAX_HOSTS]

    async def addresses(self, host: str) -> list[str]:
        """At most 6 addresses of a host, alternating IPv6 and IPv4; may be empty. Raises LookupFailed."""
        return list((await self.host(host)).addresses)

    async def host(self, host: str) -> Host:
        """The addresses of a host, none if it has none. Raises LookupFailed."""
        found: list[list[str]] = []
        problem: LookupFailed | None = None
        canonical, secure = host.lower().rstrip("."), self._validating
        for kind in (dns.rdatatype.AAAA, dns.rdatatype.A):
            try:
                answer = await self._resolver.resolve(host, kind, search=False)
            except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, *IMPOSSIBLE):
                continue
            except dns.exception.DNSException as error:
                problem = LookupFailed(f"{host}: {_problem(error)}")
                continue
            found.append([record.to_text() for record in answer])
            canonical, secure = _text(answer.canonical_name), secure and self._secure(answer)
        if not found and problem is not None:
            raise problem
        # Alternating, so that a network without IPv6 does not use up the attempt.
        addresses = [address for address in chain(*zip_longest(*found)) if address is not None][:MAX_ADDRESSES]
        secure = secure and bool(found)
        alias = canonical != host.lower().rstrip(".")
        alias_secure = alias and self._validating and (secure or await self._secure_alias(host))
        return Host(tuple(addresses), canonical, secure, alias_secure)

    async def tlsa(self, host: str, port: int) -> list[TlsaRecord]:
        """The secure TLSA records of a host's port, at most 30; none if they are not secure (RFC 7672 2.2).

        Raises LookupFailed, also when the validation has failed.
        """
        name = f"_{port}._tcp.{host}"
        answer = await self._records(name, dns.rdatatype.TLSA)
        if answer is None or not self._secure(answer):
            return []
        found = [
            TlsaRecord(record.usage, record.selector, record.mtype, record.cert)
            for record in answer
            if isinstance(record, TLSA)
        ]
        return sorted(found)[:MAX_RECORDS]

    async def txt(self, name: str) -> list[bytes]:
        """The TXT records of a name, each with its character-strings joined, at most 20. Raises LookupFailed."""
        answer = await self._records(name, dns.rdatatype.TXT)
        found = [b"".join(record.strings) for record in answer or () if isinstance(record, TXT)]
        return found[:MAX_TEXTS]

    async def _records(self, name: str, kind: dns.rdatatype.RdataType) -> dns.resolver.Answer | None:
        """An answer; None without records. Raises LookupFailed."""
        try:
            return await self._resolver.resolve(name, kind, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer, *IMPOSSIBLE):
            return None
        except dns.exception.DNSException as error:
            raise LookupFailed(f"{name}: {_problem(error)}") from None

    async def _secure_alias(self, host: str) -> bool:
        """Whether the CNAME record of a host is secure, whatever its target is. Raises LookupFailed."""
        answer = await self._records(host, dns.rdatatype.CNAME)
        return answer is not None and self._secure(answer)

    def _secure(self, answer: dns.resolver.Answer) -> bool:
        return self._validating and bool(answer.response.flags & dns.flags.AD)

    async def _mx(self, domain: str) -> tuple[list[MailServer], bool]:
        """The records, and whether they, or the denial of them, are secure."""
        try:
            answer = await self._resolver.resolve(domain, dns.rdatatype.MX, search=False, raise_on_no_answer=False)
        except (dns.resolver.NXDOMAIN, *IMPOSSIBLE):
            raise NoSuchDomain(domain) from None
        except dns.exception.DNSException as error:
            raise LookupFailed(f"{domain}: {_problem(error)}") from None
        records = answer if answer.rrset is not None else ()
        found = [MailServer(record.preference, _text(record.exchange)) for record in records if isinstance(record, MX)]
        return found, self._secure(answer)


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower() if name != dns.name.root else ""


def _problem(error: dns.exception.DNSException) -> str:
    return (
        "the name servers did not answer in time"
        if isinstance(error, dns.exception.Timeout)
        else "the name servers could not resolve the name"
    )
