"""gRPC's options for the API's servers. gRPC ignores unknown names, so a test looks up each one."""

from __future__ import annotations

from dataclasses import dataclass

MAX_RECEIVED_OCTETS = 2 << 20
"""Of one request message. A batch may have 1 MiB and a piece of content 512 KiB.

The margin lets the core refuse a message that is too large for its kind with an ErrorReason. Above this limit gRPC ends
the call before the core sees it (errors.proto).
"""
MAX_STREAMS = 10_000  # HTTP/2 streams of one connection

Options = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Keepalive:
    """HTTP/2 pings (RFC 9113 6.7). Every SDK pings once a minute while it has an open stream, even an idle one."""

    every_seconds: float = 60.0  # between two pings to a client
    timeout_seconds: float = 20.0  # for the answer to a ping; then the connection is closed
    least_seconds: float = 20.0  # between a client's pings; a faster client is disconnected with "too_many_pings"

    def options(self) -> Options:
        """The options in gRPC's form.

        Without the third, gRPC disconnects each client that pings an idle stream more than once in five minutes.
        """
        return (
            ("grpc.keepalive_time_ms", round(self.every_seconds * 1_000)),
            ("grpc.keepalive_timeout_ms", round(self.timeout_seconds * 1_000)),
            ("grpc.http2.min_ping_interval_without_data_ms", round(self.least_seconds * 1_000)),
        )


KEEPALIVE = Keepalive()


def server_options(keepalive: Keepalive) -> Options:
    """The options of one server."""
    return (
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", MAX_RECEIVED_OCTETS),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        *keepalive.options(),
    )


def handshake_options(seconds: float | None) -> Options:
    """The option that limits the time for a client's HTTP/2 preface and first settings (RFC 9113 3.4)."""
    return () if seconds is None else (("grpc.server_handshake_timeout_ms", round(seconds * 1_000)),)
