"""The TCP ports of the core: TLS for native clients, mutual TLS for gateways on other machines."""

from __future__ import annotations

import contextlib
import logging
import resource
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from restante_process import config, sockets
from restante_process.certificates import Expiry
from restante_process.limits import ConnectionLimits
from restante_process.tls import CertificateError, CertificateFiles, Certificates
from restante_server.api.engine.front import PROTOCOL, Front, FrontSettings, FrontThread
from restante_server.api.engine.rpc import Listener

log = logging.getLogger(__name__)

EVERYWHERE = ("::", "[::]")  # each means every address, as in gRPC and in older configuration files
DESCRIPTORS_EACH = 3  # of one connection: the client's, and both ends of the connection to gRPC
DESCRIPTORS_KEPT = 512  # for mail, the store and everything else


class Fronts:
    """The configured ports, with their certificates and limits."""

    def __init__(self, api: Front | None, gateways: Front | None, certificates: list[Certificates]) -> None:
        self._api, self._gateways, self._certificates = api, gateways, certificates
        self._thread = FrontThread(list(self._fronts()))

    @classmethod
    def open(cls, settings: config.Config) -> Fronts:
        """Bind the ports and read the certificates. Raises ConfigError, CannotListen."""
        chosen = settings.core
        limits = _limits(chosen, ports=(chosen.api_port >= 0) + (chosen.gateway_port >= 0))
        general = FrontSettings("api", limits, chosen.api_handshake_seconds)
        api = gateways = None
        certificates = []
        with contextlib.ExitStack() as opened:
            if chosen.api_port >= 0:
                pairs = _certificates(settings, None)
                listening = _bind("core.api_port", chosen.api_host, chosen.api_port, opened)
                api = Front(general, listening, pairs)
                certificates.append(pairs)
            if chosen.gateway_port >= 0:
                if not settings.tls.client_ca:
                    raise config.ConfigError(
                        "tls.client_ca is missing: the gateways' port (core.gateway_port) needs it"
                    )
                pairs = _certificates(settings, Path(settings.tls.client_ca))
                listening = _bind("core.gateway_port", chosen.gateway_host, chosen.gateway_port, opened)
                gateways = Front(replace(general, name="gateways", mutual_tls=True), listening, pairs)
                certificates.append(pairs)
            opened.pop_all()
        return cls(api, gateways, certificates)

    @property
    def api_port(self) -> int:
        """The TCP port for native clients, 0 if there is none."""
        return self._api.port if self._api is not None else 0

    @property
    def gateway_port(self) -> int:
        """The TCP port for gateways on other machines, 0 if there is none."""
        return self._gateways.port if self._gateways is not None else 0

    @property
    def listeners(self) -> list[Listener]:
        """The listeners that gRPC must serve before `start`."""
        return [Listener(front.address, front.channel, front.settings.handshake_seconds) for front in self._fronts()]

    @property
    def expiries(self) -> list[Expiry]:
        """The expiry of each certificate in use."""
        return self._certificates[0].expiries() if self._certificates else []

    async def start(self) -> None:
        """Begin to accept."""
        await self._thread.start()

    async def stop_accepting(self) -> None:
        """Refuse new connections; open ones go on."""
        await self._thread.stop_accepting()

    async def close(self) -> None:
        """End every connection."""
        await self._thread.close()

    def reload(self, pairs: tuple[config.Certificate, ...] | None = None) -> None:
        """Read changed certificates again, or read `pairs` instead.

        A bad certificate is logged, and the old one stays in use.
        """
        for certificates in self._certificates:
            if pairs is None:
                certificates.reload()
            else:
                certificates.replace(_files(pairs))

    def warn_of_expiry(self) -> None:
        """Log each certificate that has expired or soon will."""
        for certificates in self._certificates[:1]:  # both ports have the same
            certificates.warn_of_expiry(datetime.now(UTC))

    def _fronts(self) -> Iterator[Front]:
        yield from (front for front in (self._api, self._gateways) if front is not None)


def _bind(key: str, host: str, port: int, opened: contextlib.ExitStack) -> list[sockets.Socket]:
    try:
        made = sockets.bind("*" if host in EVERYWHERE else host.strip("[]"), port)
    except sockets.CannotListen as error:
        raise sockets.CannotListen(error.errno, f"{key}: {error}") from None
    for listening in made:
        opened.callback(listening.close)
    return made


def _files(pairs: tuple[config.Certificate, ...]) -> list[CertificateFiles]:
    return [CertificateFiles(Path(each.certificate), Path(each.key), each.hosts) for each in pairs]


def _certificates(settings: config.Config, client_ca: Path | None) -> Certificates:
    files = _files(settings.tls.certificates)
    if not files:
        raise config.ConfigError("tls.certificates is empty: the API needs a certificate")
    try:
        return Certificates(files, client_ca=client_ca, protocols=[PROTOCOL])
    except CertificateError as error:
        raise config.ConfigError(f"tls: {error}") from None


def _limits(chosen: config.Core, ports: int) -> ConnectionLimits:
    """The limits of each port: as configured, or fewer connections if the process may not have enough descriptors."""
    connections = chosen.api_connections
    room = (_descriptors() - DESCRIPTORS_KEPT) // DESCRIPTORS_EACH // max(ports, 1)
    if 0 < room < connections or connections <= 0:
        connections = max(room, 1)
        log.warning(
            "core.api_connections is reduced to %d: the process may open no more files (ulimit -n)", connections
        )
    return ConnectionLimits(
        connections=connections,
        connections_per_address=chosen.api_connections_per_address,
        new_per_minute_per_address=0,
        exempt=(),
    )


def _descriptors() -> int:
    """The number of descriptors that this process may have, after raising its soft limit to the hard limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # some systems have a lower limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft
