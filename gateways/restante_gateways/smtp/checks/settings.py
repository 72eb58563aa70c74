"""Which checks an mx listener makes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from restante_gateways.smtp.checks.client import DnsList
from restante_mail.authentication.bounds import MAX_DNS_LISTS, MAX_WEIGHT
from restante_mail.authentication.spf.names import is_name
from restante_mail.feedback.failure import is_reported
from restante_process.addresses import Network, parse_networks
from restante_process.config import Checks as ConfiguredChecks


@dataclass(frozen=True)
class CheckSettings:
    """The checks that are on, and their bounds."""

    host_name: str  # ours, for explanations of SPF
    spf: bool = True
    dkim: bool = True
    arc: bool = True
    dmarc: bool = True
    reverse_dns: bool = True
    dns_lists: tuple[DnsList, ...] = ()
    nameservers: tuple[str, ...] = ()  # none: those of the system
    seconds: float = 10.0  # for the checks of the client, for SPF, and for the others from the end of the content on
    exempt: tuple[Network, ...] = ()  # clients that are not checked
    failure_domains: frozenset[str] = frozenset()  # those whose owners may get failure reports; "*": all

    @classmethod
    def from_config(
        cls, checks: ConfiguredChecks, host_name: str, failure_domains: Collection[str] = ()
    ) -> CheckSettings:
        """The settings in the configuration file. Raises ValueError, which names the key."""
        if checks.dmarc and not (checks.spf and checks.dkim):
            raise ValueError("checks.dmarc needs checks.spf and checks.dkim: it judges their results")
        if not checks.seconds > 0:
            raise ValueError(f"checks.seconds: {checks.seconds} is not above 0")
        if len(checks.dns_lists) > MAX_DNS_LISTS:
            raise ValueError(f"checks.dns_lists: more than {MAX_DNS_LISTS} lists")
        for each in checks.dns_lists:
            if not is_name(each.zone):
                raise ValueError(f"checks.dns_lists: {each.zone!r} is not a zone in the DNS")
            if not abs(each.weight) <= MAX_WEIGHT:
                raise ValueError(
                    f"checks.dns_lists: the weight of {each.zone} is not between -{MAX_WEIGHT:g} and {MAX_WEIGHT:g}"
                )
        try:
            exempt = parse_networks(checks.exempt)
        except ValueError as error:
            raise ValueError(f"checks.exempt: {error}") from None
        return cls(
            host_name,
            spf=checks.spf,
            dkim=checks.dkim,
            arc=checks.arc,
            dmarc=checks.dmarc,
            reverse_dns=checks.reverse_dns,
            dns_lists=tuple(DnsList(each.zone.strip(".").lower(), each.weight) for each in checks.dns_lists),
            nameservers=checks.nameservers,
            seconds=checks.seconds,
            exempt=exempt,
            failure_domains=frozenset(name.lower() for name in failure_domains),
        )

    def reports_failures(self, policy_domain: str) -> bool:
        """Whether the owner of a domain may get failure reports."""
        return is_reported(policy_domain, self.failure_domains)

    @property
    def of_client(self) -> bool:
        """Whether the client's address is checked."""
        return self.reverse_dns or bool(self.dns_lists)

    @property
    def of_content(self) -> bool:
        """Whether the content is read for a check."""
        return self.dkim or self.arc or self.dmarc

    @property
    def any(self) -> bool:
        """Whether anything is checked."""
        return self.spf or self.of_client or self.of_content
