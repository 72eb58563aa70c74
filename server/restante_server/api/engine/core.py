"""The parts of one core process that handlers share. `app` assembles them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection

from restante_process.config import Config
from restante_server.api.engine.allowances import Allowances
from restante_server.api.engine.deadlines import DEFAULT_TIMEOUT_SECONDS
from restante_server.api.engine.followed import ChangeNumbers, Read
from restante_server.api.engine.guards import Guards
from restante_server.api.engine.identity import Authenticator
from restante_server.api.engine.notify import Notifier
from restante_server.api.engine.search_threads import Searches
from restante_server.api.engine.tasks import Tasks
from restante_server.db.effects import DIRECTORY, IN_DOUBT
from restante_server.db.engine import Database
from restante_server.directory.hooks import LoginObserver
from restante_server.directory.known import SECONDS, SECONDS_ALONE, KnownDomains, KnownRecipients
from restante_server.directory.rights import RIGHTS
from restante_server.directory.service import Directory
from restante_server.directory.states import SESSIONS_ENDED, Ended, LoggedOff
from restante_server.store.changes import CHANGED
from restante_server.store.staging import Contents
from restante_server.transport.feedback.failure_tally import FailureTally
from restante_server.transport.feedback.repeats import CountedRefusals
from restante_server.transport.feedback.tally import Tally
from restante_server.transport.service import Transport
from restante_server.upkeep.collector import Collector
from restante_server.upkeep.jobs.signals import JobSignals

R = TypeVar("R")


@dataclass
class Core:
    """The shared parts. Belongs to the event loop."""

    settings: Config
    db: Database
    epoch: int
    contents: Contents
    directory: Directory
    transport: Transport
    notifier: Notifier
    authenticator: Authenticator
    logins: LoginObserver = field(default_factory=LoginObserver)
    tasks: Tasks = field(default_factory=Tasks)
    searches: Searches = field(default_factory=Searches)
    job_signals: JobSignals = field(default_factory=JobSignals)
    dmarc_tally: Tally = field(default_factory=Tally)
    counted_refusals: CountedRefusals = field(default_factory=CountedRefusals)
    failures: FailureTally = field(init=False)
    guards: Guards = field(init=False)
    recipients: KnownRecipients = field(init=False)
    domains: KnownDomains = field(init=False)
    collector: Collector = field(init=False)
    allowances: Allowances = field(init=False)
    numbers: ChangeNumbers = field(init=False)

    def __post_init__(self) -> None:
        self.allowances = Allowances(self.settings.limits)
        self.failures = FailureTally.of(self.settings)
        self.collector = Collector(self.db, self.contents.directory)
        self.recipients = KnownRecipients(SECONDS_ALONE if self.db.alone else SECONDS)
        self.domains = KnownDomains(SECONDS_ALONE if self.db.alone else SECONDS)
        self.numbers = ChangeNumbers(self._begin_read, alone=self.db.alone)
        self.guards = Guards(self.directory.sessions)
        self.notifier.on_sessions_ended(self.guards.sessions_ended)
        listeners = self.db.listeners
        listeners.on_invalidation(DIRECTORY, self.recipients.forget)
        listeners.on_invalidation(DIRECTORY, self.domains.forget)
        listeners.on_invalidation(IN_DOUBT, self.numbers.forget)
        listeners.on_event(CHANGED, self.numbers.note)  # before the watchers, who may ask for the new numbers at once
        listeners.on_event(CHANGED, self.notifier.changed)
        listeners.on_event(SESSIONS_ENDED, self._sessions_ended)
        listeners.on_event(RIGHTS, self._rights_changed)

    def _sessions_ended(self, ended: Sequence[Ended | LoggedOff]) -> None:
        """Forget sessions that a commit of this core has ended, and inform their watchers."""
        sessions = self.directory.sessions
        for one in ended:
            if isinstance(one, LoggedOff):
                sessions.forget_session(one.session_id, one.until)
                self.notifier.sessions_ended(one.account_id, 0, one.token)
            else:
                sessions.forget_account(one.account_id)
                self.notifier.sessions_ended(one.account_id, one.credential_version)

    def _rights_changed(self, mailbox_ids: Iterable[int]) -> None:
        """Look for watchers that have lost their right by a commit of this core."""
        self.tasks.spawn(self.notifier.recheck(tuple(mailbox_ids)), "rights")

    async def short_read(self, function: Callable[[Connection], R]) -> R:
        """Run a short read of the core itself, within the default timeout instead of a call's deadline.

        It shares a thread hop with the other short reads of the same turn of the loop.
        """
        return await self.db.read_short(function, deadline=time.monotonic() + DEFAULT_TIMEOUT_SECONDS)

    def _begin_read(self, function: Callable[[], Read]) -> asyncio.Future[Any]:
        return self.db.begin_read(function, deadline=time.monotonic() + DEFAULT_TIMEOUT_SECONDS)
