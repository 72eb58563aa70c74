"""The triplet that greylisting remembers: the client's network, the sender and the recipient (RFC 6647 3.1). *Pure.*

Clusters of servers send one message from several addresses, and mailing lists write another reverse-path for each
message. A triplet therefore has the network of the client, and the reverse-path without what changes from message to
message. Both make a triplet wider, but only for one recipient and one network.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from typing import Final, NamedTuple

from restante.errors import InvalidAddress
from restante_mail.envelope.paths import Path
from restante_process.addresses import Address
from restante_server.directory import addresses

IPV4_BITS: Final = 24  # of the network of a client (RFC 6647 5, item 5)
IPV6_BITS: Final = 64
KEY_OCTETS: Final = 16
LONGEST_PATH: Final = 320  # characters of a reverse-path that is kept
HEX_CHARACTERS: Final = 8  # a word of so many hexadecimal digits is a number

_WORD = re.compile(r"[0-9a-z]+")
_SRS = re.compile(r"srs([01])[=+-]")
_BATV = re.compile(r"(?:prvs|btv1)=+[0-9a-z]+=")  # such as prvs=1234abcdef=user
_HEX = frozenset("0123456789abcdef")
_DIGITS = frozenset("0123456789")
_DETAIL = "+"


class Triplet(NamedTuple):
    """One combination. The reverse-path is reduced (`reduced`), the recipient is the key of an address."""

    network: str
    reverse_path: str  # "": the null path
    recipient: str

    @property
    def key(self) -> bytes:
        """A digest, under which the triplet is kept."""
        return hashlib.sha256("\0".join(self).encode("utf-8", "surrogatepass")).digest()[:KEY_OCTETS]


def network_of(address: Address) -> str:
    """The network of a client: the /24 of an IPv4 address, the /64 of an IPv6 address."""
    bits = IPV4_BITS if isinstance(address, ipaddress.IPv4Address) else IPV6_BITS
    return str(ipaddress.ip_network((address, bits), strict=False))


def reduced(reverse_path: str) -> str:
    """A reverse-path without what changes from message to message; "" for the null path.

    - SRS (SRS0=hash=day=domain=user): the hash and the day are removed.
    - BATV (prvs=number=user): the number is removed.
    - VERP and subaddresses (list+recipient=domain): the part from the plus sign on is removed.
    - Words that are numbers, or 8 and more hexadecimal digits with a decimal one, become "#".
    """
    try:
        path: Path | None = addresses.parse(reverse_path) if reverse_path else None
    except InvalidAddress:
        return reverse_path.casefold()[:LONGEST_PATH]  # the gateway has checked its syntax
    if path is None:
        return ""
    local = path.local_part.lower()
    rewritten = _SRS.match(local)
    if rewritten is not None:
        local = f"srs{rewritten[1]}={_behind_hash(rewritten[1], local[rewritten.end() :])}"
    else:
        signed = _BATV.match(local)
        local = local[signed.end() :] if signed is not None else local
        plain = local.partition(_DETAIL)[0]
        local = plain or local
    return f"{_WORD.sub(_number, local)}@{path.ascii_domain}"[:LONGEST_PATH]


def _behind_hash(kind: str, rest: str) -> str:
    """The part of a path of SRS that names the sender: without hash and day (SRS0), or hash (SRS1)."""
    for _ in range(2 if kind == "0" else 1):
        rest = rest.partition("=")[2] or rest
    if kind == "1":  # the first forwarder, and its own hash and day behind "=="
        forwarder, _, inner = rest.partition("==")
        return f"{forwarder}=={_behind_hash('0', inner)}" if inner else rest
    return rest


def _number(word: re.Match[str]) -> str:
    characters = set(word[0])
    is_number = characters <= _DIGITS
    is_hex = len(word[0]) >= HEX_CHARACTERS and characters <= _HEX and bool(characters & _DIGITS)
    return "#" if is_number or is_hex else word[0]
