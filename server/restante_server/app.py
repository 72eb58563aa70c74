"""One core process, put together: store, directory, dispatcher, listeners, background work, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, insert, make_url, select

from restante.errors import DeadlineExceeded, Draining, StoreBusy
from restante_process import config
from restante_process.metrics import CertificateMetrics, new_registry
from restante_process.readiness import Readiness
from restante_server import gauges
from restante_server.api.engine.abroad import Abroad
from restante_server.api.engine.core import Core
from restante_server.api.engine.dispatch import Dispatcher
from restante_server.api.engine.identity import IDENTITIES, Authenticator
from restante_server.api.engine.notify import COMPARE_SECONDS, Notifier
from restante_server.api.engine.observe import CallObserver
from restante_server.api.engine.registry import Registry
from restante_server.api.engine.rpc import Listener
from restante_server.api.engine.server import ApiServer
from restante_server.api.services.catalogue import SERVICES
from restante_server.db import migrate, schema
from restante_server.db.engine import Database, Settings, open_database
from restante_server.db.errors import NoStore
from restante_server.db.group import Locks
from restante_server.db.hooks import Observer
from restante_server.db.lock import StoreLock
from restante_server.db.operation import Write
from restante_server.db.postgresql import PostgresSettings
from restante_server.db.rowlocks import lock_rows
from restante_server.directory import keys
from restante_server.directory.service import Directory
from restante_server.directory.settings import (
    AuthenticationSettings,
    HashSettings,
    SessionSettings,
    TlsRule,
)
from restante_server.fronts import Fronts
from restante_server.observe import MailFigures, StoreObserver
from restante_server.security_log import SecurityLog
from restante_server.store.staging import Contents, ContentSettings
from restante_server.transport.service import Transport

log = logging.getLogger(__name__)

SOCKET_PATH_OCTETS = 100  # a longer path does not fit a Unix socket's address everywhere
REFRESH_SECONDS = 1.0
TIDY_SECONDS = 60.0
COLLECT_SECONDS = 2.0
FIGURES_SECONDS = 15.0
CLOSE_SECONDS = 3.0  # for the database at the end, beyond the time to drain
CERTIFICATE_SECONDS = 30.0
DAY_SECONDS = 86_400.0
DATABASE_SECONDS = 2.0  # a database that does not answer within this time makes the core not ready
SECOND = 1_000_000


def now() -> int:
    """Microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000


def database_settings(settings: config.Config) -> Settings:
    """How the database is used."""
    return Settings(readers=settings.store.readers, postgres=PostgresSettings(write_lanes=settings.store.write_lanes))


def open_store(settings: config.Config, observer: Observer | None = None) -> Database:
    """The database of a configuration, with the locks that several writers need."""
    locks = Locks(mailboxes=lock_rows(schema.mailbox.c.mailbox_id), contents=lock_rows(schema.content.c.content_id))
    return open_database(settings.store_url, settings=database_settings(settings), locks=locks, observer=observer)


def require_store(settings: config.Config) -> None:
    """Raises NoStore where SQLite would make an empty database, and OSError where there is not even a directory."""
    url = make_url(settings.store_url)
    if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
        os.stat(settings.directory)  # a data directory that is not there is the more helpful thing to say
        raise NoStore(f"there is no store at {url.database} yet")


def create_store(tx: Connection, moment: int) -> None:
    """The one row of a new store, and its first sealing key. Harmless to repeat."""
    if tx.execute(select(schema.store.c.store_id)).first() is None:
        tx.execute(
            insert(schema.store).values(
                store_id=1, store_uuid=secrets.token_hex(16), epoch=1, uid_validity_next=1, created_at=moment
            )
        )
        keys.create(tx, moment)


def process_secrets(directory: Path) -> dict[str, str]:
    """The secret of each process identity, made when it is missing; only the owner can read them."""
    directory.mkdir(mode=0o700, exist_ok=True)
    found = {}
    for name in IDENTITIES:
        path = directory / f"{name}.secret"
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_hex(32) + "\n")
        found[name] = path.read_text().strip()
    return found


