"""Reading the configuration: one TOML file, then environment `RESTANTE_SECTION__KEY`, then flags.

An unknown key or a value of the wrong type raises ConfigError, which names the key.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
import tomllib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from restante_process import relaying
from restante_process.config import Config, ConfigError, Reports, SmtpListener

ENVIRONMENT = "RESTANTE_"

_DOMAIN_OCTETS = 253
_LONGEST = 100_000  # of a time of greylisting, in whatever unit
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def load(
    path: Path | None, environment: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> Config:
    """The configuration from a file (None: no file), the environment, and flags such as {"core.api_port": 0}.

    Raises ConfigError.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: {error}") from None
    for name, text in sorted((os.environ if environment is None else environment).items()):
        if name.startswith(ENVIRONMENT) and name.removeprefix(ENVIRONMENT).split("__")[0].lower() in _KEYS:
            _put(values, name.removeprefix(ENVIRONMENT).lower().split("__"), from_text(text), name)
    for key, value in (flags or {}).items():
        _put(values, key.split("."), value, key)
    made = _make(Config, values, "")
    assert isinstance(made, Config)
    relaying.check(made.relay)
    _check_domain("transport.forwarding_domain", made.transport.forwarding_domain)
    _check_reports(made.reports)
    _check_greylisting(made)
    for name, listener in made.smtp.listeners.items():
        _check_trust(f"smtp.listeners.{name}", listener)
    return made


def changed(old: Config, new: Config) -> list[str]:
    """The keys with different values, such as "core.api_port"."""
    return list(_changed(old, new, ""))


def _changed(old: Any, new: Any, where: str) -> Iterator[str]:
    for each in dataclasses.fields(old):
        key = f"{where}{each.name}"
        before, after = getattr(old, each.name), getattr(new, each.name)
        if dataclasses.is_dataclass(before):
            yield from _changed(before, after, f"{key}.")
        elif before != after:
            yield key


def _check_domain(where: str, name: str) -> None:
    if name and (len(name) > _DOMAIN_OCTETS or not all(_LABEL.fullmatch(label) for label in name.split("."))):
        raise ConfigError(f'{where}: {name!r} is not a domain name; write one such as "bounces.example.org"')


def _check_reports(reports: Reports) -> None:
    for name in reports.failure_domains:
        if name != "*":
            _check_domain("reports.failure_domains", name or "(empty)")
    if not reports.failure_seconds > 0:
        raise ConfigError(f"reports.failure_seconds: {reports.failure_seconds} is not above 0")
    for key in ("failure_hourly", "failure_hourly_total"):
        if getattr(reports, key) < 1:
            raise ConfigError(f"reports.{key}: {getattr(reports, key)} is not above 0; no failure_domains: no reports")


def _check_greylisting(made: Config) -> None:
    given, checks = made.greylisting, made.checks
    for key in ("wait_seconds", "retry_hours", "keep_days"):
        if not 0 <= getattr(given, key) <= _LONGEST:  # false for NaN, too
            raise ConfigError(f"greylisting.{key}: {getattr(given, key)} is not between 0 and {_LONGEST}")
    if given.retry_hours * 3_600 <= given.wait_seconds:
        raise ConfigError("greylisting.retry_hours: the time for a retry ends before greylisting.wait_seconds")
    if given.proven_after < 0:
        raise ConfigError(f"greylisting.proven_after: {given.proven_after} is negative")
    for name in given.skip_passing:
        needed = "reverse_dns" if name == "reverse-dns" else "spf"
        if not getattr(checks, needed):
            raise ConfigError(f"greylisting.skip_passing: {name!r} needs checks.{needed}")


def _check_trust(where: str, listener: SmtpListener) -> None:
    if listener.role != "lmtp":
        for key in ("allow_from", "path"):
            if getattr(listener, key):
                raise ConfigError(f"{where}.{key}: only a listener with role = 'lmtp' has this key")
    elif not listener.path and not listener.allow_from:
        raise ConfigError(f"{where}: a listener with role = 'lmtp' needs a path, or networks in allow_from")
    elif listener.path and (listener.host or listener.port or listener.allow_from or listener.proxy_from):
        raise ConfigError(f"{where}.path: a Unix socket has no host, port, allow_from and proxy_from")
    for text in listener.allow_from:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            raise ConfigError(f"{where}.allow_from: {error}; write ADDRESS or ADDRESS/BITS") from None


def _put(values: dict[str, Any], keys: list[str], value: Any, name: str) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{name}: {key} is not a section")
    values[keys[-1]] = value


def from_text(text: str) -> Any:
    """The value of an environment variable: a TOML value if it parses as one, otherwise the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _make(kind: Any, value: Any, where: str) -> Any:
    """Convert a TOML value to the type `kind`. Raises ConfigError with the key."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _make_section(kind, value, where)
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(f"{where}: {value!r} is not allowed; choose {' or '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: {value!r} is not a list; write [...]")
        return tuple(_make(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: {value!r} is not a section")
        return {name: _make(arguments[1], item, f"{where}.{name}") for name, item in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise ConfigError(f"{where}: {value!r} is not {_KINDS[kind]}")
    return value


def _make_section(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: {value!r} is not a section")
    kinds = typing.get_type_hints(kind)
    for key in value:
        if key not in kinds:
            raise ConfigError(f"{where + '.' if where else ''}{key}: unknown key; `restante config` lists all keys")
    for each in dataclasses.fields(kind):
        required = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        if required and each.name not in value:
            choices = " or ".join(map(repr, typing.get_args(kinds[each.name])))
            raise ConfigError(f"{where}.{each.name}: the key is missing{f'; set it to {choices}' if choices else ''}")
    made = {key: _make(kinds[key], item, f"{where}.{key}" if where else key) for key, item in value.items()}
    return kind(**made)


_KINDS = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
_KEYS = frozenset(key.name for key in dataclasses.fields(Config))
