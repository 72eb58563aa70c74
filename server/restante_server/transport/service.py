"""The transport of one core process: the calls of the API, and the work in the background."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from sqlalchemy import Connection

from restante.errors import DeadlineExceeded, Draining, FolderNotFound, RestanteError, StoreBusy, StoreFull
from restante_process.config import Config
from restante_server.db.clock import now_microseconds
from restante_server.db.engine import Database
from restante_server.db.operation import Write
from restante_server.store.listing import listing_of
from restante_server.store.requests import RequestRaced
from restante_server.store.staging import Contents
from restante_server.transport import deadlines, waiting
from restante_server.transport.enqueue import Taken, direct
from restante_server.transport.hooks import Figures
from restante_server.transport.records import Incoming
from restante_server.transport.rows import DUE
from restante_server.transport.settings import TransportSettings
from restante_server.transport.take import Outcome, TakeMail
from restante_server.transport.waiting import DeliverWaiting, Due, Postpone

log = logging.getLogger(__name__)

RACES = 3
POLL_SECONDS = 1.0  # how soon work that another core left behind, or that time has brought, is seen
MINUTE_SECONDS = 60.0
PURGE_SECONDS = 600.0
AT_ONCE = 4  # messages delivered side by side, where there are several write lanes


@dataclass
class Transport:
    """Belongs to the event loop."""

    settings: TransportSettings
    db: Database
    contents: Contents
    figures: Figures = field(default_factory=Figures)
    _work: asyncio.Event = field(default_factory=asyncio.Event)
    _put_off: bool = False
    _streams: set[Callable[[], None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.db.listeners.on_event(DUE, lambda _: self.wake())

    @classmethod
    def of(cls, settings: Config, db: Database, contents: Contents, figures: Figures | None = None) -> Transport:
        """From the configuration."""
        return cls(TransportSettings.of(settings), db, contents, figures or Figures())

    async def take(self, mail: TakeMail) -> Taken:
        """Take responsibility for a message; returns once that is durable. Raises what the store raises.

        Contents of a message that is refused, or was taken before, are forgotten.
        """
        began, is_new = time.perf_counter(), False
        try:
            outcome = await self._write(mail)
            is_new = outcome.new
        finally:
            if not is_new:
                sent = mail.incoming.sent
                self.contents.forget(mail.incoming.staged, sent.staged if sent is not None else None)
        if is_new:
            self._count(mail.incoming, time.perf_counter() - began)
        return outcome.taken

    async def _write(self, mail: TakeMail) -> Outcome:
        """Written, once more when another core was first with the same request."""
        races = 0
        while True:
            try:
                return await self.db.write(mail)
            except RequestRaced:
                races += 1
                if races > RACES:
                    raise
            except FolderNotFound:  # the Sent folder went at this moment: a copy is never a reason not to send
                if mail.incoming.sent is None:
                    raise
                mail = replace(mail, incoming=replace(mail.incoming, sent=None))

    def _count(self, incoming: Incoming, seconds: float) -> None:
        self.figures.taken("acceptance" if incoming.account_id is None else "submission", seconds)
        here = len(direct(incoming, self.settings.direct_deliveries))
        if here:
            self.figures.delivered(here, seconds)

    def wake(self) -> None:
        """Deliver due mail, and wake the relays' streams: something may be due."""
        self._work.set()
        for tell in tuple(self._streams):
            tell()

    def on_due(self, tell: Callable[[], None]) -> Callable[[], None]:
        """Call `tell` whenever something may be due; returns a function that ends this."""
        self._streams.add(tell)
        return partial(self._streams.discard, tell)

    async def deliver(self) -> None:
        """Deliver everything local that is due. Raises what the store raises when it is busy or full."""
        while work := await self.db.read(waiting.due):
            for start in range(0, len(work), AT_ONCE):
                some = work[start : start + AT_ONCE]
                for outcome in await asyncio.gather(*map(self._deliver, some), return_exceptions=True):
                    if isinstance(outcome, BaseException):
                        raise outcome

    async def tick(self) -> None:
        """Make scheduled mail due and take back lapsed leases."""
        await self._timely("begin", deadlines.begin)
        await self._timely("lapse", deadlines.lapse)

    async def expire(self) -> None:
        """Give up what is too old, and warn the senders of what is late."""
        await self._timely("expire", partial(_with_settings, deadlines.expire, self.settings))
        await self._timely("warn", partial(_with_settings, deadlines.warn, self.settings))

    async def purge(self) -> None:
        """Forget settled messages, and their trace, after their time."""

        def forget(tx: Connection) -> int:
            return deadlines.forget(tx, now_microseconds(tx) - self.settings.trace_microseconds)

        while await self.db.write(Write(forget, rows=4 * deadlines.AT_ONCE)):
            continue

    async def _timely(self, work: str, run: Callable[[Connection, list[int], int], None]) -> None:
        """Do one kind of upkeep wherever it is due."""

        def look(tx: Connection) -> list[int]:
            return deadlines.due(tx, work, deadlines.moments(self.settings, now_microseconds(tx))[work])

        while ids := await self.db.read(look):
            await self.db.write(Write(lambda tx, ids=ids: run(tx, ids, now_microseconds(tx)), rows=3 * len(ids)))  # type: ignore[misc]
            if len(ids) < deadlines.AT_ONCE:
                break

    async def _deliver(self, due: Due) -> None:
        """Deliver one message where it waits; one that shows a fault of ours waits on, so that others pass it."""
        try:
            listing = listing_of(await self.contents.facts(due.stored))
            await self.db.write(DeliverWaiting(self.settings, due, listing))
            self.figures.delivered(len(due.mailbox_ids), max(0.0, time.time() - due.accepted_at / 1_000_000))
        except (StoreBusy, StoreFull, Draining, DeadlineExceeded):  # everything waits
            raise
        except Exception:
            log.exception("a delivery failed: transport id %d", due.transport_id)
            await self.db.write(Postpone(self.settings, due.transport_id, "a fault of this server"))

    async def deliver_for_ever(self) -> None:
        """Deliver as soon as something is due, and look every POLL_SECONDS at what other cores have left."""
        while True:
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._work.wait()
            except TimeoutError:
                pass
            self._work.clear()
            try:
                await self.deliver()
                self._put_off = False
            except RestanteError as error:
                # A warning once: while the database is away every attempt fails alike.
                log.log(logging.DEBUG if self._put_off else logging.WARNING, "put off: deliveries: %s", error.detail)
                self._put_off = True
                await asyncio.sleep(POLL_SECONDS)
            except Exception:
                log.exception("deliveries failed")
                await asyncio.sleep(POLL_SECONDS)


def _with_settings(
    run: Callable[[Connection, TransportSettings, list[int], int], None],
    settings: TransportSettings,
    tx: Connection,
    ids: list[int],
    now: int,
) -> None:
    run(tx, settings, ids, now)
