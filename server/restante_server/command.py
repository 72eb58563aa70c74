"""The commands `restante core`, and `restante store`, which opens the store without a running core."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import click
import structlog
import uvloop

from restante_process import logs
from restante_process.config import Config
from restante_process.http import HttpServer
from restante_process.options import configured, reading
from restante_process.readiness import pages
from restante_process.reload import Reload
from restante_server.app import CoreProcess
from restante_server.db import migrate
from restante_server.db.engine import open_backend
from restante_server.db.lock import StoreLock
from restante_server.failures import click_errors
from restante_server.opening import require_store
from restante_server.upkeep import backup, check, restore
from restante_server.upkeep.backup_files import BackupFailed


async def serve(config: Config, read: Callable[[], Config]) -> None:
    """Run the core until SIGTERM or SIGINT. Raises StoreLocked, UnknownSchema, ConfigError, OSError."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with CoreProcess.open(config) as process, _health(config, process):

        def use(new: Config) -> None:
            logs.configure("core", form=new.logging.format, level=new.logging.level)
            process.reload(new)

        loop.add_signal_handler(signal.SIGHUP, Reload(config, read, use, ended.set))
        structlog.get_logger("restante.core").info("ready", socket=str(process.socket), api_port=process.api_port)
        await ended.wait()
        await process.stop()  # inside the block, so that /readyz reports the draining


@contextlib.asynccontextmanager
async def _health(config: Config, process: CoreProcess) -> AsyncIterator[None]:
    """Serve metrics, liveness and readiness by HTTP for the length of the block. Raises OSError."""
    if config.health.core < 0:
        yield
        return
    server = HttpServer(pages(process.registry, process.readiness))
    await server.start(config.health.host, config.health.core)
    try:
        yield
    finally:
        await server.stop()


@click.command("core")
@click.option("--migrate", "migrating", is_flag=True, help="Migrate the store's schema first if it is older.")
@configured
def core(config: Config, migrating: bool) -> None:
    """Run the core server."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the core can reload its configuration
    logs.configure("core", form=config.logging.format, level=config.logging.level)
    os.umask(0o077)
    with click_errors(config):
        if migrating:
            bring_up_to_date(config)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(config, reading()))


def store_lock(config: Config) -> contextlib.AbstractContextManager[object]:
    """The lock that excludes a running core from a SQLite store; nothing for PostgreSQL. Raises StoreLocked."""
    return StoreLock(config.directory) if config.store_url.startswith("sqlite") else contextlib.nullcontext()


def bring_up_to_date(config: Config, *, backing_up: bool = False) -> Path | None:
    """Run the missing migration steps under the store's lock. Returns the directory of the backup made before them.

    A store that is new or up to date needs no backup, and the result is None. Raises BackupFailed, having migrated
    nothing, if a backup is needed and cannot be made.
    """
    os.umask(0o077)  # a new database is readable by its owner alone
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
    """Maintain the store while no core has it open."""


@store.command("migrate")
@click.option(
    "--backup",
    "backing_up",
    is_flag=True,
    help="Before a migration back up the store to store.backups; without that backup change nothing.",
)
@configured
def migrate_store(config: Config, backing_up: bool) -> None:
    """Migrate the store to the schema of this version."""
    with click_errors(config):
        try:
            made = bring_up_to_date(config, backing_up=backing_up)
        except BackupFailed as problem:
            raise click.ClickException(f"the store was not migrated, because its backup failed: {problem}") from None
    if made is not None:
        click.echo(f"The backup of the store before its migration is in {made}.")
    click.echo(f"The store is at schema {migrate.expected()}.")


@store.command("check")
@configured
def check_store(config: Config) -> None:
    """Check the invariants of all rows and the digest of every content; the exit code is 1 after findings."""
    with click_errors(config):
        require_store(config)
        found = _findings(config)
    _report(found)


def _findings(config: Config) -> list[str]:
    with store_lock(config):
        backend = open_backend(config.store_url)
        try:
            with backend.reader() as tx, tx.begin():
                migrate.require_current(tx)
                return check.findings(tx, config.contents_directory)
        finally:
            backend.close()


@store.command("restore")
@click.argument("directory", type=click.Path(path_type=Path, exists=True, file_okay=False))
@configured
def restore_store(config: Config, directory: Path) -> None:
    """Restore the backup in DIRECTORY into a store that does not exist yet, then check that store."""
    os.umask(0o077)
    with click_errors(config):
        try:
            restore.require_fitting(directory, config.store_url)  # before anything is created
            config.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with store_lock(config):
                found = restore.restore(directory, config.store_url, config.contents_directory)
        except BackupFailed as problem:
            raise click.ClickException(str(problem)) from None
    click.echo("The backup is restored. The store has a new epoch, so clients read their mailboxes again.")
    _report(found)


def _report(found: list[str]) -> None:
    for finding in found:
        click.echo(finding)
    if found:
        raise click.ClickException(f"the check found {len(found)} violations, listed above")
    click.echo("The check found no violations.")
