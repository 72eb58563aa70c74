"""The background work of a core in explicit lists: periodic tasks for the scheduler, job handlers for the runner."""

from __future__ import annotations

import time
from functools import partial

from restante_server.api.engine.core import Core
from restante_server.api.engine.notify import COMPARE_SECONDS
from restante_server.db.operation import Write
from restante_server.transport.feedback import archive, failure_sending, outgoing, received
from restante_server.transport.feedback.daily import DailyAggregate
from restante_server.transport.feedback.failure_sending import Limits
from restante_server.transport.feedback.outgoing import Reporter
from restante_server.transport.feedback.tls_reports import DailyTls
from restante_server.transport.service import MINUTE_SECONDS, POLL_SECONDS, PURGE_SECONDS
from restante_server.upkeep import sweeps
from restante_server.upkeep.jobs import leases
from restante_server.upkeep.jobs.work import JobHandler
from restante_server.upkeep.kinds import store_backup
from restante_server.upkeep.kinds.account_deletion import AccountDeletion
from restante_server.upkeep.kinds.store_backup import StoreBackup
from restante_server.upkeep.kinds.store_check import StoreCheck
from restante_server.upkeep.scheduler import PeriodicTask

REFRESH_SECONDS = 1.0
TIDY_SECONDS = 60.0
COLLECT_SECONDS = 2.0
COUNT_SECONDS = 60.0
REPORTS_SECONDS = 600.0


def now() -> int:
    """The current time in microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000


def of_sessions(core: Core) -> list[PeriodicTask]:
    """Tasks that find sessions ended at other cores, and changes of watched mailboxes whose hints were lost."""

    async def refresh() -> None:
        refreshed = await core.directory.sessions.refresh()
        for ended in refreshed.ended:
            core.notifier.sessions_ended(ended.account_id, ended.credential_version)
        core.guards.revoked(refreshed.revoked)

    return [
        PeriodicTask("sessions", REFRESH_SECONDS, refresh),
        PeriodicTask("compare", COMPARE_SECONDS, core.notifier.compare),
    ]


def of_store(core: Core) -> list[PeriodicTask]:
    """Tasks that remove expired rows of the directory and the store, and contents that no column references."""

    async def tidy() -> None:
        moment = now()
        await core.directory.tidy(moment)
        await sweeps.tidy(core.db, core.settings.store, moment)
        await core.db.write(Write(partial(leases.end_abandoned, here=store_backup.place(core.settings.directory))))

    async def collect() -> None:
        while await core.collector.collect(now()):
            continue

    return [PeriodicTask("tidy", TIDY_SECONDS, tidy), PeriodicTask("collector", COLLECT_SECONDS, collect)]


def of_transport(core: Core) -> list[PeriodicTask]:
    """Tasks of the mail queue: begin scheduled mail, take back expired leases, warn, purge settled messages."""
    return [
        PeriodicTask("transport leases", POLL_SECONDS, core.transport.tick, at_once=True),
        PeriodicTask("transport expiry", MINUTE_SECONDS, core.transport.expire, at_once=True),
        PeriodicTask("transport purge", PURGE_SECONDS, core.transport.purge, at_once=True),
    ]


def of_reports(core: Core) -> list[PeriodicTask]:
    """Tasks of DMARC and TLS reports: write the counts, send and read reports, forget old ones, report failures."""
    given, hostname = core.settings.reports, core.settings.transport.hostname
    reporter = Reporter(given.organization or hostname, core.settings.report_author, hostname)

    async def exchange() -> None:
        moment = now()
        if given.send:
            await outgoing.send(core.db, core.transport.settings, reporter, DailyAggregate(), moment)
            await outgoing.send(core.db, core.transport.settings, reporter, DailyTls(), moment)
        await received.read(core.db, core.contents.directory, given.addresses, moment)
        before = moment - given.keep_days * sweeps.DAY
        forget = Write(partial(archive.forget, before=before, most=sweeps.AT_ONCE), rows=sweeps.AT_ONCE)
        while await core.db.write(forget):
            continue

    async def report_failures() -> None:
        await core.failures.flush(core.db)
        await failure_sending.send(core.db, core.transport.settings, reporter, Limits.of(given), now())

    tasks = [
        PeriodicTask("counts for reports", COUNT_SECONDS, partial(core.dmarc_tally.flush, core.db)),
        PeriodicTask("reports", REPORTS_SECONDS, exchange, at_once=True),
    ]
    if given.failure_domains:
        tasks.append(PeriodicTask("failure reports", given.failure_seconds, report_failures, at_once=True))
    return tasks


def job_handlers(core: Core) -> tuple[JobHandler, ...]:
    """The handlers of the jobs that a core runs."""
    settings, contents = core.settings, core.contents.directory
    return (
        StoreCheck(contents),
        StoreBackup(settings.store_url, contents, settings.backups_directory, core.collector.paused),
        AccountDeletion(),
    )
