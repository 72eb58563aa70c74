"""check_host of SPF (RFC 7208 4), for one client and one sender. *Pure.*

The work is bounded by the limits of RFC 7208 4.6.4. The caller bounds the time: a check that it cancels is a temperror.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv6Address

from restante_mail.authentication.dns import Address, Dns, DnsFailure
from restante_mail.authentication.results import Identity, Result, SpfResult
from restante_mail.authentication.spf.macros import BadMacro, MacroString, parse_explanation
from restante_mail.authentication.spf.names import checkable_domain, is_name
from restante_mail.authentication.spf.record import BadRecord, Mechanism, Record, parse_record, select_record

__all__ = ["Client", "check_helo", "check_mail_from"]

MAX_LOOKUPS = 10  # terms that ask the DNS (RFC 7208 4.6.4)
MAX_VOID_LOOKUPS = 2  # questions without an answer
MAX_HOSTS = 10  # of one MX, and of the PTR records of the client
MAX_EXPLANATION_OCTETS = 512  # a reply of SMTP is one line (RFC 5321 4.5.3.1.5)


@dataclass(frozen=True, slots=True)
class Client:
    """The SMTP client, and who asks."""

    address: Address
    helo: str  # as the client gave it; "" when it gave none
    receiver: str  # our host name, for the macro "r"
    now: datetime  # for the macro "t"


async def check_helo(client: Client, dns: Dns) -> SpfResult:
    """The result for the name in HELO or EHLO (RFC 7208 2.3)."""
    return await _check(client, Identity.HELO, "postmaster", client.helo, dns)


async def check_mail_from(client: Client, local_part: str, domain: str, dns: Dns) -> SpfResult:
    """The result for a reverse-path that is not null (RFC 7208 2.4); for the null one, `check_helo` is the check."""
    return await _check(client, Identity.MAILFROM, local_part or "postmaster", domain, dns)


async def _check(client: Client, identity: Identity, local_part: str, name: str, dns: Dns) -> SpfResult:
    domain = checkable_domain(name)
    if domain is None:
        return SpfResult(Result.NONE, identity, name[:255].lower(), problem="this is no domain name of several labels")
    check = _Check(client, local_part, domain, dns)
    try:
        outcome = await check.host(domain)
    except _Stop as stop:
        return SpfResult(stop.result, identity, domain, problem=stop.problem, record=check.record)
    explanation = await check.explanation(outcome) if outcome.result is Result.FAIL else ""
    return SpfResult(outcome.result, identity, domain, outcome.mechanism, explanation, outcome.problem, check.record)


class _Stop(Exception):
    """The whole check ends with an error."""

    def __init__(self, result: Result, problem: str) -> None:
        super().__init__(problem)
        self.result, self.problem = result, problem


@dataclass(frozen=True, slots=True)
class _Outcome:
    result: Result
    mechanism: str = ""
    problem: str = ""
    domain: str = ""  # whose record has decided
    explanation: MacroString | None = None


class _Check:
    """The state of one check: what it has asked so far."""

    def __init__(self, client: Client, local_part: str, domain: str, dns: Dns) -> None:
        address = client.address
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped  # RFC 7208 5
        self._address, self._client, self._dns = address, client, dns
        self._local_part, self._sender_domain = local_part, domain
        self._lookups = self._voids = 0
        self._client_names: Sequence[str] | None = None
        self._validated: dict[str, bool] = {}
        self.record = ""  # of the sender's domain

    async def host(self, domain: str) -> _Outcome:
        """check_host for a domain of the record, an include or a redirect. Raises _Stop."""
        try:
            octets = select_record(await self._dns.txt(domain))
            if octets is None:
                return _Outcome(Result.NONE, problem=f"{domain} has no SPF record")
            if not self.record:
                self.record = octets.decode("ascii", "replace")
            record = parse_record(octets)
        except DnsFailure as error:
            raise _Stop(Result.TEMPERROR, f"{domain} TXT: {error}") from error
        except BadRecord as error:
            raise _Stop(Result.PERMERROR, f"{domain}: {error.problem}") from None
        for mechanism in record.mechanisms:
            if await self._matches(mechanism, domain):
                return _Outcome(mechanism.result, mechanism.text, "", domain, record.explanation)
        return await self._default(record, domain)

    async def _default(self, record: Record, domain: str) -> _Outcome:
        """The outcome when no mechanism matches (RFC 7208 4.7, 6.1)."""
        if record.redirect is None:
            return _Outcome(Result.NEUTRAL)
        self._count_lookup()
        target = await self._expand_name(record.redirect, domain)
        outcome = await self.host(target) if target else _Outcome(Result.NONE)
        if outcome.result is Result.NONE:
            raise _Stop(Result.PERMERROR, f'{domain} redirects to "{target[:64]}", which has no SPF record')
        return outcome

    async def _matches(self, mechanism: Mechanism, domain: str) -> bool:
        match mechanism.name:
            case "all":
                return True
            case "ip4" | "ip6":
                assert mechanism.network is not None
                return self._inside(mechanism.network, mechanism)
        self._count_lookup()
        target = await self._expand_name(mechanism.target, domain)
        try:
            match mechanism.name:
                case "include":
                    return await self._included(target, domain)
                case "a":
                    return await self._any_inside(target, mechanism)
                case "mx":
                    return await self._mx(target, mechanism)
                case "ptr":
                    return await self._ptr(target)
                case _:
                    return bool(await self._ask(target, 4))
        except DnsFailure as error:
            raise _Stop(Result.TEMPERROR, f'{domain}, "{mechanism.text[:64]}": {error}') from error

    async def _included(self, target: str, domain: str) -> bool:
        """The table of RFC 7208 5.2."""
        outcome = await self.host(target) if target else _Outcome(Result.NONE)
        if outcome.result is Result.NONE:
            raise _Stop(Result.PERMERROR, f'{domain} includes "{target[:64]}", which has no SPF record')
        return outcome.result is Result.PASS

    async def _mx(self, target: str, mechanism: Mechanism) -> bool:
        hosts = await self._dns.mail_servers(target) if target else ()
        self._count_void(hosts)
        if len(hosts) > MAX_HOSTS:
            raise _Stop(Result.PERMERROR, f"{target} has more than {MAX_HOSTS} MX records")
        for host in hosts:
            if is_name(host) and await self._any_inside(host, mechanism):
                return True
        return False

    async def _ptr(self, target: str) -> bool:
        names = await self._names_of_client()
        self._count_void(names)
        for name in names:
            if _is_below(name, target) and await self._is_validated(name):
                return True
        return False

    async def _any_inside(self, name: str, mechanism: Mechanism) -> bool:
        return any(self._inside(address, mechanism) for address in await self._ask(name, self._address.version))

    async def _ask(self, name: str, version: int) -> Sequence[Address]:
        found = await self._dns.addresses(name, version) if name else ()
        self._count_void(found)
        return found

    def _inside(self, network: Address, mechanism: Mechanism) -> bool:
        if network.version != self._address.version:
            return False
        prefix = mechanism.prefix4 if network.version == 4 else mechanism.prefix6
        return (int(network) ^ int(self._address)) >> (network.max_prefixlen - prefix) == 0

    # --- Limits (RFC 7208 4.6.4) --------------------------------------------------------------------------------------

    def _count_lookup(self) -> None:
        self._lookups += 1
        if self._lookups > MAX_LOOKUPS:
            raise _Stop(Result.PERMERROR, f"{self._sender_domain}: more than {MAX_LOOKUPS} terms ask the DNS")

    def _count_void(self, answer: Sequence[object]) -> None:
        if not answer:
            self._voids += 1
            if self._voids > MAX_VOID_LOOKUPS:
                raise _Stop(
                    Result.PERMERROR, f"{self._sender_domain}: more than {MAX_VOID_LOOKUPS} DNS answers are empty"
                )

    # --- The names of the client (RFC 7208 5.5) -----------------------------------------------------------------------

    async def _names_of_client(self) -> Sequence[str]:
        """The first PTR names of the client, in lower case; none when the DNS fails."""
        if self._client_names is None:
            try:
                found = await self._dns.names(self._address)
            except DnsFailure:
                found = ()
            self._client_names = [name.lower().removesuffix(".") for name in found[:MAX_HOSTS]]
        return self._client_names

    async def _is_validated(self, name: str) -> bool:
        """Whether the client's address is one of the name's."""
        if name not in self._validated:
            try:
                self._validated[name] = self._address in await self._dns.addresses(name, self._address.version)
            except DnsFailure:
                self._validated[name] = False
        return self._validated[name]

    async def _validated_name(self, domain: str) -> str:
        """The macro "p": the domain itself, else a name below it, else any name, else "unknown" (RFC 7208 7.3)."""
        names = await self._names_of_client()
        for name in sorted(names, key=lambda name: (name != domain.lower(), not _is_below(name, domain))):
            if await self._is_validated(name):
                return name
        return "unknown"

    # --- Macros (RFC 7208 7) ------------------------------------------------------------------------------------------

    async def _expand_name(self, spec: MacroString | None, domain: str) -> str:
        """The domain that a term names, or "" for text that is no domain name: it counts as one without records."""
        if spec is None:
            return domain
        if not self._local_part.isascii() and spec.letters & {"s", "l"}:
            return ""  # RFC 8616 4: such a local part matches nothing
        name = spec.expand_name(await self._values(spec, domain))
        return name if is_name(name) else ""

    async def explanation(self, outcome: _Outcome) -> str:
        """The text of exp= (RFC 7208 6.2), or "" when there is none or something about it is wrong."""
        spec = outcome.explanation
        target = await self._expand_name(spec, outcome.domain) if spec is not None else ""
        if not target:
            return ""
        try:
            texts = await self._dns.txt(target)
            if len(texts) != 1 or not texts[0].isascii():
                return ""
            text = parse_explanation(texts[0].decode("ascii"))
        except (DnsFailure, BadMacro):
            return ""
        expanded = text.expand(await self._values(text, outcome.domain))
        return expanded[:MAX_EXPLANATION_OCTETS] if expanded.isascii() and expanded.isprintable() else ""

    async def _values(self, spec: MacroString, domain: str) -> dict[str, str]:
        address, wanted = self._address, spec.letters
        if not wanted:
            return {}
        return {
            "s": f"{self._local_part}@{self._sender_domain}",
            "l": self._local_part,
            "o": self._sender_domain,
            "d": domain,
            "i": str(address) if address.version == 4 else ".".join(address.exploded.replace(":", "")),
            "p": await self._validated_name(domain) if "p" in wanted else "",
            "v": "in-addr" if address.version == 4 else "ip6",
            "h": self._client.helo,
            "c": str(address),
            "r": self._client.receiver or "unknown",
            "t": str(int(self._client.now.timestamp())),
        }


def _is_below(name: str, domain: str) -> bool:
    return name == domain.lower() or name.endswith("." + domain.lower())
