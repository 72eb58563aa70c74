"""A DNS in memory for the pure checks: `restante_mail.authentication.dns.Dns` over a table of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from restante_mail.authentication.dns import Address, DnsFailure

TIMEOUT = "TIMEOUT"
MAX_ALIASES = 8


@dataclass
class MemoryDns:
    """Records by (name in lower case, type): TXT as octets, everything else as text.

    `failing` has the names, or pairs of name and type, whose questions fail. `asked` has the questions in their order.
    """

    records: Mapping[tuple[str, str], Sequence[bytes | str]]
    failing: frozenset[str | tuple[str, str]] = frozenset()
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def txt(self, name: str) -> Sequence[bytes]:
        return [text if isinstance(text, bytes) else text.encode() for text in self._find(name, "TXT")]

    async def addresses(self, name: str, version: int) -> Sequence[Address]:
        return [ip_address(text) for text in self._texts(name, "A" if version == 4 else "AAAA")]

    async def mail_servers(self, name: str) -> Sequence[str]:
        return self._texts(name, "MX")

    async def names(self, address: Address) -> Sequence[str]:
        return self._texts(address.reverse_pointer, "PTR")

    async def exists(self, name: str) -> bool:
        key = _key(name)
        self._ask(key, "NS")
        return any(owner == key or owner.endswith(f".{key}") for owner, _ in self.records)

    def _texts(self, name: str, kind: str) -> Sequence[str]:
        return [text if isinstance(text, str) else text.decode() for text in self._find(name, kind)]

    def _find(self, name: str, kind: str) -> Sequence[bytes | str]:
        key = _key(name)
        self._ask(key, kind)
        for _ in range(MAX_ALIASES):
            alias = self.records.get((key, "CNAME"))
            if not alias:
                return self.records.get((key, kind), ())
            key = _key(str(alias[0]))
        raise DnsFailure("the chain of aliases is too long")

    def _ask(self, key: str, kind: str) -> None:
        assert key.isascii() and all(0 < len(label) < 64 for label in key.split(".")), f"{key!r} cannot be asked for"
        assert len(key) <= 253
        self.asked.append((key, kind))
        if key in self.failing or (key, kind) in self.failing:
            raise DnsFailure("no answer in time")


def memory_dns(
    records: Mapping[str, Mapping[str, str | bytes | Sequence[str | bytes]]], failing: Sequence[str] = ()
) -> MemoryDns:
    """The DNS of a table {name: {type: record or records}}."""
    table: dict[tuple[str, str], Sequence[bytes | str]] = {}
    for name, kinds in records.items():
        for kind, found in kinds.items():
            table[_key(name), kind] = [found] if isinstance(found, str | bytes) else found
    return MemoryDns(table, frozenset(_key(name) for name in failing))


def _key(name: str) -> str:
    return name.lower().removesuffix(".")
