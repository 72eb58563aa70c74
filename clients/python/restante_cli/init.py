"""`restante init`: create a first installation."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import click

from restante import errors
from restante.calls import Calls
from restante.v1 import methods
from restante.v1.admin_pb2 import CreateAccountRequest, CreateDomainRequest, GetStatisticsRequest
from restante.v1.signing_pb2 import CreateDomainKeysRequest, DomainKey
from restante_cli import authority, directories
from restante_cli.admin.domain_keys import quoted_strings
from restante_cli.connect import admin_link
from restante_cli.failures import described, run
from restante_cli.inputs import password_file_option, password_stdin_option, read_password
from restante_cli.supervisor import LEASH
from restante_cli.up import migrate
from restante_process.config import Config
from restante_process.options import read_config

START_SECONDS = 30.0
QUIET = ("core.api_port=-1", "core.gateway_port=-1", "health.core=-1")  # the setup uses only the socket

CONFIG = """\
# Written by `restante init`. `restante config` prints every key with its default, and with --check checks this file.
data = {data}

[core]
# The API for clients, by TLS. Name an address of this machine, or "*" for all, to serve other machines.
api_host = "localhost"
api_port = 50051

[[tls.certificates]]
# Both files are read again when they change. Further sections of this name serve other host names.
certificate = {certificate}
key = {key}

[transport]
# The host name that other servers see. The PTR record of its address must name it.
hostname = {hostname}

[smtp.listeners]
# "mx" receives mail for your domains from other servers, "submission" accepts mail from users who log in.
mx = {{ port = 25, role = "mx" }}
submission = {{ port = 587, role = "submission" }}
submissions = {{ port = 465, tls = "implicit", role = "submission" }}

[imap.listeners]
imap = {{ port = 143 }}
imaps = {{ port = 993, tls = "implicit" }}

[pop3.listeners]
pop3 = {{ port = 110 }}
pop3s = {{ port = 995, tls = "implicit" }}
"""


_LABEL = re.compile(r"[^\W_](?:[\w-]*[^\W_])?", re.UNICODE)
UNITS = Path("share/restante/systemd")  # below the wheel's installation prefix


@dataclass(frozen=True, slots=True)
class Wanted:
    """The settings of the new installation."""

    directory: Path
    hostname: str
    domain: str
    address: str
    name: str
    password: str = field(repr=False)
    certificate: Path | None = None
    key: Path | None = None


@click.command("init")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/var/lib/restante"),
    show_default=True,
    help="The data directory, new or empty.",
)
@click.option("--hostname", help="Fully qualified host name of this machine in the DNS.")
@click.option("--domain", help="First domain whose mail this server receives.")
@click.option("--account", metavar="ADDRESS", help="First account, which becomes an administrator.")
@click.option("--name", default="", help="Display name of the account, which others see.")
@click.option(
    "--certificate", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Certificate chain (PEM)."
)
@click.option(
    "--key", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="Private key of the certificate (PEM)."
)
@click.option(
    "--local-ca",
    is_flag=True,
    help="Create a local authority and a certificate of it, which other machines do not trust.",
)
@password_stdin_option
@password_file_option
def init(
    data: Path,
    hostname: str | None,
    domain: str | None,
    account: str | None,
    name: str,
    certificate: Path | None,
    key: Path | None,
    local_ca: bool,
    password_stdin: bool,
    password_file: Path | None,
) -> None:
    """Create a first installation: configuration, keys, store, domain and account. Prompts for missing options."""
    if (certificate is None) != (key is None):
        raise click.UsageError("--certificate and --key belong together.")
    if certificate is not None and local_ca:
        raise click.UsageError("--local-ca and --certificate exclude each other.")
    hostname = hostname or _prompted("Fully qualified host name of this machine", "--hostname", socket.getfqdn())
    _check_name("--hostname", hostname)
    domain = domain or _prompted("First domain", "--domain", hostname.partition(".")[2])
    _check_name("--domain", domain)
    account = account or _prompted("First account, an administrator", "--account", f"admin@{domain}")
    _check_address(account, domain)
    directories.require_free(data.absolute())
    if certificate is None and not local_ca:
        certificate, key = _prompted_certificate()
    if certificate is not None and key is not None:
        _check_pair(certificate, key)
    password = read_password(f"Password for {account}", from_stdin=password_stdin, file=password_file, confirm=True)
    wanted = Wanted(
        directory=data.absolute(),
        hostname=hostname,
        domain=domain,
        address=account,
        name=name,
        password=password,
        certificate=certificate.absolute() if certificate is not None else None,
        key=key.absolute() if key is not None else None,
    )
    with _claimed(wanted.directory):
        keys = _install(wanted)
    click.echo(what_next(wanted, keys))


def _prompted(question: str, option: str, default: str) -> str:
    if not sys.stdin.isatty():
        raise click.UsageError(f"{option} is missing, and there is no terminal to ask for it.")
    answer: str = click.prompt(question, default=default or None, err=True)
    return answer.strip()


def _check_name(option: str, name: str) -> None:
    """Raises click.UsageError for a text that is no DNS name; the core checks the name more strictly."""
    if not name or any(not label or len(label) > 63 or not _LABEL.fullmatch(label) for label in name.split(".")):
        raise click.UsageError(f"{option}: {name!r} is not a DNS name such as mail.example.org.")


def _check_address(address: str, domain: str) -> None:
    """Raises click.UsageError for a text that is no address in the domain; the core checks it more strictly."""
    local, at, of = address.rpartition("@")
    if not at or not local or any(letter.isspace() for letter in address):
        raise click.UsageError(f"--account: {address!r} is not an address such as admin@{domain}.")
    if of.lower() != domain.lower():
        raise click.UsageError(f"--account: {address} is not in the domain {domain}.")


def _prompted_certificate() -> tuple[Path | None, Path | None]:
    if not sys.stdin.isatty():
        raise click.UsageError("Give --certificate and --key, or --local-ca: there is no terminal to ask.")
    chain: str = click.prompt("Certificate chain, a PEM file (empty: create a local one)", default="", err=True)
    if not chain:
        return None, None
    key: str = click.prompt("Its private key, a PEM file", err=True)
    return Path(chain), Path(key)


def _check_pair(certificate: Path, key: Path) -> None:
    """Raises click.ClickException when the certificate and the key cannot be used together."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise click.ClickException(f"{certificate} and {key} cannot be used together: {problem}") from None


