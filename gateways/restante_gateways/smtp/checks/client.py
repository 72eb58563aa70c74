"""Checks of the client's address: its name (RFC 8601 2.7.3), and DNS lists (RFC 5782). *Pure.*"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network

from restante_mail.authentication.dns import Address, Dns, DnsFailure
from restante_mail.authentication.results import DnsListResult, Result, ReverseDnsResult

MAX_NAMES = 10  # of one client that are looked up
MAX_ANSWERS = 20  # of one list that are reported

_LISTINGS = ip_network("127.0.0.0/8")  # RFC 5782 2.1
_ERRORS = ip_network("127.255.255.0/24")  # an answer about the question, such as: too many questions, not allowed


@dataclass(frozen=True, slots=True)
class DnsList:
    """A list: clients that it has get its weight, which is negative for good ones."""

    zone: str
    weight: float = 1.0


async def reverse_dns(address: Address, dns: Dns) -> ReverseDnsResult:
    """Pass with a name of the client that has the client's address; fail when none of its names has."""
    failed = False
    try:
        names = await dns.names(address)
    except DnsFailure:
        return ReverseDnsResult(Result.TEMPERROR)
    if not names:
        return ReverseDnsResult(Result.PERMERROR)
    for name in names[:MAX_NAMES]:
        try:
            if address in await dns.addresses(name, address.version):
                return ReverseDnsResult(Result.PASS, name)
        except DnsFailure:
            failed = True
    return ReverseDnsResult(Result.TEMPERROR if failed else Result.FAIL)


async def dns_list(address: Address, wanted: DnsList, dns: Dns) -> DnsListResult:
    """Whether a list has the client. Answers outside 127.0.0.0/8 and in 127.255.255.0/24 are no listings."""
    try:
        answers = await dns.addresses(f"{reversed_address(address)}.{wanted.zone}", 4)
    except DnsFailure as error:
        return DnsListResult(wanted.zone, problem=str(error))
    shown = tuple(str(answer) for answer in answers[:MAX_ANSWERS])
    listings = [answer for answer in answers if isinstance(answer, IPv4Address) and answer in _LISTINGS]
    if len(listings) < len(answers):  # RFC 5782 2.3: such as those of a name that answers everything
        return DnsListResult(wanted.zone, answers=shown, problem="the answer is outside 127.0.0.0/8")
    if any(answer in _ERRORS for answer in listings):
        return DnsListResult(wanted.zone, answers=shown, problem="the list refuses to answer")
    return DnsListResult(wanted.zone, bool(listings), shown, wanted.weight if listings else 0.0)


def reversed_address(address: Address) -> str:
    """The address in the names of a list: octets or nibbles from the last one on (RFC 5782 2.1, 2.4)."""
    return address.reverse_pointer.rpartition(".")[0].rpartition(".")[0]
