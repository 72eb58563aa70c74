"""`restante up`: the core and all gateways as child processes; with --demo, people and mail to try it with."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import click

from restante import config
from restante.cli import certificates, demo, health
from restante.cli.supervisor import Supervisor
from restante.options import read_config

MARKER = ".restante"
PORTS = {"mx": 25, "pop3": 110, "imap": 143, "submissions": 465, "submission": 587, "imaps": 993, "pop3s": 995}
GATEWAYS = ("smtp", "imap", "pop3", "relay")
HOSTS = ("localhost", "127.0.0.1", "::1", "mx.example.test")
START_SECONDS = 60.0

DEMO_CONFIG = """\
# Written by `restante up --demo`. Everything here stays on this machine.
{core_address}data = "{data}"

[core]
api_host = "127.0.0.1"
api_port = {api}

[tls]
authentication = "except-loopback"
certificates = [{{ certificate = "{data}/tls/cert.pem", key = "{data}/tls/key.pem" }}]

[transport]
hostname = "mx.example.test"

[relay]
send = {send}

[store]
reserve_octets = 104857600

[smtp.listeners]
mx = {{ host = "127.0.0.1", port = {mx} }}
submission = {{ host = "127.0.0.1", port = {submission} }}
submissions = {{ host = "127.0.0.1", port = {submissions}, tls = "implicit" }}

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
    """Make a demo directory, or take the one made before. Raises click.ClickException for any other directory."""
    directory = directory.absolute()
    if directory.exists() and any(directory.iterdir()) and not (directory / MARKER).exists():
        raise click.ClickException(f"{directory} is not empty and was not made by restante: it is left alone")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (directory / MARKER).touch(mode=0o600)
    if not (directory / "ca.pem").exists():
        certificates.make(directory, HOSTS)
    ports = {name: base + port for name, port in PORTS.items()}
    offset = base or 9_000
    others = {
        "api": base + 51 if base else 50_051,
        "up": offset + 90,
        "core": offset + 91,
        "imap_health": offset + 92,
        "pop3_health": offset + 93,
        "smtp_health": offset + 94,
        "relay_health": offset + 95,
    }
    text = DEMO_CONFIG.format(core_address="", data=directory, send=str(send).lower(), **ports, **others)
    (directory / "restante.toml").write_text(text)


async def run(settings: config.Config, *, with_demo: bool) -> None:
    """Start everything, and end it on SIGTERM or Ctrl-C."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    file = str(settings.directory / "restante.toml")
    supervisor = Supervisor(lambda line: click.echo(line, err=True), settings.core.drain_seconds)
    async with health.served(settings, supervisor):
        try:
            await supervisor.start("core", ["core", "--config", file])
            if not await health.wait_until_ready(settings.health.host, settings.health.core, START_SECONDS, ended):
                return
            if with_demo:
                await demo.populate(settings)
            for name in GATEWAYS:
                await supervisor.start(name, ["gateway", name, "--config", file])
            for name in GATEWAYS:
                port: int = getattr(settings.health, name)
                if not await health.wait_until_ready(settings.health.host, port, START_SECONDS, ended):
                    return
            if with_demo:
                click.echo(demo.how_to_connect(settings))
            await ended.wait()
            click.echo("Ending: commands under way are finished first.", err=True)
        finally:
            await supervisor.stop()


@click.command("up")
@click.option("--demo", "with_demo", is_flag=True, help="With people and mail to try it with, on this machine only.")
@click.option("--data", required=True, type=click.Path(path_type=Path, file_okay=False), help="The data directory.")
@click.option("--base-port", default=2000, show_default=True, help="Each port is this plus the well-known one (demo).")
@click.option("--send", is_flag=True, help="Let the demo's relay talk to other servers.")
def up(with_demo: bool, data: Path, base_port: int, send: bool) -> None:
    """Run the core and all gateways."""
    if with_demo:
        prepare_demo(data, base_port, send)
    elif not (data / "restante.toml").exists():
        raise click.ClickException(f"{data} has no restante.toml: make one with `restante init`, or use --demo")
    settings = read_config(None, data, ())
    migrated = subprocess.run(
        [sys.executable, "-m", "restante", "migrate", "--config", str(data / "restante.toml")],
        capture_output=True,
        text=True,
        check=False,
    )
    if migrated.returncode:
        raise click.ClickException(migrated.stderr.strip().removeprefix("Error: "))
    asyncio.run(run(settings, with_demo=with_demo))
