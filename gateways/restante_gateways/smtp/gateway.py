"""The SMTP gateway process: its listeners, each with a session for every client."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from restante_gateways.net.addresses import Peer
from restante_gateways.net.connection import ConnectionBounds
from restante_gateways.net.limits import Refusal
from restante_gateways.net.runtime import Port, Runtime
from restante_gateways.smtp.core import Core
from restante_gateways.smtp.replies import Reply
from restante_gateways.smtp.session import SmtpSession
from restante_gateways.smtp.settings import Role, SessionSettings

REFUSALS = {
    refusal: Reply(421, "4.7.0", f"{refusal.value.capitalize()}, try again later").encode() for refusal in Refusal
}


@dataclass(frozen=True)
class SmtpListener:
    """One port and what it is for."""

    port: Port
    role: Role


@dataclass(frozen=True)
class SmtpSettings:
    """Settings of the SMTP gateway. `sessions` holds for every listener; its role and TLS are the listener's."""

    listeners: Mapping[str, SmtpListener]
    sessions: SessionSettings
    bounds: ConnectionBounds = field(default_factory=ConnectionBounds)


def listen(settings: SmtpSettings, core: Core, runtime: Runtime) -> None:
    """Accepts on all listeners. Raises OSError, ValueError."""
    by_name = {
        name: dataclasses.replace(settings.sessions, role=listener.role)
        for name, listener in settings.listeners.items()
    }

    def make_session(peer: Peer, lost: Callable[[], None]) -> SmtpSession:
        return SmtpSession(
            by_name[peer.listener],
            core,
            peer,
            lost,
            log=runtime.commands.session(peer, secrets.token_hex(4)),
            metrics=runtime.metrics,
            certificates=None if settings.listeners[peer.listener].port.tls == "none" else runtime.certificates,
        )

    ports = {name: listener.port for name, listener in settings.listeners.items()}
    runtime.listen_protocols(ports, make_session, refusals=REFUSALS, bounds=settings.bounds)
