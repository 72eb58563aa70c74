"""The checks of [relay]: routes, smarthosts and source addresses. Each error names its key."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from restante_process.addresses import is_loopback
from restante_process.config import ConfigError, Relay, Smarthost, Source

_ROUTE = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s\[\]@/:]+)(?::(\d{1,5}))?")
_HOST = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,252}|[0-9A-Fa-f:.]+")
_NAME = re.compile(r"[0-9A-Za-z]([0-9A-Za-z.-]{0,252})")


def check(relay: Relay) -> None:
    """Check the section. Raises ConfigError."""
    for domain, route in relay.routes.items():
        _check_route(f"relay.routes.{domain}", route)
    for name, smarthost in relay.smarthosts.items():
        _check_smarthost(f"relay.smarthosts.{name}", smarthost)
    for name, source in relay.sources.items():
        _check_source(f"relay.sources.{name}", source)
    _require_once(
        [
            *((f"relay.routes.{domain}", domain) for domain in relay.routes),
            *(
                (f"relay.smarthosts.{name}.recipient_domains", domain)
                for name, smarthost in relay.smarthosts.items()
                for domain in smarthost.recipient_domains
            ),
        ]
    )
    for section, named in (("smarthosts", relay.smarthosts), ("sources", relay.sources)):
        _require_once(
            (f"relay.{section}.{name}.sender_domains", domain)
            for name, each in named.items()
            for domain in each.sender_domains
        )


def is_local(host: str) -> bool:
    """Whether a configured host is this machine, so that credentials need no TLS."""
    return host.lower() == "localhost" or is_loopback(host)


def _check_route(where: str, text: str) -> None:
    if "@" in text:
        raise ConfigError(
            f"{where}: a route cannot have a user and password; write HOST, HOST:PORT or [ADDRESS]:PORT, or use "
            "relay.smarthosts"
        )
    found = _ROUTE.fullmatch(text)
    if found is None or (found[1] and not 0 < int(found[1]) < 65_536):
        raise ConfigError(f"{where}: {text!r} is not a route; write HOST, HOST:PORT or [ADDRESS]:PORT")


def _check_smarthost(where: str, smarthost: Smarthost) -> None:
    if not _HOST.fullmatch(smarthost.host):
        raise ConfigError(f"{where}.host: {smarthost.host!r} is neither a host name nor an address; set it")
    if not 0 <= smarthost.port < 65_536:
        raise ConfigError(f"{where}.port: {smarthost.port} is not a port; write 1 to 65535, or 0 for the usual one")
    if not smarthost.recipient_domains and not smarthost.sender_domains:
        raise ConfigError(f"{where}: no mail goes to it; set recipient_domains or sender_domains")
    if "*" in smarthost.sender_domains:
        raise ConfigError(f'{where}.sender_domains: "*" is not allowed; put it into recipient_domains')
    if bool(smarthost.user) != bool(smarthost.secret_file):
        missing = "secret_file" if smarthost.user else "user"
        raise ConfigError(f"{where}.{missing}: the key is missing; a login needs user and secret_file")
    if smarthost.mechanism != "any" and not smarthost.user:
        raise ConfigError(f"{where}.mechanism: {smarthost.mechanism!r} needs user and secret_file")
    if any(ord(character) < 32 or ord(character) == 127 for character in smarthost.user):
        raise ConfigError(f"{where}.user: the name has a control character")
    if smarthost.user and smarthost.tls in ("none", "opportunistic") and not is_local(smarthost.host):
        raise ConfigError(
            f"{where}.tls: {smarthost.tls!r} would send the password to anybody; choose 'required' or 'implicit'"
        )


def _check_source(where: str, source: Source) -> None:
    if not source.sender_domains:
        raise ConfigError(f'{where}.sender_domains: the list is empty; name domains, or "*" for all')
    if not (source.ipv4 or source.ipv6 or source.hostname):
        raise ConfigError(f"{where}: it changes nothing; set ipv4, ipv6 or hostname")
    for key, text, version in (("ipv4", source.ipv4, 4), ("ipv6", source.ipv6, 6)):
        try:
            fits = not text or ipaddress.ip_address(text).version == version
        except ValueError:
            fits = False
        if not fits:
            raise ConfigError(f"{where}.{key}: {text!r} is not an IPv{version} address")
    if source.hostname and not _NAME.fullmatch(source.hostname):
        raise ConfigError(f"{where}.hostname: {source.hostname!r} is not a host name in ASCII (A-labels)")


def _require_once(named: Iterable[tuple[str, str]]) -> None:
    """Check that each domain is named once. Raises ConfigError."""
    places: dict[str, str] = {}
    for where, domain in named:
        key = domain.lower().rstrip(".")
        if key in places:
            raise ConfigError(f"{where}: {domain!r} is named already, in {places[key]}")
        places[key] = where
