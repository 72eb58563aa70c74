"""The cores that a gateway may use: their addresses, the process's credentials, and metrics of failover."""

from __future__ import annotations

import re
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from restante.failover import Move
from restante.link import CoreLink
from restante.target import ProcessIdentity, Target
from restante_gateways.core.frames import Frames
from restante_process.config import Config, ConfigError

log = structlog.get_logger("core")

_TCP = re.compile(r"(?:dns:)?(?:\[[0-9A-Fa-f:.]+\]|[^\s\[\]@/:]+):\d{1,5}")

STREAM_WINDOW_OCTETS = 1 << 20
"""Flow-control window of one stream from the core, unread by the gateway. On a busy machine gRPC's automatic window let
one FETCH of a large message hold 33 MiB."""


def targets(config: Config, gateway: str) -> tuple[Target, ...]:
    """The cores of a configuration, the preferred one first. Raises ConfigError."""
    if not config.core_addresses:
        return (_by_socket(_own_socket(config.directory), config.directory, gateway),)
    return tuple(_target(config, gateway, index, address) for index, address in enumerate(config.core_addresses))


def _target(config: Config, gateway: str, index: int, address: str) -> Target:
    if address.startswith("unix:/"):
        socket = address.removeprefix("unix:")
        return _by_socket(socket, Path(socket).parent, gateway)
    if _TCP.fullmatch(address) is None:
        raise ConfigError(
            f"core_addresses[{index}]: {address!r} is neither HOST:PORT, dns:NAME:PORT nor unix:/PATH of a socket"
        )
    return _by_mutual_tls(config, address)


def _own_socket(directory: Path) -> str:
    elsewhere = directory / "core.address"
    return elsewhere.read_text().strip() if elsewhere.exists() else str((directory / "core.sock").absolute())


def _by_socket(socket: str, directory: Path, gateway: str) -> Target:
    """A core on this machine; the gateway authenticates with the secret in the core's data directory."""
    try:
        secret = (directory / "secrets" / f"{gateway}.secret").read_text().strip()
    except FileNotFoundError as error:
        raise ConfigError(
            f"the secret of the {gateway} gateway, {error.filename}, does not exist. The core creates it at its start: "
            "start the core first, or name another directory by --data or --config."
        ) from None
    except OSError as error:
        raise ConfigError(
            f"the secret of the {gateway} gateway cannot be read: {error.filename}: {error.strerror}. "
            f"Run this as the user that owns {directory}."
        ) from None
    return Target(f"unix:{socket}", ProcessIdentity(gateway, secret), window_octets=STREAM_WINDOW_OCTETS)


def _by_mutual_tls(config: Config, address: str) -> Target:
    """A core on another machine, which identifies the gateway by the name in its certificate."""
    if not (config.tls.certificates and config.tls.client_ca):
        raise ConfigError(
            "tls: a gateway on another machine needs a certificate (tls.certificates) and an authority (tls.client_ca)"
        )
    own = config.tls.certificates[0]
    return Target(
        address,
        root_certificates=Path(config.tls.client_ca).read_bytes(),
        certificate_chain=Path(own.certificate).read_bytes(),
        private_key=Path(own.key).read_bytes(),
        window_octets=STREAM_WINDOW_OCTETS,
    )


def frames(config: Config) -> Frames | None:
    """The transport of Execute and of server streams that the configuration asks for; None is gRPC."""
    return Frames() if config.gateway.execute == "frames" else None


def show_moves(link: CoreLink, gateway: str, registry: CollectorRegistry) -> None:
    """Export the current core as a metric, and count and log each move to another core."""
    used = Gauge(
        "restante_gateway_core", "1 for the core in use, 0 for the others.", ["gateway", "core"], registry=registry
    )
    moves = Counter("restante_gateway_core_moves", "Number of moves to another core.", ["gateway"], registry=registry)
    moves.labels(gateway)
    used.labels(gateway, link.target.address).set(1)

    def moved(move: Move) -> None:
        used.clear()  # a DNS name may resolve to any number of addresses over time
        used.labels(gateway, move.after).set(1)
        moves.labels(gateway).inc()
        log.warning("moved to another core", before=move.before, after=move.after, why=move.why)

    link.on_move(moved)
