"""`restante core`, and what opens the store itself: migrate, check without a running core."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from pathlib import Path

import click
import structlog
import uvloop
from prometheus_client import generate_latest

from restante.config import Config, ConfigError
from restante.options import configured
from restante_server.app import CoreProcess
from restante_server.db import migrate
from restante_server.db.engine import open_backend
from restante_server.db.errors import DatabaseError
from restante_server.db.lock import StoreLock
from restante_server.store import backup


def set_up_logging(config: Config) -> None:
    """Structured lines on standard error."""
    level = getattr(logging, config.logging.level.upper())
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if config.logging.format == "json" else structlog.dev.ConsoleRenderer()
    )
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)


async def serve(config: Config) -> None:
    """Run the core until it is told to end. Raises StoreLocked, UnknownSchema, ConfigError, OSError."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with CoreProcess.open(config) as process, _health(config, process):
        structlog.get_logger("restante.core").info("ready", socket=str(process.socket), api_port=process.api_port)
        await ended.wait()


@contextlib.asynccontextmanager
async def _health(config: Config, process: CoreProcess):  # type: ignore[no-untyped-def]
    """Metrics, liveness and readiness by HTTP."""
    if config.health.core < 0:
        yield
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            async with asyncio.timeout(10):
                request = await reader.readuntil(b"\r\n\r\n")
                path = request.split(b" ")[1] if request.count(b" ") >= 2 else b""
                status, body = "404 Not Found", b""
                if path == b"/metrics":
                    status, body = "200 OK", generate_latest(process.registry)
                elif path == b"/healthz" or (path == b"/readyz" and not process.server.draining.is_set()):
                    status, body = "200 OK", b"ok\n"
                elif path == b"/readyz":
                    status, body = "503 Service Unavailable", b"draining\n"
                head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n"
                writer.write(head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, config.health.host, config.health.core)
    async with server:
        yield


@click.command("core")
@click.option("--migrate", "migrating", is_flag=True, help="Bring the store's schema up to date first.")
@configured
def core(config: Config, migrating: bool) -> None:
    """Run the core server."""
    set_up_logging(config)
    os.umask(0o077)
    try:
        if migrating:
            bring_up_to_date(config)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(config))
    except (ConfigError, DatabaseError, OSError) as error:
        raise click.ClickException(str(error)) from None


def store_lock(config: Config) -> contextlib.AbstractContextManager[object]:
    """Excludes a running core, where only one process may open the store. Raises StoreLocked."""
    return StoreLock(config.directory) if config.store_url.startswith("sqlite") else contextlib.nullcontext()


def bring_up_to_date(config: Config, *, backing_up: bool = False) -> Path | None:
    """Run the migration steps that are missing, under the store's lock; returns where the backup before them lies.

    A store that is new or up to date needs none. Raises BackupFailed, having migrated nothing, when the backup that
    it does need cannot be made.
    """
    os.umask(0o077)  # the database is made here: it is for the owner alone
    config.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = None
    with store_lock(config):
        if backing_up:
            arguments = (config.store_url, config.contents_directory, config.backups_directory)
            made = backup.write_before_migration(*arguments, time.time_ns() // 1_000)
        migrate.upgrade(config.store_url)
    return made


@click.group("store")
def store() -> None:
    """The store itself, while no core has it open."""


@store.command("migrate")
@click.option(
    "--backup", "backing_up", is_flag=True, help="Copy a store that needs it to store.backups first, or do nothing."
)
@configured
def migrate_store(config: Config, backing_up: bool) -> None:
    """Bring the schema up to date."""
    try:
        made = bring_up_to_date(config, backing_up=backing_up)
    except backup.BackupFailed as problem:
        raise click.ClickException(f"no backup can be made, and so nothing was migrated: {problem}") from None
    except (DatabaseError, OSError) as error:
        raise click.ClickException(str(error)) from None
    if made is not None:
        click.echo(f"The store as it was before the migration is in {made}.")
    click.echo(f"The store is at schema {migrate.expected()}.")


@store.command("check")
@configured
def check_store(config: Config) -> None:
    """Check every invariant and every digest; exit code 1 when something is wrong."""
    try:
        with store_lock(config):
            backend = open_backend(config.store_url)
            try:
                with backend.reader() as tx, tx.begin():
                    migrate.require_current(tx)
                    found = backup.findings(tx, config.contents_directory)
            finally:
                backend.close()
    except (DatabaseError, OSError) as error:
        raise click.ClickException(str(error)) from None
    _report(found)


@store.command("restore")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@configured
def restore_store(config: Config, directory: Path) -> None:
    """Bring the backup in DIRECTORY back into a store that is not there yet, and check it."""
    os.umask(0o077)
    config.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        with store_lock(config):
            found = backup.restore(directory, config.store_url, config.contents_directory)
    except (backup.BackupFailed, DatabaseError, OSError) as error:
        raise click.ClickException(str(error)) from None
    click.echo("The backup is restored. Its epoch is new: clients read their mailboxes anew.")
    _report(found)


def _report(found: list[str]) -> None:
    for finding in found:
        click.echo(finding)
    if found:
        raise click.ClickException(f"{len(found)} findings")
    click.echo("Nothing is wrong.")
