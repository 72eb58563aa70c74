"""The assembly of one core process: store, directory, dispatcher, listeners, background work, drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry
from sqlalchemy import select

from restante.errors import RestanteError
from restante_process import config
from restante_process.frames import SOCKET_NAME
from restante_process.metrics import CertificateMetrics, new_registry
from restante_process.readiness import Readiness
from restante_server import gauges
from restante_server.api.engine.core import Core
from restante_server.api.engine.dispatch import Dispatcher
from restante_server.api.engine.identity import Authenticator
from restante_server.api.engine.notify import Notifier
from restante_server.api.engine.observe import CallObserver
from restante_server.api.engine.peer_hints import PeerHints
from restante_server.api.engine.registry import Registry
from restante_server.api.engine.rpc import Listener
from restante_server.api.engine.server import ApiServer
from restante_server.api.services.catalogue import SERVICES
from restante_server.db import migrate, schema
from restante_server.db.engine import Database
from restante_server.db.lock import StoreLock
from restante_server.db.operation import Write
from restante_server.directory.service import Directory
from restante_server.directory.settings import AuthenticationSettings
from restante_server.fronts import Fronts
from restante_server.local import process_secrets, socket_path
from restante_server.observe import JobFigures, MailFigures, StoreObserver
from restante_server.opening import create_store, open_store, require_store
from restante_server.periodic import job_handlers, now, of_reports, of_sessions, of_store, of_transport
from restante_server.security_log import SecurityLog
from restante_server.store.changes import CHANGED
from restante_server.store.staging import Contents, ContentSettings
from restante_server.transport.service import Transport
from restante_server.upkeep import figures
from restante_server.upkeep.jobs.runner import Runner
from restante_server.upkeep.kinds import store_backup
from restante_server.upkeep.scheduler import PeriodicTask, Scheduler

log = logging.getLogger(__name__)

FIGURES_SECONDS = 15.0
CLOSE_SECONDS = 3.0  # to close the database after draining
TALLY_SECONDS = 1.0
CERTIFICATE_SECONDS = 30.0
DAY_SECONDS = 86_400.0
DATABASE_SECONDS = 2.0  # the core is not ready if the database takes longer than this to answer


class CoreProcess:
    """The core of one configuration. `async with CoreProcess.open(settings)` serves during the block, then drains."""

    def __init__(
        self, settings: config.Config, core: Core, server: ApiServer, fronts: Fronts, registry: CollectorRegistry
    ) -> None:
        self.settings, self.core, self.server, self.fronts = settings, core, server, fronts
        self.registry = registry
        self._expiries = CertificateMetrics(registry)
        self._stopped = False
        self._gauges = gauges.StoreGauges(registry, settings)
        self._jobs = Runner(
            core.db, job_handlers(core), store_backup.place(settings.directory), core.job_signals, JobFigures(registry)
        )
        self.socket = Path()
        self.readiness = Readiness(core="starting", database="no answer yet")
        self._scheduler = Scheduler()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, settings: config.Config) -> AsyncIterator[CoreProcess]:
        """Serve for the length of the block.

        Raises NoStore, StoreLocked, UnknownSchema, ConfigError, CannotListen, OSError, before anything is served.
        """
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
        directory = await Directory.open(db, AuthenticationSettings.of(settings))
        observer = CallObserver(registry, quiet=settings.core.log_calls == "failed")
        notifier = Notifier(db)
        epoch: int = await db.read(lambda tx: tx.execute(select(schema.store.c.epoch)).scalar_one())
        core = Core(
            settings=settings,
            db=db,
            epoch=epoch,
            contents=contents,
            directory=directory,
            transport=Transport.of(settings, db, contents, MailFigures(registry)),
            notifier=notifier,
            authenticator=Authenticator(process_secrets(settings.directory / "secrets"), directory.sessions),
            logins=SecurityLog(registry, settings.security_file),
        )
        server = ApiServer(core, Registry(SERVICES), Dispatcher(core, observer), observer)
        return cls(settings, core, server, Fronts.open(settings), registry)

    async def _start(self) -> None:
        settings, core = self.settings, self.core
        self.socket = socket_path(settings.directory)
        self.socket.unlink(missing_ok=True)
        listeners = [Listener(f"unix:{self.socket}"), *self.fronts.listeners]
        await self.server.start(listeners, self.socket.with_name(SOCKET_NAME))
        os.chmod(self.socket, 0o600)
        await self.fronts.start()
        await self._look_at_certificates()
        await self._warn_of_expiry()
        periodic = [*of_sessions(core), *of_store(core), *of_transport(core), *of_reports(core)]
        self._scheduler.start([*periodic, *self._own_tasks()])
        self._scheduler.run("transport deliveries", core.transport.deliver_for_ever())
        self._scheduler.run("jobs", self._jobs.run_for_ever())
        self._scheduler.run("orphaned files", self._remove_orphans())
        self._scheduler.run("readiness", self.readiness.keep("database", self._database))
        if core.db.dialect == "postgresql":
            peers = PeerHints(settings.store_url, core.notifier)
            core.db.listeners.on_event(CHANGED, peers.announce)
            self._scheduler.run("hints out", peers.send())
            self._scheduler.run("hints in", peers.listen())
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
        await self._scheduler.stop(max(1.0, until - time.monotonic()))
        await self.core.tasks.drain(max(0.0, until - time.monotonic()))
        await self._write_tally()
        self.core.searches.close()
        self.core.contents.close()
        self.core.directory.close()
        self.core.logins.close()
        for name in (self.socket.name, SOCKET_NAME):
            self.socket.with_name(name).unlink(missing_ok=True)

    async def _write_tally(self) -> None:
        """Write the last counts for reports, if the database takes them at once."""
        try:
            async with asyncio.timeout(TALLY_SECONDS):
                await self.core.dmarc_tally.flush(self.core.db)
                await self.core.failures.flush(self.core.db)
        except (RestanteError, TimeoutError) as error:
            log.warning("the last counts for DMARC reports were not written: %s", error)

    @property
    def api_port(self) -> int:
        """The TCP port for native clients, 0 if there is none."""
        return self.fronts.api_port

    @property
    def gateway_port(self) -> int:
        """The TCP port for gateways on other machines, 0 if there is none."""
        return self.fronts.gateway_port

    def reload(self, settings: config.Config) -> None:
        """Read every certificate again, from the files that these settings name."""
        self.fronts.reload(settings.tls.certificates)
        self._expiries.show(self.fronts.expiries)

    async def _look_at_certificates(self) -> None:
        self.fronts.reload()
        self._expiries.show(self.fronts.expiries)

    async def _warn_of_expiry(self) -> None:
        self.fronts.warn_of_expiry()

    async def _database(self) -> str:
        """The readiness check of the database: "" or the problem.

        Gateways and load balancers receive its outcome by grpc.health.v1 as well.
        """
        problem = await self.core.db.problem(DATABASE_SECONDS)
        await self.server.set_serving(not problem)
        return problem

    async def _look(self) -> None:
        self._gauges.show(await self.core.db.read(figures.look), time.time())

    def _own_tasks(self) -> list[PeriodicTask]:
        return [
            PeriodicTask("figures", FIGURES_SECONDS, self._look, at_once=True),
            PeriodicTask("certificates", CERTIFICATE_SECONDS, self._look_at_certificates),
            PeriodicTask("expiry of certificates", DAY_SECONDS, self._warn_of_expiry),
        ]

    async def _remove_orphans(self) -> None:
        """Remove orphaned files once, in the background, because a large store takes a while."""
        try:
            await self.core.collector.remove_orphans()
        except Exception:
            log.exception("removing orphaned files failed")
