"""The background jobs of a core, in explicit lists for the scheduler."""

from __future__ import annotations

import time

from restante_server.api.engine.core import Core
from restante_server.api.engine.notify import COMPARE_SECONDS
from restante_server.transport.service import MINUTE_SECONDS, POLL_SECONDS, PURGE_SECONDS
from restante_server.upkeep import sweeps
from restante_server.upkeep.scheduler import Job

REFRESH_SECONDS = 1.0
TIDY_SECONDS = 60.0
COLLECT_SECONDS = 2.0


def now() -> int:
    """The current time in microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000


def of_sessions(core: Core) -> list[Job]:
    """Jobs that find sessions ended at other cores, and changes of watched mailboxes whose hints were lost."""

    async def refresh() -> None:
        refreshed = await core.directory.sessions.refresh()
        for ended in refreshed.ended:
            core.notifier.sessions_ended(ended.account_id, ended.credential_version)
        core.guards.revoked(refreshed.revoked)

    return [Job("sessions", REFRESH_SECONDS, refresh), Job("compare", COMPARE_SECONDS, core.notifier.compare)]


def of_store(core: Core) -> list[Job]:
    """Jobs that remove expired rows of the directory and the store, and contents that no column references."""

    async def tidy() -> None:
        moment = now()
        await core.directory.tidy(moment)
        await sweeps.tidy(core.db, core.settings.store, moment)

    async def collect() -> None:
        while await core.collector.collect(now()):
            continue

    return [Job("tidy", TIDY_SECONDS, tidy), Job("collector", COLLECT_SECONDS, collect)]


def of_transport(core: Core) -> list[Job]:
    """Jobs of the mail queue: begin scheduled mail, take back lapsed leases, expire or warn, purge settled messages."""
    return [
        Job("transport leases", POLL_SECONDS, core.transport.tick, at_once=True),
        Job("transport expiry", MINUTE_SECONDS, core.transport.expire, at_once=True),
        Job("transport purge", PURGE_SECONDS, core.transport.purge, at_once=True),
    ]
