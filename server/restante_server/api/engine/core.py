"""What handlers share: the parts of one core process, put together in `app.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from restante_server.api.engine.allowances import Allowances
from restante_server.api.engine.followed import ChangeNumbers, Read
from restante_server.api.engine.guards import Guards
from restante_server.api.engine.searches import Searches
from restante_server.db.engine import Database
from restante_server.db.marks import DIRECTORY, IN_DOUBT
from restante_server.directory.known import SECONDS, SECONDS_ALONE, KnownRecipients
from restante_server.store.garbage import Collector

if TYPE_CHECKING:
    from restante_process.config import Config
    from restante_server.api.engine.dispatch import Dispatcher
    from restante_server.api.engine.identity import Authenticator
    from restante_server.api.engine.notify import Notifier
    from restante_server.directory.service import Directory
    from restante_server.store.staging import Contents
    from restante_server.transport.service import Transport


class LoginObserver:
    """Where the security log and metrics listen. It does nothing unless given."""

    def failed(self, protocol: str, reason: str, name: str, client_address: str) -> None:
        """A login by `protocol` (imap, pop3, smtp or api) was refused; `name` is any text."""

    def close(self) -> None:
        """The process ends."""


@dataclass
class Core:
    """The parts, and the tasks that outlive the call that began them."""

    settings: Config
    db: Database
    epoch: int
    contents: Contents
    directory: Directory
    transport: Transport
    notifier: Notifier
    authenticator: Authenticator
    logins: LoginObserver = field(default_factory=LoginObserver)
    dispatcher: Dispatcher = field(init=False)  # made with the core in hand
    guards: Guards = field(init=False)
    recipients: KnownRecipients = field(init=False)
    searches: Searches = field(default_factory=Searches)
    collector: Collector = field(init=False)
    allowances: Allowances = field(init=False)
    numbers: ChangeNumbers = field(init=False)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    _on_drain: set[Callable[[], None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.allowances = Allowances(self.settings.limits)
        self.collector = Collector(self.db, self.contents.directory)
        self.recipients = KnownRecipients(SECONDS_ALONE if self.db.alone else SECONDS)
        self.db.when_committed(DIRECTORY, self.recipients.forget)
        self.numbers = ChangeNumbers(self._begin_read, alone=self.db.alone)
        self.db.when_committed(IN_DOUBT, self.numbers.forget)
        self.notifier.on_commit(self.numbers.note)
        self.guards = Guards(self.directory.sessions)
        self.notifier.on_sessions_ended(self.guards.sessions_ended)

    def _begin_read(self, read: Callable[[], Read]) -> asyncio.Future[Any]:
        return self.dispatcher.begin_read(read)  # which does not exist yet when this is handed out

    def hold(self, task: asyncio.Task[Any]) -> None:
        """Keep a task from being forgotten while it runs."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run a coroutine beside everything else; `drain` waits for it."""
        task = asyncio.create_task(work, name=name)
        self.hold(task)
        return task

    def on_drain(self, told: Callable[[], None]) -> Callable[[], None]:
        """Be told when the core begins to drain; returns how to stop."""
        self._on_drain.add(told)
        return partial(self._on_drain.discard, told)

    def announce_drain(self) -> None:
        """Tell those who asked that the core is going away."""
        for told in tuple(self._on_drain):
            told()

    async def drain(self, seconds: float) -> None:
        """Wait for what was spawned, at most so long, then cancel the rest."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
