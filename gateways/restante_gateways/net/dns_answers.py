"""The DNS for the checks of inbound mail: `restante_mail.authentication.dns.Dns` over the configured name servers.

The names that are asked for come from strangers, and strangers write the answers. Every answer is cut to a number of
records, and every question ends in time. The cache has a number of answers and of octets. Equal questions that run at
once are one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdata
import dns.rdatatype
import dns.resolver
from dns.nameserver import Do53Nameserver
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.PTR import PTR
from dns.rdtypes.ANY.TXT import TXT
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA

from restante_gateways.net.resolver import IMPOSSIBLE, Nameserver
from restante_mail.authentication.dns import Address, DnsFailure

UDP_OCTETS = 1_232  # of an answer; a longer one comes over TCP
MAX_RECORDS = 100  # of one answer; further ones are dropped
MAX_QUESTIONS = 256  # that run at once; others wait for them
MAX_WAITING = 4_096  # that run or wait; further ones fail at once
MAX_ANSWERS = 20_000  # in the cache
MAX_CACHED_OCTETS = 32 << 20  # of the cached answers together
LONGEST_SECONDS = 3_600.0  # for which an answer is kept, if its time to live is longer
SHORTEST_SECONDS = 1.0  # and if it is shorter, so that one message does not ask twice
NEGATIVE_SECONDS = 60.0  # for which it is kept that a name or its records do not exist
FAILED_SECONDS = 5.0  # for which it is kept that a question has no answer

_TOO_LATE = "the name servers did not answer in time"
_TOO_MANY = "too many questions wait for the name servers"
_ENTRY_OCTETS = 200  # about what an entry costs besides its records
_VERSIONS = {4: dns.rdatatype.A, 6: dns.rdatatype.AAAA}

Key = tuple[str, dns.rdatatype.RdataType]


@dataclass(frozen=True, slots=True)
class Entry:
    """An answer."""

    expires: float  # by the loop's clock
    records: tuple[Any, ...]  # octets, addresses or names
    exists: bool  # the name does
    failure: str = ""
    size_octets: int = _ENTRY_OCTETS


class DnsAnswers:
    """Asks name servers, for all sessions of a process."""

    def __init__(
        self, nameservers: Sequence[str], *, lookup_seconds: float = 5.0, most_waiting: int = MAX_WAITING
    ) -> None:
        """`nameservers` are in the syntax of `Nameserver.parse`; if empty, the system's are used. `lookup_seconds`
        limits one question over all servers, `most_waiting` the questions at a time.

        Questions fail if the system has no name servers. Raises ValueError.
        """
        self._most_waiting = most_waiting
        self._resolver = dns.asyncresolver.Resolver(configure=False)
        if nameservers:
            servers = [Nameserver.parse(text) for text in nameservers]
            self._resolver.nameservers = [Do53Nameserver(server.address, server.port) for server in servers]
        else:
            with contextlib.suppress(dns.resolver.NoResolverConfiguration):
                self._resolver.read_resolv_conf("/etc/resolv.conf")
        self._resolver.lifetime = lookup_seconds
        self._resolver.timeout = min(2.0, lookup_seconds)  # of one try
        self._resolver.use_edns(0, 0, UDP_OCTETS)
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self._octets = 0
        self._running: dict[Key, asyncio.Task[Entry]] = {}
        self._slots = asyncio.Semaphore(MAX_QUESTIONS)

    def until(self, deadline: float) -> Questions:
        """The DNS whose questions all fail at a moment of the loop's clock."""
        return Questions(self, deadline)

    def known(self, name: str, kind: dns.rdatatype.RdataType) -> Entry | None:
        """The answer in the cache."""
        entry = self._entries.get((name.lower().removesuffix("."), kind))
        return entry if entry is not None and entry.expires > asyncio.get_running_loop().time() else None

    async def entry(self, name: str, kind: dns.rdatatype.RdataType) -> Entry:
        """The answer to a question, which may be a failure."""
        if (entry := self.known(name, kind)) is not None:
            return entry
        key = name.lower().removesuffix("."), kind
        task = self._running.get(key)
        if task is None:
            if len(self._running) >= self._most_waiting:
                return Entry(0.0, (), True, _TOO_MANY)
            task = self._running[key] = asyncio.create_task(self._ask(key))
        return await asyncio.shield(task)  # others may wait for it, too

    async def _ask(self, key: Key) -> Entry:
        """Ask the name servers and keep the answer."""
        try:
            async with self._slots:
                entry = await self._answer(*key)
            self._keep(key, entry)
            return entry
        finally:
            del self._running[key]

    async def _answer(self, name: str, kind: dns.rdatatype.RdataType) -> Entry:
        clock = asyncio.get_running_loop().time
        try:
            answer = await self._resolver.resolve(_absolute(name), kind, search=False, raise_on_no_answer=False)
        except (dns.resolver.NXDOMAIN, UnicodeEncodeError, *IMPOSSIBLE):
            return Entry(clock() + NEGATIVE_SECONDS, (), exists=False)
        except dns.exception.Timeout:
            return Entry(clock() + FAILED_SECONDS, (), True, _TOO_LATE)
        except dns.exception.DNSException:
            return Entry(clock() + FAILED_SECONDS, (), True, "the name servers could not answer")
        if answer.rrset is None:
            return Entry(clock() + NEGATIVE_SECONDS, (), exists=True)
        records = _READERS[kind](answer.rrset)
        seconds = min(max(answer.chaining_result.minimum_ttl, SHORTEST_SECONDS), LONGEST_SECONDS)
        size_octets = _ENTRY_OCTETS + sum(100 + (len(one) if isinstance(one, bytes | str) else 0) for one in records)
        return Entry(clock() + seconds, records, True, "", size_octets)

    def _keep(self, key: Key, entry: Entry) -> None:
        old = self._entries.pop(key, None)
        self._octets += entry.size_octets - (old.size_octets if old is not None else 0)
        self._entries[key] = entry
        while len(self._entries) > MAX_ANSWERS or self._octets > MAX_CACHED_OCTETS:
            _, oldest = self._entries.popitem(last=False)
            self._octets -= oldest.size_octets


