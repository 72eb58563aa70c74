"""The client's end of a connection. *Pure.*"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from restante_process.addresses import Endpoint


class TlsFacts(NamedTuple):
    """The negotiated TLS: `version` such as `TLSv1.3`, `cipher` by its OpenSSL name."""

    version: str
    cipher: str


@dataclass(frozen=True, slots=True)
class Peer:
    """Network facts of one connection.

    `client` is the address for limits, logs and the core: the one in the PROXY header if the listener accepts those.
    `loopback` depends on the socket alone and is never true on a listener that accepts PROXY headers.
    """

    client: Endpoint
    local: Endpoint
    listener: str
    loopback: bool
    starttls: bool = False  # the listener offers STARTTLS
    tls: TlsFacts | None = None
