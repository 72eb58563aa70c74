"""`restante up`: run the cores and all gateways as child processes; with --demo, also create accounts and mail."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import click
import structlog

from restante import errors
from restante_cli import authority, demo, directories, health, ports, processes
from restante_cli.failures import described
from restante_cli.processes import Planned
from restante_cli.supervisor import EXTRA_SECONDS, Child, Supervisor
from restante_process import config, logs
from restante_process.options import read_config
from restante_process.reload import Reload

PORTS = {"mx": 25, "pop3": 110, "imap": 143, "submissions": 465, "submission": 587, "imaps": 993, "pop3s": 995}
HOSTS = ("localhost", "127.0.0.1", "::1", "mx.example.test")
START_SECONDS = 60.0
HIGHEST_BASE = 65_535 - max(PORTS.values())

DEMO_CONFIG = """\
# Written by `restante up --demo` at each start. Everything here stays on this machine.
data = {data}

[core]
api_host = "localhost"
api_port = {api}

[tls]
authentication = "except-loopback"
certificates = [{{ certificate = {certificate}, key = {key} }}]

[transport]
hostname = "mx.example.test"

[relay]
send = {send}

[store]
reserve_octets = 104857600

[logging]
format = "console"
level = "warning"

[smtp.listeners]
mx = {{ host = "127.0.0.1", port = {mx}, role = "mx" }}
submission = {{ host = "127.0.0.1", port = {submission}, role = "submission" }}
submissions = {{ host = "127.0.0.1", port = {submissions}, tls = "implicit", role = "submission" }}

[imap.listeners]
imap = {{ host = "127.0.0.1", port = {imap} }}
imaps = {{ host = "127.0.0.1", port = {imaps}, tls = "implicit" }}

[pop3.listeners]
pop3 = {{ host = "127.0.0.1", port = {pop3} }}
pop3s = {{ host = "127.0.0.1", port = {pop3s}, tls = "implicit" }}

[health]
up = {up}
core = {core}
imap = {imap_health}
pop3 = {pop3_health}
smtp = {smtp_health}
relay = {relay_health}
"""


def prepare_demo(directory: Path, base: int, send: bool) -> None:
    """Create a demo directory, or use an earlier one. Raises click.ClickException for any other directory."""
    directory = directory.absolute()
    directories.claim(directory, "demo")
    if not (directory / "ca.pem").exists():
        authority.make(directory, HOSTS)
    offset = base or 9_000
    numbers = {name: base + port for name, port in PORTS.items()} | {
        "api": base + 51 if base else 50_051,
        "up": offset + 90,
        "core": offset + 91,
        "imap_health": offset + 92,
        "pop3_health": offset + 93,
        "smtp_health": offset + 94,
        "relay_health": offset + 95,
    }
    text = DEMO_CONFIG.format(
        data=_text(directory),
        certificate=_text(directory / "tls" / "cert.pem"),
        key=_text(directory / "tls" / "key.pem"),
        send=str(send).lower(),
        **numbers,
    )
    (directory / "restante.toml").write_text(text, encoding="utf-8")


def _text(path: Path) -> str:
    """A path as a TOML string; JSON's escapes are valid in TOML."""
    return json.dumps(str(path), ensure_ascii=False)


