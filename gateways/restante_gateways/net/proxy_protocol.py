"""The PROXY protocol, versions 1 and 2: a header that a load balancer sends before the client's octets. *Pure.*

Its sender can claim any client address, so only listeners with an allow-list of senders read it.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from restante_process.addresses import Endpoint, parse_address

MAX_V1_OCTETS = 107  # with its CRLF
MAX_V2_OCTETS = 16 + 4096  # 65,551 by the specification; a proxy sends a few TLVs at most
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


class ProxyProtocolError(ValueError):
    """The octets are not a PROXY header; the connection must be closed without an answer."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A whole header. Without `client`, the connection's own addresses count (health checks, UNKNOWN, UNIX sockets)."""

    octets: int  # length of the header; the octets after it are the client's
    client: Endpoint | None = None
    local: Endpoint | None = None


def parse(data: bytes) -> ProxyHeader | None:
    """The header at the start of `data`; None if it is incomplete, so that all of `data` belongs to it.

    Raises ProxyProtocolError.
    """
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _parse_v2(data)
    if data[:6] == b"PROXY "[: len(data)]:
        return _parse_v1(data)
    raise ProxyProtocolError("no PROXY header")


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, MAX_V1_OCTETS)
    if end < 0:
        if len(data) >= MAX_V1_OCTETS:
            raise ProxyProtocolError("version 1 header too long")
        return None
    octets, words = end + 2, data[:end].split(b" ")
    if words[1:2] == [b"UNKNOWN"]:
        return ProxyHeader(octets)
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise ProxyProtocolError("malformed version 1 header")
    _, family, source, target, source_port, target_port = words
    return ProxyHeader(octets, _text_endpoint(family, source, source_port), _text_endpoint(family, target, target_port))


def _text_endpoint(family: bytes, host: bytes, port: bytes) -> Endpoint:
    try:
        address = ipaddress.ip_address(host.decode("ascii"))
    except ValueError:
        raise ProxyProtocolError("malformed address") from None
    if f"TCP{address.version}".encode() != family:
        raise ProxyProtocolError("address of another family")
    if not port.isdigit() or (len(port) > 1 and port.startswith(b"0")) or len(port) > 5 or int(port) > 65535:
        raise ProxyProtocolError("malformed port")
    return Endpoint(str(parse_address(str(address))), int(port))


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < 16:
        return None
    version_command, family, length = struct.unpack_from("!BBH", data, 12)
    octets = 16 + length
    if version_command >> 4 != 2:
        raise ProxyProtocolError("unknown version")
    if octets > MAX_V2_OCTETS:
        raise ProxyProtocolError("version 2 header too long")
    command = version_command & 0x0F
    if command > 1:
        raise ProxyProtocolError("unknown command")
    if len(data) < octets:
        return None
    if command == 0:  # LOCAL: the proxy's own connection; its addresses must be ignored
        return ProxyHeader(octets)
    width = {0x11: 4, 0x21: 16}.get(family)  # TCP over IPv4, TCP over IPv6
    if width is None:
        return ProxyHeader(octets)
    if length < 2 * width + 4:
        raise ProxyProtocolError("version 2 addresses cut short")
    hosts = [str(ipaddress.ip_address(data[at : at + width])) for at in (16, 16 + width)]
    ports = struct.unpack_from("!HH", data, 16 + 2 * width)
    client, local = (Endpoint(str(parse_address(host)), port) for host, port in zip(hosts, ports, strict=True))
    return ProxyHeader(octets, client, local)