def socket_path(directory: Path) -> Path:
    """Where the core listens for the processes of this machine.

    `DIR/core.sock`, or where that is too long a path, a socket in a fresh directory that `DIR/core.address` names.
    """
    path = directory / "core.sock"
    address = directory / "core.address"
    if len(os.fsencode(path)) <= SOCKET_PATH_OCTETS:
        address.unlink(missing_ok=True)
        return path
    fresh = Path(tempfile.mkdtemp(prefix="restante-")) / "core.sock"
    address.write_text(f"{fresh}\n")
    return fresh


class CoreProcess:
    """The core of one configuration. `async with CoreProcess.open(settings)` serves until left, then drains."""

    def __init__(
        self, settings: config.Config, core: Core, server: ApiServer, fronts: Fronts, registry: CollectorRegistry
    ) -> None:
        self.settings, self.core, self.server, self.fronts = settings, core, server, fronts
        self.registry = registry
        self._expiries = CertificateMetrics(registry)
        self._stopped = False
        self._gauges = gauges.StoreGauges(registry, settings)
        self.socket = Path()
        self.readiness = Readiness(core="starting", database="not asked yet")
        self._background: list[asyncio.Task[None]] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: config.Config) -> AsyncIterator[CoreProcess]:
        """Raises NoStore, StoreLocked, UnknownSchema, ConfigError, CannotListen, OSError, before anything is served."""
        directory = settings.directory
        sqlite = settings.store_url.startswith("sqlite")
        require_store(settings)
        with StoreLock(directory) if sqlite else contextlib.nullcontext():
            registry = new_registry("core")
            figures = StoreObserver(registry, sqlite=sqlite)
            db = open_store(settings, figures)
            figures.watch(db)
            try:
                process = await cls._assemble(settings, db, registry)
                await process._start()
                try:
                    yield process
                finally:
                    await process.stop()
            finally:
                await db.close(CLOSE_SECONDS)

    @classmethod
    async def _assemble(cls, settings: config.Config, db: Database, registry: CollectorRegistry) -> CoreProcess:
        await db.read(migrate.require_current)
        await db.write(Write(partial(create_store, moment=now())))
        settings.contents_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        contents = Contents(
            db,
            ContentSettings(
                directory=settings.contents_directory,
                inline_octets=settings.store.inline_octets,
                max_message_octets=settings.limits.max_message_octets,
                reserve_octets=settings.store.reserve_octets,
            ),
        )
        directory = await Directory.open(db, authentication_settings(settings))
        observer = CallObserver(registry, quiet=settings.core.log_calls == "failed")
        notifier = Notifier(db)
        epoch: int = await db.read(lambda tx: tx.execute(select(schema.store.c.epoch)).scalar_one())
        core = Core(
            settings=settings,
            db=db,
            epoch=epoch,
            contents=contents,
            directory=directory,
            transport=Transport.of(settings, db, contents, notifier.changed, MailFigures(registry)),
            notifier=notifier,
            authenticator=Authenticator(process_secrets(settings.directory / "secrets"), directory.sessions),
            logins=SecurityLog(registry, settings.security_file),
        )
        server = ApiServer(core, Registry(SERVICES), Dispatcher(core, observer), observer)
        return cls(settings, core, server, Fronts.open(settings), registry)

    async def _start(self) -> None:
        settings = self.settings
        self.socket = socket_path(settings.directory)
        self.socket.unlink(missing_ok=True)
        await self.server.start([Listener(f"unix:{self.socket}"), *self.fronts.listeners])
        os.chmod(self.socket, 0o600)
        await self.fronts.start()
        core = self.core
        self._every(REFRESH_SECONDS, "sessions", self._refresh)
        self._every(TIDY_SECONDS, "tidy", self._tidy)
        self._every(COLLECT_SECONDS, "collector", self._collect)
        self._every(COMPARE_SECONDS, "compare", core.notifier.compare)
        self._every(FIGURES_SECONDS, "figures", self._look, at_once=True)
        self._every(CERTIFICATE_SECONDS, "certificates", self._look_at_certificates)
        self._every(DAY_SECONDS, "expiry of certificates", self._warn_of_expiry)
        await self._look_at_certificates()
        await self._warn_of_expiry()
        if core.db.dialect == "postgresql":
            abroad = Abroad(settings.store_url, core.notifier)
            self._background.append(asyncio.create_task(abroad.send(), name="hints out"))
            self._background.append(asyncio.create_task(abroad.listen(), name="hints in"))
        self._background.extend(core.transport.start())
        self._background.append(asyncio.create_task(self._sweep(), name="sweep"))
        self._background.append(asyncio.create_task(self.readiness.keep("database", self._database), name="readiness"))
        self.readiness.set("core", "")

    async def stop(self) -> None:
        """Drain and end all work; the database stays open. A second call does nothing."""
        if self._stopped:
            return
        self._stopped = True
        seconds = self.settings.core.drain_seconds
        until = time.monotonic() + seconds
        self.readiness.set("core", "draining")
        self.core.tasks.announce_drain()
        await self.fronts.stop_accepting()
        await self.server.stop(seconds)
        await self.fronts.close()
        for task in self._background:
            task.cancel()
        # A write that has started cannot be cancelled, and hangs with a database that does not answer.
        ended, _ = await asyncio.wait(self._background, timeout=max(1.0, until - time.monotonic()))
        for task in ended:
            if not task.cancelled() and (problem := task.exception()) is not None:
                log.error("background work ended: %s", task.get_name(), exc_info=problem)
        await self.core.tasks.drain(max(0.0, until - time.monotonic()))
        self.core.searches.close()
        self.core.contents.close()
        self.core.directory.close()
        self.core.logins.close()
        self.socket.unlink(missing_ok=True)

    @property
    def api_port(self) -> int:
        """Where native clients connect; 0: nowhere."""
        return self.fronts.api_port

    @property
    def gateway_port(self) -> int:
        """Where gateways on other machines connect; 0: nowhere."""
        return self.fronts.gateway_port

    def reload(self, settings: config.Config) -> None:
        """Read every certificate again, by the names that these settings have."""
        self.fronts.reload(settings.tls.certificates)
        self._expiries.show(self.fronts.expiries)

    async def _look_at_certificates(self) -> None:
        self.fronts.reload()
        self._expiries.show(self.fronts.expiries)

    async def _warn_of_expiry(self) -> None:
        self.fronts.warn_of_expiry()

    async def _database(self) -> str:
        """The readiness check, whose answer gateways and load balancers get by grpc.health.v1 as well."""
        problem = await self.core.db.problem(DATABASE_SECONDS)
        await self.server.set_serving(not problem)
        return problem

    async def _look(self) -> None:
        self._gauges.show(await self.core.db.read(gauges.look), time.time())

    def _every(
        self, seconds: float, name: str, work: Callable[[], Awaitable[object]], *, at_once: bool = False
    ) -> None:
        """Do something now and then, whatever goes wrong with it."""

        async def loop() -> None:
            put_off, first = False, True
            while True:
                await asyncio.sleep(0 if at_once and first else seconds)
                first = False
                try:
                    await work()
                except (StoreBusy, DeadlineExceeded, Draining) as error:
                    # Said once: while the database is away it is the same each time, and readiness tells the rest.
                    log.log(logging.DEBUG if put_off else logging.WARNING, "put off: %s: %s", name, error.detail)
                    put_off = True
                except Exception:
                    log.exception("background work failed: %s", name)
                else:
                    put_off = False

        self._background.append(asyncio.create_task(loop(), name=name))

    async def _refresh(self) -> None:
        refreshed = await self.core.directory.sessions.refresh()
        for ended in refreshed.ended:
            self.core.notifier.sessions_ended(ended.account_id, ended.credential_version)
        self.core.guards.revoked(refreshed.revoked)

    async def _tidy(self) -> None:
        from restante_server.upkeep import sweeps

        moment = now()
        await self.core.directory.tidy(moment)
        await sweeps.tidy(self.core.db, self.settings.store, moment)

    async def _sweep(self) -> None:
        """Once: a large store takes a while, and is served meanwhile."""
        try:
            await self.core.collector.sweep()
        except Exception:
            log.exception("background work failed: sweep")

    async def _collect(self) -> None:
        while await self.core.collector.collect(now()):
            pass  # as long as there is something


def authentication_settings(settings: config.Config) -> AuthenticationSettings:
    """How logins and sessions are handled."""
    sessions = settings.sessions
    return AuthenticationSettings(
        tls=TlsRule(settings.tls.authentication),
        hashes=HashSettings(memory_kib=sessions.hash_memory_kib, passes=sessions.hash_passes),
        sessions=SessionSettings(
            token_seconds=max(1, round(sessions.token_minutes * 60)), renewable_seconds=sessions.renewable_hours * 3_600
        ),
    )
