"""The address of a core, and the credentials of a process for it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass, field, replace

import grpc
import grpc.aio

MAX_MESSAGE_OCTETS = 4 << 20
RESOLVE_SECONDS = 2.0
CONNECT_MILLISECONDS = 5_000  # for an attempt: TCP, TLS and HTTP/2 take several round trips


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """The credentials of a gateway or of the administrator's tool on the Unix socket. A repr never shows the secret."""

    name: str  # imap, pop3, smtp, relay or admin
    secret: str = field(repr=False)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of every call."""
        return (("restante-identity", self.name), ("restante-secret", self.secret))


@dataclass(frozen=True, slots=True)
class Target:
    """The address of a core or of several, with the settings of the connection.

    `address` is "unix:PATH" or "HOST:PORT", or "dns:NAME:PORT" for a name each of whose addresses is a core. TCP is
    always TLS: `root_certificates` (PEM) replaces the system's roots; `certificate_chain` and `private_key` (PEM)
    authenticate a gateway on the mTLS port. A given `server_name` is checked instead of the host of the address.
    `window_octets` bounds the octets of a stream that may arrive before they are read; with 0 gRPC measures the network
    and allows as many as are under way at a time, up to tens of MiB.
    """

    address: str
    identity: ProcessIdentity | None = None
    root_certificates: bytes | None = None
    certificate_chain: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)
    server_name: str = ""
    window_octets: int = 0

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of every call."""
        return self.identity.metadata if self.identity is not None else ()

    @property
    def is_name(self) -> bool:
        """Whether the address is a name that may have several cores."""
        return self.address.startswith("dns:")

    @property
    def host_and_port(self) -> tuple[str, str]:
        """The host of a TCP address, without brackets, and its port; a missing one is empty."""
        host, _, port = self.address.removeprefix("dns:").lstrip("/").rpartition(":")
        return host.removeprefix("[").removesuffix("]"), port

    async def resolved(self) -> tuple[Target, ...]:
        """One Target for each address of the name, looked up now; none when the lookup finds no address."""
        if not self.is_name:
            return (self,)
        host, port = self.host_and_port
        found: list[str] = []
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(RESOLVE_SECONDS):
                loop = asyncio.get_running_loop()
                for _, _, _, _, place in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                    address = place[0]
                    if isinstance(address, str):  # an int when this Python was built without the protocol
                        found.append(f"[{address}]:{port}" if ":" in address else f"{address}:{port}")
        return tuple(
            replace(self, address=address, server_name=self.server_name or host) for address in dict.fromkeys(found)
        )

    def open_channel(self) -> grpc.aio.Channel:
        """A channel that shares no connection with others, so that a new channel may reach another core."""
        options: list[tuple[str, int | str]] = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", MAX_MESSAGE_OCTETS),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", CONNECT_MILLISECONDS),  # gRPC's least time for an attempt
            ("grpc.max_reconnect_backoff_ms", 1_000),
        ]
        if self.window_octets:
            options += [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", self.window_octets)]
        if self.address.startswith("unix:"):
            return grpc.aio.insecure_channel(self.address, options=options)
        if self.server_name:
            options.append(("grpc.ssl_target_name_override", self.server_name))
        credentials = grpc.ssl_channel_credentials(self.root_certificates, self.private_key, self.certificate_chain)
        return grpc.aio.secure_channel(self.address, credentials, options=options)