def migrate(directory: Path) -> None:
    """Migrate the store in a separate process, which backs it up first when a migration is due.

    Prints the place of the backup. Raises click.ClickException; a failed backup leaves the store unchanged.
    """
    file = directory / "restante.toml"
    migrated = subprocess.run(
        [sys.executable, "-m", "restante_cli", "store", "migrate", "--backup", "--config", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    if migrated.returncode:
        lines = migrated.stderr.strip().splitlines() or [f"the migration ended with status {migrated.returncode}"]
        raise click.ClickException(f"the store cannot be opened: {lines[-1].removeprefix('Error: ')}")
    for line in migrated.stdout.splitlines()[:-1]:  # the last line is the schema's number
        click.echo(line)


def require_ports(settings: config.Config, planned: Sequence[Planned], patience_seconds: float, advice: str) -> None:
    """Wait at most `patience_seconds` until every port is free.

    Raises click.ClickException, which names each port that cannot be served.
    """
    until = time.monotonic() + patience_seconds
    while found := ports.problems(settings, planned):
        if time.monotonic() >= until:
            raise click.ClickException("\n  ".join(["these ports are not available:", *found]) + f"\n{advice}")
        time.sleep(0.2)


def processors() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def planned_processes(settings: config.Config) -> list[Planned]:
    """The processes of an installation on this machine. Raises click.ClickException."""
    try:
        planned = processes.plan(settings, settings.directory / "restante.toml", processors())
    except config.ConfigError as problem:
        raise click.ClickException(str(problem)) from None
    for each in planned:
        if each.health_port <= 0:
            raise click.ClickException(f"health.{each.kind}: `up` needs a port here to know when the process is ready")
    return planned


async def run(settings: config.Config, planned: Sequence[Planned], *, with_demo: bool) -> None:
    """Start all processes, and end them on SIGTERM or Ctrl-C. Raises click.ClickException when one cannot start."""
    ended = _end_requested()
    ports_of = {each.name: each.health_port for each in planned}
    cores = [each for each in planned if each.kind == "core"]
    core_ready = partial(health.ready, settings.health.host, *(each.health_port for each in cores))
    supervisor = Supervisor(reporter(settings.logging), settings.core.drain_seconds, core_ready)
    _on_hangup(settings, supervisor, ended)
    async with health.served(settings, ports_of, supervisor):
        try:
            await _start(settings, supervisor, cores[:1], ended)  # it alone completes a new store
            await _start(settings, supervisor, cores[1:], ended)
            if with_demo and not ended.is_set():
                await demo.populate(settings)
            await _start(settings, supervisor, [each for each in planned if each.kind != "core"], ended)
            if not ended.is_set():
                supervisor.complete = True
                click.echo(demo.how_to_connect(settings) if with_demo else "Restante is running.")
            await ended.wait()
            click.echo("Shutting down: commands in progress finish first.", err=True)
        finally:
            await supervisor.stop()


async def _start(
    settings: config.Config, supervisor: Supervisor, some: Sequence[Planned], ended: asyncio.Event
) -> None:
    """Start some processes and wait until each is ready, or `ended` is set. Raises click.ClickException."""
    children = []
    for each in some:
        if ended.is_set():
            return
        if each.directory is not None:
            each.directory.mkdir(mode=0o700, exist_ok=True)
        children.append(await supervisor.start(each.name, each.arguments, ends_last=each.kind == "core"))
    for each, child in zip(some, children, strict=True):
        await _ready(settings, each, child, ended)


def reporter(logging: config.Logging) -> Callable[[str], None]:
    """A function that writes a line about the children, in the format of their logs."""
    if logging.format == "console":
        return lambda line: click.echo(line, err=True)
    logs.configure("up", form=logging.format, level=logging.level)
    log = structlog.get_logger("up")

    def report(line: str) -> None:
        log.warning(line)

    return report


def _end_requested() -> asyncio.Event:
    """An event set by SIGTERM or Ctrl-C. Further signals do not interrupt the draining."""
    ended, loop = asyncio.Event(), asyncio.get_running_loop()

    def end(_number: int, _frame: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended
            loop.call_soon_threadsafe(ended.set)

    # signal.signal, because the event loop removes its handlers when it closes.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    return ended


def _on_hangup(settings: config.Config, supervisor: Supervisor, ended: asyncio.Event) -> None:
    """Pass SIGHUP on to the children, and end when the terminal has closed."""
    loop, file = asyncio.get_running_loop(), settings.directory / "restante.toml"
    hung_up = Reload(settings, lambda: read_config(file, None, ()), lambda _: supervisor.reload(), ended.set)

    def pass_on(_number: int, _frame: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: it has ended
            loop.call_soon_threadsafe(hung_up)

    signal.signal(signal.SIGHUP, pass_on)


async def _ready(settings: config.Config, each: Planned, child: Child, ended: asyncio.Event) -> None:
    """Wait until a child is ready or `ended` is set. Raises click.ClickException when it does not become ready."""
    host, port = settings.health.host, each.health_port
    problem = await health.wait_until_ready(host, port, START_SECONDS, ended, child.died)
    if not problem or ended.is_set():
        return
    if child.died.is_set():
        raise click.ClickException(
            f"{child.name} could not start (status {child.last_status}); the reason is in the lines above"
        )
    raise click.ClickException(f"{child.name} was not ready within {START_SECONDS:.0f} s: {problem}")


@click.command("up")
@click.option("--demo", "with_demo", is_flag=True, help="Run a demo with accounts and mail, on this machine only.")
@click.option("--data", required=True, type=click.Path(path_type=Path, file_okay=False), help="The data directory.")
@click.option(
    "--base-port",
    default=2000,
    show_default=True,
    type=click.IntRange(0, HIGHEST_BASE),
    help="Base of the demo's ports: each is this plus the well-known port.",
)
@click.option("--send", is_flag=True, help="Let the demo's relay send mail to other servers.")
@click.pass_context
def up(context: click.Context, with_demo: bool, data: Path, base_port: int, send: bool) -> None:
    """Run the core and all gateways."""
    if not with_demo:
        if send or context.get_parameter_source("base_port") is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError("--base-port and --send need --demo; set the ports and relay.send in restante.toml.")
        if not (data / "restante.toml").exists():
            raise click.ClickException(
                f"{data} has no restante.toml; create an installation with `restante init`, or use --demo"
            )
    else:
        directories.claim(data.absolute(), "demo")
    with directories.supervised(data) as broken_off:
        if with_demo:
            prepare_demo(data, base_port, send)
        settings = read_config(None, data, ())
        planned = planned_processes(settings)
        # The children of a killed supervisor may still be draining, with the ports in use.
        advice = "Choose others with --base-port." if with_demo else f"Choose others in {data / 'restante.toml'}."
        require_ports(settings, planned, settings.core.drain_seconds + EXTRA_SECONDS if broken_off else 0.0, advice)
        migrate(data)
        try:
            asyncio.run(run(settings, planned, with_demo=with_demo))
        except errors.RestanteError as error:
            raise click.ClickException(described(error)) from None
        except OSError as error:
            raise click.ClickException(f"{error.strerror or error}") from None
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # a late signal must not change the exit code
