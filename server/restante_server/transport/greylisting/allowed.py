"""Clients and recipients whose mail an administrator lets pass. *Pure.*"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

from restante_process.addresses import Address
from restante_server.directory import addresses

SHORTEST_IPV4_BITS: Final = 8  # of a network that is let pass
SHORTEST_IPV6_BITS: Final = 16


class Allowed:
    """A set of networks, and of keys of recipients. A look costs a step for each length of prefix that occurs."""

    def __init__(self, subjects: Iterable[str] = ()) -> None:
        """`subjects` are networks such as "192.0.2.0/24", and keys of addresses."""
        self._recipients: set[str] = set()
        self._networks: dict[tuple[int, int], set[int]] = {}  # by version and bits: the first bits as a number
        for subject in subjects:
            if "@" in subject:
                self._recipients.add(subject)
            else:
                network = ipaddress.ip_network(subject)
                shift = network.max_prefixlen - network.prefixlen
                beginnings = self._networks.setdefault((network.version, shift), set())
                beginnings.add(int(network.network_address) >> shift)

    def has_client(self, client: Address) -> bool:
        """Whether a network of the set has the client."""
        number, version = int(client), client.version
        return any(number >> shift in beginnings for (of, shift), beginnings in self._networks.items() if of == version)

    def has_recipient(self, key: str) -> bool:
        """Whether the set has a recipient, or that address without its `+detail`."""
        return bool(self._recipients) and (
            key in self._recipients or (addresses.without_detail(key) or key) in self._recipients
        )
