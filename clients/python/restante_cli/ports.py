"""The ports that an installation needs, and the reasons why some cannot be served."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from restante_cli.processes import Planned, further_ports
from restante_process import sockets
from restante_process.config import Config


def needed(settings: Config, planned: Sequence[Planned] = ()) -> Iterator[tuple[str, str, int]]:
    """(key of the configuration, host, port) of each TCP port to serve; port 0 is any free one."""
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
    yield from further_ports(settings, planned)


def problems(settings: Config, planned: Sequence[Planned] = ()) -> list[str]:
    """One line for each port that cannot be served, with the reason."""
    found: list[str] = []
    seen: dict[tuple[str, int], str] = {}
    for key, host, port in needed(settings, planned):
        if port == 0:
            continue
        if (host, port) in seen:
            found.append(f"{key}: port {port} is also that of {seen[host, port]}; give each its own")
            continue
        seen[host, port] = key
        problem = _problem(host, port)
        if problem:
            found.append(f"{key}: {problem}")
    return found


def _problem(host: str, port: int) -> str:
    try:
        listening = sockets.bind(host.strip("[]"), port)
    except sockets.CannotListen as error:
        return str(error)
    for each in listening:
        each.close()
    return ""
