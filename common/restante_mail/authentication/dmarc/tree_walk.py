"""The DNS tree walk: policy records of a domain and of those above it (RFC 9989 4.10). *Pure.*"""

from __future__ import annotations

from restante_mail.authentication.dmarc.record import Record, parse_record, select_record
from restante_mail.authentication.dns import Dns

__all__ = ["TreeWalk", "targets"]

MAX_QUERIES = 8  # of one walk
MAX_NAME_OCTETS = 253


def targets(domain: str) -> list[str]:
    """The domains of a walk from the longest on, at most MAX_QUERIES: a long name is cut to seven labels first."""
    labels = domain.split(".")
    first = max(1, len(labels) - MAX_QUERIES + 1)
    return [domain, *(".".join(labels[at:]) for at in range(first, len(labels)))]


class TreeWalk:
    """The walks for one message. Each name is asked for once. Methods raise DnsFailure."""

    def __init__(self, dns: Dns) -> None:
        self._dns = dns
        self._records: dict[str, Record | None] = {}

    async def record(self, domain: str) -> Record | None:
        """The policy record that a domain itself publishes."""
        if domain not in self._records:
            name = f"_dmarc.{domain}"
            octets = select_record(await self._dns.txt(name)) if len(name) <= MAX_NAME_OCTETS else None
            self._records[domain] = None if octets is None else parse_record(octets)
        return self._records[domain]

    async def organizational_domain(self, domain: str) -> str:
        """RFC 9989 4.10.2. A domain without any record on the way is its own organizational domain."""
        found = domain
        for target in targets(domain):
            record = await self.record(target)
            if record is None:
                continue
            if record.psd == "y" and target != domain:
                return _one_label_below(target, domain)
            found = target
            if record.psd in ("y", "n"):
                break
        return found

    async def policy(self, domain: str) -> tuple[str, Record] | None:
        """The policy record that applies to a domain, with the domain that publishes it (RFC 9989 4.10.1)."""
        if (own := await self.record(domain)) is not None:
            return domain, own
        organizational = await self.organizational_domain(domain)
        for target in targets(domain):
            record = await self.record(target)
            if record is not None and (target == organizational or record.psd == "y"):
                return target, record
        return None


def _one_label_below(above: str, domain: str) -> str:
    labels = domain.split(".")
    return ".".join(labels[-above.count(".") - 2 :])
