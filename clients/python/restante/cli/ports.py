"""Ports that an installation needs, and which of them others have."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

from restante.config import Config


def needed(settings: Config) -> Iterator[tuple[str, str, int]]:
    """(key of the configuration, host, port) of each TCP port that is served; port 0 is any free one."""
    for section in ("smtp", "imap", "pop3"):
        for name, listener in getattr(settings, section).listeners.items():
            yield f"{section}.listeners.{name}", listener.host, listener.port
    if settings.core.api_port >= 0:
        yield "core.api_port", settings.core.api_host, settings.core.api_port
    if settings.core.gateway_port >= 0:
        yield "core.gateway_port", settings.core.gateway_host, settings.core.gateway_port
    for name in ("up", "core", "imap", "pop3", "smtp", "relay"):
        port: int = getattr(settings.health, name)
        if port >= 0:
            yield f"health.{name}", settings.health.host, port


def problems(settings: Config) -> list[str]:
    """What stands against serving on them, one line for each port."""
    found: list[str] = []
    seen: dict[tuple[str, int], str] = {}
    for key, host, port in needed(settings):
        if port == 0:
            continue
        if (host, port) in seen:
            found.append(f"{key}: port {port} is given to {seen[host, port]} already")
            continue
        seen[host, port] = key
        problem = _problem(host, port)
        if problem:
            found.append(f"{key}: port {port} {problem}")
    return found


def _problem(host: str, port: int) -> str:
    try:
        addresses = socket.getaddrinfo(host.strip("[]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        return f"cannot be served: {error.strerror}"
    for family, kind, protocol, _name, address in addresses[:1]:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind(address)
            except PermissionError:
                return "needs a right: start with a systemd socket, or with CAP_NET_BIND_SERVICE"
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return "is in use by another program"
                return f"cannot be served: {error.strerror}"
    return ""