@contextmanager
def _claimed(directory: Path) -> Iterator[None]:
    """Claim a new or empty directory, and restore that state when the work inside the context fails."""
    existed = directory.exists()
    if not directories.claim(directory, "installation"):
        raise click.ClickException(f"{directory} already holds an installation; nothing was changed there")
    try:
        yield
    except BaseException:
        for path in directory.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not existed:
            directory.rmdir()
        raise


def _install(wanted: Wanted) -> list[DomainKey]:
    """Make the installation; returns the keys that sign the domain's mail."""
    directory = wanted.directory
    if wanted.certificate is None:
        authority.make(directory, [wanted.hostname, "localhost", "127.0.0.1", "::1"])
    text = CONFIG.format(
        data=json.dumps(str(directory), ensure_ascii=False),
        certificate=json.dumps(str(wanted.certificate or directory / "tls" / "cert.pem"), ensure_ascii=False),
        key=json.dumps(str(wanted.key or directory / "tls" / "key.pem"), ensure_ascii=False),
        hostname=json.dumps(wanted.hostname),
    )
    descriptor = os.open(directory / "restante.toml", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    settings = read_config(directory / "restante.toml", None, ())
    migrate(directory)
    with _core(settings) as process:
        return run(_populate(wanted, settings, process))


@contextmanager
def _core(settings: Config) -> Iterator[subprocess.Popen[bytes]]:
    """A core, for the time of the context, that only the directory's owner can reach."""
    arguments = ["core", "--config", str(settings.directory / "restante.toml")]
    for key in QUIET:
        arguments += ["--set", key]
    process = subprocess.Popen(
        [sys.executable, "-m", "restante_cli", *arguments],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, LEASH: str(START_SECONDS)},
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.communicate(timeout=START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


async def _populate(wanted: Wanted, settings: Config, process: subprocess.Popen[bytes]) -> list[DomainKey]:
    """Create the first domain with its keys, and the first account; returns the keys.

    Raises RestanteError, click.ClickException.
    """
    secret = settings.directory / "secrets" / "admin.secret"
    for _ in range(int(START_SECONDS / 0.1)):
        if secret.exists() or process.poll() is not None:
            break
        await asyncio.sleep(0.1)
    link = await admin_link(settings)
    try:
        calls = Calls(link, timeout_seconds=START_SECONDS)
        try:
            await calls.execute(methods.GET_STATISTICS, GetStatisticsRequest())
        except errors.RestanteError as error:
            raise click.ClickException(f"the core did not start: {described(error)}") from None
        await calls.execute(methods.CREATE_DOMAIN, CreateDomainRequest(name=wanted.domain))
        made = await calls.execute(methods.CREATE_DOMAIN_KEYS, CreateDomainKeysRequest(domain=wanted.domain))
        await calls.execute(
            methods.CREATE_ACCOUNT,
            CreateAccountRequest(
                address=wanted.address, display_name=wanted.name, password=wanted.password, administrator=True
            ),
        )
        return list(made.keys)
    finally:
        await link.close()


def _units() -> Path:
    """The directory of the systemd units: in the installation, or in the source tree."""
    installed = Path(sys.prefix) / UNITS
    return installed if installed.is_dir() else Path("packaging/systemd")


def what_next(wanted: Wanted, keys: Sequence[DomainKey]) -> str:
    """The text printed after an installation: the command that starts it, and its DNS records."""
    host, domain = wanted.hostname.rstrip("."), wanted.domain.rstrip(".")
    signing = "\n".join(f"  {key.record_name}.  TXT  {quoted_strings(key)}" for key in keys)
    warning, trust = "", f"--server-name {host}"
    if wanted.certificate is None:
        trust = f"--ca {wanted.directory / 'ca.pem'}"
        warning = f"""
The certificate is a local one: mail programs trust it after you import
{wanted.directory / "ca.pem"}
Name a certificate of a public authority in restante.toml before others use this server.
"""
    return f"""
Restante is set up in {wanted.directory}.
{warning}
Start it as the user that owns the directory, with the privilege to serve ports below 1024:

  restante up --data {wanted.directory}
  or the systemd units in {_units()}, one for each process

Add these records to the DNS (a TXT record may have several strings, which belong together):

  {host}.  A / AAAA  the address of this machine, whose PTR names {host}
  {domain}.  MX   10 {host}.
  {domain}.  TXT  "v=spf1 mx -all"
{signing}
  _dmarc.{domain}.  TXT  "v=DMARC1; p=none; rua=mailto:postmaster@{domain}"
  _submissions._tcp.{domain}.  SRV  0 1 465 {host}.
  _imaps._tcp.{domain}.  SRV  0 1 993 {host}.
  _pop3s._tcp.{domain}.  SRV  0 1 995 {host}.

{wanted.address} is an administrator and can log in by every protocol; mail for postmaster@{domain} and
abuse@{domain} arrives there too. More:

  restante admin --data {wanted.directory} account create ADDRESS
  restante mail login --server localhost:50051 {trust} --user {wanted.address}
"""
