"""The TLS rule for each server of a destination, from its TLSA records and its MTA-STS policy.

TLSA records take precedence (RFC 8461 2): a host that has them is judged by them alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from restante import errors
from restante_gateways.net.resolver import Host, LookupFailed, MailServer, Resolver
from restante_gateways.relay.tls.policies import StsPolicies
from restante_gateways.relay.tls.rules import Demand, TlsRule
from restante_gateways.relay.tls.sessions import Sessions
from restante_mail.authentication.dane import to_use
from restante_mail.authentication.mta_sts import Mode, StsPolicy
from restante_mail.authentication.tls_result import PolicyKind, TlsPolicy, TlsResult

NOT_NAMED = "the MTA-STS policy of the domain does not name this server"


class Forbidden(Exception):
    """The policy of the destination forbids a server."""


@dataclass(frozen=True, slots=True)
class Destination:
    """The policies of one destination."""

    domain: str  # A-labels
    sts: StsPolicy | None
    dane: bool  # whether TLSA records are looked up
    port: int
    resolver: Resolver
    sessions: Sessions

    async def rule(self, server: MailServer, host: Host) -> TlsRule:
        """The rule for a server with these addresses. Raises Forbidden and LookupFailed."""
        if self.dane and server.secure:
            for name in _base_domains(server.host, host):
                rule = await self._by_tlsa(server, name)
                if rule is not None:
                    return rule
        return self._by_sts(server.host)

    async def _by_tlsa(self, server: MailServer, name: str) -> TlsRule | None:
        """The rule of the TLSA records of a base domain; None if it has none (RFC 7672 2.2). Raises LookupFailed."""
        try:
            records = await self.resolver.tlsa(name, self.port)
        except LookupFailed as error:
            policy = TlsPolicy(self.domain, PolicyKind.TLSA)
            self.sessions.failed(policy, TlsResult.DNSSEC_INVALID, str(error), host=server.host)
            raise
        if not records:
            return None
        policy = TlsPolicy(self.domain, PolicyKind.TLSA, tuple(map(str, records)))
        usable = to_use(records)
        if usable:
            others = tuple(sorted({server.host, self.domain.lower().rstrip(".")} - {name}))
            return TlsRule((Demand.DANE,), name, others, usable, policy)
        self.sessions.failed(policy, TlsResult.TLSA_INVALID, "no TLSA record can be used", host=server.host)
        return TlsRule((Demand.ANY_CERTIFICATE,), name, policy=policy)  # RFC 7672 2.2: TLS, without authentication

    def _by_sts(self, host: str) -> TlsRule:
        """The rule of the MTA-STS policy, or the opportunistic one. Raises Forbidden."""
        if self.sts is None:
            return TlsRule(policy=TlsPolicy(self.domain))
        policy = TlsPolicy(self.domain, PolicyKind.STS, self.sts.lines(), self.sts.patterns)
        enforced = self.sts.mode is Mode.ENFORCE
        if not self.sts.matches(host):
            self.sessions.failed(policy, TlsResult.VALIDATION_FAILURE, NOT_NAMED, host=host)
            if enforced:
                raise Forbidden(f"{host}: {NOT_NAMED}")
            return TlsRule()
        return TlsRule((Demand.WEBPKI,) if enforced else (Demand.WEBPKI, *TlsRule().demands), policy=policy)


class Policies:
    """The policies of destinations. Without MTA-STS and DANE every rule is opportunistic."""

    def __init__(
        self,
        resolver: Resolver,
        sessions: Sessions,
        *,
        sts: StsPolicies | None = None,
        dane: bool = False,
        port: int = 25,
    ) -> None:
        self._resolver, self._sessions, self._sts, self._dane, self._port = resolver, sessions, sts, dane, port

    async def of(self, domain: str) -> Destination:
        """The policies of a destination, in A-labels. Raises LookupFailed when the core cannot be asked for one."""
        try:
            sts = None if self._sts is None else await self._sts.of(domain)
        except errors.RestanteError as error:
            raise LookupFailed(f"the MTA-STS policy of {domain} could not be read: {error.reason}") from None
        return Destination(domain, sts, self._dane, self._port, self._resolver, self._sessions)


def _base_domains(name: str, host: Host) -> tuple[str, ...]:
    """The names whose TLSA records apply, in order (RFC 7672 2.2.2): the end of the aliases first, if it is secure."""
    if not host.secure:
        return (name,) if host.alias_secure else ()
    return tuple(dict.fromkeys((host.canonical, name)))
