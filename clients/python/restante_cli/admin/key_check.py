"""`restante admin domain key check`: the published records of keys, compared with the keys in the store.

The core speaks no DNS. The command asks name servers itself, because an administrator wants to know at once, and wants
to ask those of his choice.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import click
import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.rdatatype
import dns.resolver
from dns.rdtypes.ANY.TXT import TXT

from restante.v1.signing_pb2 import DomainKey, DomainKeyState
from restante_mail.authentication.dkim.published import differences

LOOKUP_SECONDS = 10.0  # for one name, over all name servers
MAX_RECORDS = 20  # of one name
MAX_LOOKUPS = 10  # at once
MAX_SHOWN_OCTETS = 1_000  # of a record
UDP_OCTETS = 1_232  # of an answer; a longer one comes over TCP


@dataclass(frozen=True, slots=True)
class Checked:
    """A key with the problems of its published record."""

    key: DomainKey
    problems: tuple[str, ...]
    published: str  # "yes", "no", "wrong" or "unknown"
    found: tuple[str, ...] = ()  # the records at its name


def endpoints(nameservers: Sequence[str]) -> list[tuple[str, int]]:
    """Name servers: ADDRESS, ADDRESS:PORT or [IPV6]:PORT. Raises click.BadParameter."""
    return [_endpoint(text) for text in nameservers]


def _endpoint(text: str) -> tuple[str, int]:
    address, port = text, "53"
    if text.startswith("[") or text.count(":") == 1:
        address, _, port = text.removeprefix("[").rpartition(":")
        address = address.removesuffix("]")
    try:
        found = str(ipaddress.ip_address(address)), int(port)
    except ValueError:
        found = "", 0
    if not 0 < found[1] < 1 << 16:
        raise click.BadParameter(f"{text!r} is not ADDRESS or ADDRESS:PORT")
    return found


def is_expected(key: DomainKey, now: datetime) -> bool:
    """Whether the DNS must have a certain state for the key: one that is retired long enough may be there or not."""
    retired = key.state == DomainKeyState.DOMAIN_KEY_STATE_RETIRED
    return not (retired and key.HasField("publish_until") and key.publish_until.ToDatetime(UTC) < now)


async def check(keys: Sequence[DomainKey], nameservers: Sequence[tuple[str, int]]) -> list[Checked]:
    """Compare the published records of keys with what must be published. Raises click.ClickException."""
    resolver = _resolver(nameservers)
    room = asyncio.Semaphore(MAX_LOOKUPS)

    async def one(key: DomainKey) -> Checked:
        async with room:
            try:
                published = await _texts(resolver, key.record_name)
            except dns.exception.DNSException as error:
                return Checked(key, (f"the name servers gave no answer: {_reason(error)}",), "unknown")
        problems = tuple(differences(key.record_text, published))
        state = "no" if not published else "wrong" if problems else "yes"
        return Checked(key, problems, state, tuple(_visible(text) for text in published))

    return await asyncio.gather(*map(one, keys))


def _resolver(nameservers: Sequence[tuple[str, int]]) -> dns.asyncresolver.Resolver:
    try:
        resolver = dns.asyncresolver.Resolver(configure=not nameservers)
    except dns.resolver.NoResolverConfiguration:
        raise click.ClickException("the system has no name servers; name one with --nameserver") from None
    if nameservers:
        resolver.nameservers = [dns.nameserver.Do53Nameserver(*each) for each in nameservers]
    resolver.lifetime = LOOKUP_SECONDS
    resolver.use_edns(0, 0, UDP_OCTETS)
    return resolver


async def _texts(resolver: dns.asyncresolver.Resolver, name: str) -> list[bytes]:
    """The TXT records of a name, each with its character-strings joined. Raises DNSException."""
    try:
        answer = await resolver.resolve(f"{name}.", dns.rdatatype.TXT, search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    return [b"".join(record.strings) for record in answer if isinstance(record, TXT)][:MAX_RECORDS]


def _visible(text: bytes) -> str:
    """A record for a terminal, which strangers may have written."""
    decoded = text[:MAX_SHOWN_OCTETS].decode("utf-8", "replace")
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in decoded)


def _reason(error: dns.exception.DNSException) -> str:
    return "not in time" if isinstance(error, dns.exception.Timeout) else type(error).__name__


def described(checked: Checked) -> dict[str, Any]:
    """The results of one key for a table or JSON."""
    return {
        "published": checked.published,
        "problem": "; ".join(checked.problems),
        "found": list(checked.found),
    }
