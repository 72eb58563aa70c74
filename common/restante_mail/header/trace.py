"""Received fields: building one for a hop, and counting those of a message (RFC 5321 4.4, 6.3, RFC 3848). *Pure.*"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import format_datetime

__all__ = ["Hop", "HopCounter", "address_literal", "count_hops", "received_by_service", "received_field"]

_RECEIVED = re.compile(rb"\nreceived[ \t]*+:", re.IGNORECASE)
_CARRY = len(b"\nreceived") + 64  # a field name and white space before its colon (RFC 5322 4.5.7)


@dataclass(frozen=True, slots=True)
class Hop:
    """The facts of one reception for its Received field."""

    hello_name: str  # from EHLO: a host name or an address literal
    client_address: str  # of the connection's peer; empty for a Unix socket
    host_name: str  # of this server
    extended: bool
    tls: bool
    authenticated: bool
    smtputf8: bool
    trace_id: str
    lmtp: bool = False

    @property
    def protocol(self) -> str:
        """The protocol of the `with` clause: RFC 3848, and RFC 6531 4.3 for transactions with SMTPUTF8."""
        if self.lmtp:
            base = "UTF8LMTP" if self.smtputf8 else "LMTP"
        elif not self.extended:
            return "SMTP"
        else:
            base = "UTF8SMTP" if self.smtputf8 else "ESMTP"
        return base + ("S" if self.tls else "") + ("A" if self.authenticated else "")


def received_field(hop: Hop, now: datetime) -> bytes:
    """One folded Received field with its CRLF. It has no `for`, which would reveal other recipients (RFC 5321 7.6)."""
    client = address_literal(hop.client_address)
    info = f" ({client})" if client else ""
    clauses = (f"from {hop.hello_name}{info}", f"by {hop.host_name} with {hop.protocol} id {hop.trace_id};")
    return _field(clauses, now)


def received_by_service(host_name: str, service: str, trace_id: str, now: datetime) -> bytes:
    """The Received field, with its CRLF, of a message from a service other than a mail protocol, named in a comment."""
    return _field((f"by {host_name} ({service}) id {trace_id};",), now)


def _field(clauses: Sequence[str], now: datetime) -> bytes:
    date = _date(now.replace(microsecond=0), now.utcoffset())
    return ("Received: " + "\r\n ".join((*clauses, date)) + "\r\n").encode("ascii")


@functools.lru_cache(maxsize=16)  # messages of the same second
def _date(second: datetime, offset: timedelta | None) -> str:
    """The date of a moment, in its zone: equal moments of two zones differ in `offset`."""
    return format_datetime(second)


@functools.lru_cache(maxsize=4096)  # clients send more than one message
def address_literal(address: str) -> str:
    """`[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 4.1.3); empty if the text is not an IP address."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return f"[IPv6:{parsed}]"
        parsed = parsed.ipv4_mapped
    return f"[{parsed}]"


def count_hops(block: bytes) -> int:
    """The number of Received fields in a header block."""
    return len(_RECEIVED.findall(b"\n" + block))


class HopCounter:
    """`count_hops` for a streamed message; it stops at the end of the header."""

    def __init__(self) -> None:
        self.hops = 0
        self._carry: bytes | None = b"\r\n"  # None in the body

    def feed(self, content: bytes) -> None:
        """Count in the next octets of the message, which has CRLF line ends and no doubled dots."""
        if self._carry is None:
            return
        data = self._carry + content
        end = data.find(b"\r\n\r\n")
        if end >= 0:
            self.hops += len(_RECEIVED.findall(data, 0, end + 2))
            self._carry = None
            return
        # Count these fields once, then keep only the octets after them that may begin another.
        counted = 0
        for field in _RECEIVED.finditer(data):
            self.hops, counted = self.hops + 1, field.end()
        self._carry = data[max(counted, len(data) - _CARRY) :]
