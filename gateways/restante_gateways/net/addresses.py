"""The other end of a connection (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from restante_process.addresses import Endpoint


class TlsFacts(NamedTuple):
    """TLS as agreed with the client: `version` as `TLSv1.3`, `cipher` by its OpenSSL name."""

    version: str
    cipher: str


@dataclass(frozen=True, slots=True)
class Peer:
    """Facts of one connection, as far as the network shows them.

    `client` is the address limits, logs and the core see: that of the PROXY header where the listener trusts its
    sender. `loopback` is judged by the socket alone and is never true on a listener that takes PROXY headers.
    """

    client: Endpoint
    local: Endpoint
    listener: str
    loopback: bool
    starttls: bool = False  # the listener lets a client turn to TLS
    tls: TlsFacts | None = None
