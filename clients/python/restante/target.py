"""Where the core is, and how a process proves itself to it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass, field, replace

import grpc
import grpc.aio

MAX_MESSAGE_OCTETS = 4 << 20
RESOLVE_SECONDS = 2.0
CONNECT_MILLISECONDS = 5_000  # an attempt may take so long: TCP, TLS and HTTP/2 are several round trips


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """What a gateway or the administrator's tool says on the Unix socket. The secret never shows in a repr."""

    name: str  # imap, pop3, smtp, relay or admin
    secret: str = field(repr=False)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The entries that go with every call."""
        return (("restante-identity", self.name), ("restante-secret", self.secret))


@dataclass(frozen=True, slots=True)
class Target:
    """A core to talk to.

    `address` is "unix:PATH" or "HOST:PORT", or "dns:NAME:PORT" for a name each of whose addresses is a core. TCP is
    always TLS: `root_certificates` (PEM) replaces the system's roots; `certificate_chain` and `private_key` (PEM) prove
    a gateway on the mTLS port. `server_name` is checked instead of the host of the address when given. `window_octets`
    bounds how much of a stream may arrive before it is read; with 0 gRPC measures the network and lets a stream have
    as much as fits on the way, up to tens of MiB.
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
        """The entries that go with every call."""
        return self.identity.metadata if self.identity is not None else ()

    @property
    def is_name(self) -> bool:
        """Whether this may stand for several cores."""
        return self.address.startswith("dns:")

    @property
    def host_and_port(self) -> tuple[str, str]:
        """Of TCP: the name or literal without its brackets, and the port. Either is empty where it is missing."""
        host, _, port = self.address.removeprefix("dns:").lstrip("/").rpartition(":")
        return host.removeprefix("[").removesuffix("]"), port

    async def resolved(self) -> tuple[Target, ...]:
        """Each core by an address of its own, looked up now; none where the name has none."""
        if not self.is_name:
            return (self,)
        host, port = self.host_and_port
        found: list[str] = []
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(RESOLVE_SECONDS):
                loop = asyncio.get_running_loop()
                for _, _, _, _, place in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                    address = place[0]
                    if isinstance(address, str):  # a number stands for a protocol that this Python was built without
                        found.append(f"[{address}]:{port}" if ":" in address else f"{address}:{port}")
        return tuple(
            replace(self, address=address, server_name=self.server_name or host) for address in dict.fromkeys(found)
        )

    def open_channel(self) -> grpc.aio.Channel:
        """A channel with connections of its own, so that a fresh one may reach another core."""
        options: list[tuple[str, int | str]] = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", MAX_MESSAGE_OCTETS),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", CONNECT_MILLISECONDS),  # what gRPC grants an attempt at the least
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