class Questions:
    """The questions of one check, until a deadline. Implements `Dns`."""

    def __init__(self, answers: DnsAnswers, deadline: float) -> None:
        self._answers, self._deadline = answers, deadline

    def knows_txt(self, name: str) -> bool:
        """Whether the answer is there without a question."""
        return self._answers.known(name, dns.rdatatype.TXT) is not None

    async def txt(self, name: str) -> Sequence[bytes]:
        """See Dns."""
        return (await self._entry(name, dns.rdatatype.TXT)).records

    async def addresses(self, name: str, version: int) -> Sequence[Address]:
        """See Dns."""
        return (await self._entry(name, _VERSIONS[version])).records

    async def mail_servers(self, name: str) -> Sequence[str]:
        """See Dns."""
        return (await self._entry(name, dns.rdatatype.MX)).records

    async def names(self, address: Address) -> Sequence[str]:
        """See Dns."""
        return (await self._entry(address.reverse_pointer, dns.rdatatype.PTR)).records

    async def exists(self, name: str) -> bool:
        """See Dns."""
        return (await self._entry(name, dns.rdatatype.A)).exists

    async def _entry(self, name: str, kind: dns.rdatatype.RdataType) -> Entry:
        entry = self._answers.known(name, kind)
        if entry is None:
            try:
                async with asyncio.timeout_at(self._deadline):
                    entry = await self._answers.entry(name, kind)
            except TimeoutError:
                raise DnsFailure(_TOO_LATE) from None
        if entry.failure:
            raise DnsFailure(entry.failure)
        return entry


def _absolute(name: str) -> dns.name.Name:
    """The name with these labels, in which no character has a meaning. Raises one of IMPOSSIBLE, UnicodeEncodeError."""
    return dns.name.Name([label.encode("ascii") for label in name.split(".")] + [b""])


def _texts(records: Iterable[dns.rdata.Rdata]) -> tuple[bytes, ...]:
    return tuple(b"".join(record.strings) for record in records if isinstance(record, TXT))[:MAX_RECORDS]


def _addresses(records: Iterable[dns.rdata.Rdata]) -> tuple[Address, ...]:
    return tuple(ip_address(record.address) for record in records if isinstance(record, A | AAAA))[:MAX_RECORDS]


def _mail_servers(records: Iterable[dns.rdata.Rdata]) -> tuple[str, ...]:
    hosts = sorted((one for one in records if isinstance(one, MX)), key=lambda one: one.preference)
    return tuple(name for one in hosts if (name := _text(one.exchange)) is not None)[:MAX_RECORDS]


def _names(records: Iterable[dns.rdata.Rdata]) -> tuple[str, ...]:
    names = (_text(record.target) for record in records if isinstance(record, PTR))
    return tuple(name for name in names if name)[:MAX_RECORDS]


def _text(name: dns.name.Name) -> str | None:
    """A host name in lower case, without its final dot; None for one that text could not have."""
    labels = name.labels[:-1]
    if any(not label.isascii() or not 33 <= min(label) <= max(label) < 127 or b"." in label for label in labels):
        return None
    return b".".join(labels).decode("ascii").lower()


_READERS: dict[dns.rdatatype.RdataType, Callable[[Iterable[dns.rdata.Rdata]], tuple[Any, ...]]] = {
    dns.rdatatype.TXT: _texts,
    dns.rdatatype.A: _addresses,
    dns.rdatatype.AAAA: _addresses,
    dns.rdatatype.MX: _mail_servers,
    dns.rdatatype.PTR: _names,
}
