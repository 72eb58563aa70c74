"""The addresses for reports on a domain, with the consent of addresses elsewhere (RFC 9990 4, RFC 9991 5). *Pure.*

A domain may ask for reports to an address of another organization. That organization must publish its consent, since
otherwise anybody could have reports sent to a victim.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from urllib.parse import unquote

from restante_mail.authentication.dmarc.record import Record, parse_record
from restante_mail.authentication.dmarc.tree_walk import MAX_NAME_OCTETS, TreeWalk
from restante_mail.authentication.dns import Dns
from restante_mail.envelope.paths import BadPath, ascii_domain, parse_path

__all__ = ["failure_addresses", "report_addresses"]

Uris = Callable[[Record], Sequence[str]]  # those of rua= or ruf= of a record

MAX_ADDRESSES = 10
_CONSENT = re.compile(rb"[vV][ \t]*+=[ \t]*+DMARC1[ \t]*+(?:;|\Z)")


async def report_addresses(record: Record, policy_domain: str, dns: Dns) -> tuple[str, ...]:
    """The addresses of rua= that may get aggregate reports, each once, in their order. Raises DnsFailure."""
    return await _addresses(lambda one: one.aggregate_uris, record, policy_domain, dns)


async def failure_addresses(record: Record, policy_domain: str, dns: Dns) -> tuple[str, ...]:
    """The addresses of ruf= that may get failure reports, each once, in their order. Raises DnsFailure."""
    return await _addresses(lambda one: one.failure_uris, record, policy_domain, dns)


async def _addresses(uris: Uris, record: Record, policy_domain: str, dns: Dns) -> tuple[str, ...]:
    walk = TreeWalk(dns)
    found: dict[str, None] = {}
    for uri in uris(record)[:MAX_ADDRESSES]:
        address = _address(uri)
        if address is not None and len(found) < MAX_ADDRESSES:
            found.update(dict.fromkeys(await _consented(uris, address, policy_domain, walk, dns)))
    return tuple(found)[:MAX_ADDRESSES]


async def _consented(uris: Uris, address: str, policy_domain: str, walk: TreeWalk, dns: Dns) -> Sequence[str]:
    """The address, or those that its host names instead of it; none without consent.

    A consent that names another host would redirect the reports to a victim: then nobody gets them (RFC 9990 4).
    """
    host = _host(address)
    if await walk.organizational_domain(host) == await walk.organizational_domain(policy_domain):
        return [address]
    name = f"{policy_domain}._report._dmarc.{host}"
    if len(name) > MAX_NAME_OCTETS:
        return []
    consents = [parse_record(text) for text in await dns.txt(name) if _CONSENT.match(text)]
    if not consents:
        return []
    named = [uri for consent in consents for uri in uris(consent)]
    others = [other for uri in named if (other := _address(uri)) is not None]
    if any(_host(other) != host for other in others):
        return []
    return others if named else [address]


def _address(uri: str) -> str | None:
    """The address of a mailto URI (RFC 6068 2), without its header fields; None if it has none or several."""
    scheme, _, rest = uri.partition(":")
    if scheme.lower() != "mailto":
        return None
    address = unquote(rest.partition("?")[0], errors="replace")
    try:
        path = parse_path(address)
        ascii_domain(path.domain)
    except BadPath:
        return None
    return path.address


def _host(address: str) -> str:
    return ascii_domain(address.rpartition("@")[2])
