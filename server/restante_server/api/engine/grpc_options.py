"""gRPC's options for the API's servers. gRPC passes over a name that it does not know: a test looks each of them up."""

from __future__ import annotations

from dataclasses import dataclass

MAX_RECEIVED_OCTETS = 2 << 20
"""Of a request message: 1 MiB for a batch, 512 KiB for a piece of content, and room, so that what is too large for its
kind is refused here, with a reason. Above this gRPC ends the call before we see it (errors.proto)."""
MAX_STREAMS = 10_000  # of one connection

Options = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Keepalive:
    """HTTP/2 pings (RFC 9113 6.7). Every SDK pings once a minute while it has a stream, quiet or not."""

    every_seconds: float = 60.0  # we ping a client this often
    timeout_seconds: float = 20.0  # a connection without an answer to a ping is closed
    least_seconds: float = 20.0  # a client that pings faster than this is sent away with "too_many_pings"

    def options(self) -> Options:
        """As gRPC takes them.

        Without the third, gRPC sends away each client that pings a quiet stream more than once in five minutes.
        """
        return (
            ("grpc.keepalive_time_ms", round(self.every_seconds * 1_000)),
            ("grpc.keepalive_timeout_ms", round(self.timeout_seconds * 1_000)),
            ("grpc.http2.min_ping_interval_without_data_ms", round(self.least_seconds * 1_000)),
        )


KEEPALIVE = Keepalive()


def server_options(keepalive: Keepalive) -> Options:
    """All options of one server."""
    return (
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", MAX_RECEIVED_OCTETS),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        *keepalive.options(),
    )


def handshake_options(seconds: float | None) -> Options:
    """How long a client may take for the preface and the first settings of HTTP/2 (RFC 9113 3.4)."""
    return () if seconds is None else (("grpc.server_handshake_timeout_ms", round(seconds * 1_000)),)
