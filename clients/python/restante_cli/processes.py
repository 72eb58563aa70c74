"""The processes that `restante up` runs: how many of each kind, with which arguments and ports.

The first process of a kind has the settings of the configuration. Each further one has a name such as `imap-2` and
ports of its own, PORT_STEP higher each, but the processes of a gateway share the ports of its listeners (SO_REUSEPORT).
A further core has a directory of its own, DIR/core-2, for its socket and secrets; database and contents are shared.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from restante_process.config import Config, ConfigError

GATEWAYS = ("smtp", "imap", "pop3", "relay")
PORT_STEP = 100  # between the ports of two processes of one kind; up to the eighth meets no other port above a base
SOCKET_PATH_OCTETS = 100  # a core with a longer path has its socket elsewhere, where other processes do not look
SPARE_PROCESSORS = 2  # up to so many, one process of each kind uses the machine
MOST = 8  # of a kind, by default; each core has about ten connections to the database


@dataclass(frozen=True, slots=True)
class Planned:
    """One process to run."""

    name: str  # such as imap, or imap-2 for the second
    kind: str  # core, or a gateway
    arguments: tuple[str, ...]  # of the program `restante`
    health_port: int
    directory: Path | None = None  # of a further core, to be created


def counts(settings: Config, processors: int) -> dict[str, int]:
    """{kind: number of processes}. Raises ConfigError.

    A machine with more processors than SPARE_PROCESSORS gets two of the busy gateways, which keep one SQLite core busy.
    On PostgreSQL, cores and gateways grow with the machine (docs/speed.md "Many cores").
    """
    given = settings.processes
    is_sqlite = settings.store_url.startswith("sqlite")
    some = 1 if processors <= SPARE_PROCESSORS else 2
    many = some if is_sqlite else min(MOST, max(some, processors // 4))
    chosen = {
        "core": given.core or (1 if is_sqlite else min(MOST, max(1, processors // 2))),
        "smtp": given.smtp or many,
        "imap": given.imap or many,
        "pop3": given.pop3 or 1,
        "relay": 1,  # its limits for a host count over one process
    }
    for kind, number in chosen.items():
        if number < 1:
            raise ConfigError(f"processes.{kind}: must be 1 or more, or 0 for a number that fits the machine")
    if is_sqlite and chosen["core"] > 1:
        raise ConfigError("processes.core: a SQLite store has one core; several cores need PostgreSQL (store.url)")
    return chosen


def plan(settings: Config, file: Path, processors: int) -> list[Planned]:
    """The processes in the order of their start, all cores first. Raises ConfigError."""
    numbers = counts(settings, processors)
    cores = [_core(settings, file, number) for number in range(1, numbers["core"] + 1)]
    sockets = _sockets(settings, cores) if len(cores) > 1 and not settings.core_addresses else []
    made = list(cores)
    for kind in GATEWAYS:
        for number in range(1, numbers[kind] + 1):
            preferred = len(made) % len(sockets) if sockets else 0  # each core is the first choice of as many gateways
            rotated = [*sockets[preferred:], *sockets[:preferred]]
            made.append(_gateway(settings, file, kind, number, rotated, shared=numbers[kind] > 1))
    return made


def _core(settings: Config, file: Path, number: int) -> Planned:
    name, port = _named("core", number), _port(settings.health.core, number)
    if number == 1:
        return Planned(name, "core", ("core", "--config", str(file)), port)
    directory = (settings.directory / name).absolute()
    log = settings.security_file.absolute()
    keys = {
        "data": str(directory),
        "store.url": settings.store_url,
        "store.contents": str(settings.contents_directory.absolute()),
        "store.backups": str(settings.backups_directory.absolute()),
        # A file of its own, because a process that begins the next file of the series would leave the other behind.
        "logging.security_file": str(log.with_name(f"{log.stem}-{number}{log.suffix}")),
        "health.core": port,
        "core.api_port": _port(settings.core.api_port, number),
        "core.gateway_port": _port(settings.core.gateway_port, number),
    }
    return Planned(name, "core", ("core", "--config", str(file), *_set(keys)), port, directory)


def _gateway(settings: Config, file: Path, kind: str, number: int, sockets: Sequence[str], *, shared: bool) -> Planned:
    port = _port(getattr(settings.health, kind), number)
    keys: dict[str, object] = {}
    if number > 1:
        keys[f"health.{kind}"] = port
    if shared:
        keys["limits.reuse_port"] = True
    if sockets:
        keys["core_addresses"] = sockets
    return Planned(_named(kind, number), kind, ("gateway", kind, "--config", str(file), *_set(keys)), port)


def _sockets(settings: Config, cores: Sequence[Planned]) -> list[str]:
    paths = [((core.directory or settings.directory) / "core.sock").absolute() for core in cores]
    for path in paths:
        if len(os.fsencode(path)) > SOCKET_PATH_OCTETS:
            raise ConfigError(
                f"processes.core: {path} is too long for a socket (more than {SOCKET_PATH_OCTETS} octets); "
                "several cores need a data directory with a shorter path"
            )
    return [f"unix:{path}" for path in paths]


def further_ports(settings: Config, planned: Sequence[Planned]) -> Iterator[tuple[str, str, int]]:
    """(key and process, host, port) of each TCP port of the processes that are not the first of their kind."""
    for each in planned:
        _, _, number = each.name.partition("-")
        if not number:
            continue
        yield f"health.{each.kind} of {each.name}", settings.health.host, each.health_port
        if each.kind == "core":
            core = settings.core
            for key, host, port in (
                ("api_port", core.api_host, core.api_port),
                ("gateway_port", core.gateway_host, core.gateway_port),
            ):
                if port > 0:
                    yield f"core.{key} of {each.name}", host, _port(port, int(number))


def _named(kind: str, number: int) -> str:
    return kind if number == 1 else f"{kind}-{number}"


def _port(first: int, number: int) -> int:
    """The port of process `number`; 0 (any) and -1 (off) stay."""
    return first + PORT_STEP * (number - 1) if first > 0 else first


def _set(keys: dict[str, object]) -> Iterator[str]:
    """Options that set these keys. JSON's values are valid in TOML."""
    for key, value in keys.items():
        yield "--set"
        yield f"{key}={json.dumps(value, ensure_ascii=False)}"
