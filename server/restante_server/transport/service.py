"""The transport of one core process: the functions behind the API, and the background work."""

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
from restante_server.transport import deadlines, forwarding, kept_paths, waiting
from restante_server.transport.enqueue import direct
from restante_server.transport.forwarding import Forwarding
from restante_server.transport.greylisting.service import Greylist
from restante_server.transport.hooks import Figures
from restante_server.transport.outbound import failed_addresses
from restante_server.transport.outbound.signatures import Signatures
from restante_server.transport.records import Incoming
from restante_server.transport.results import unpacked, with_checks
from restante_server.transport.rows import DUE, ENDED
from restante_server.transport.settings import TransportSettings
from restante_server.transport.take import TakeMail, TakeResult
from restante_server.transport.tls import policies, sessions
from restante_server.transport.tls.sessions import DAY
from restante_server.transport.waiting import DeliverWaiting, Due, Postpone

log = logging.getLogger(__name__)

RACES = 3
POLL_SECONDS = 1.0  # interval of looking for work that another core left or that became due
MINUTE_SECONDS = 60.0
PURGE_SECONDS = 600.0
AT_ONCE = 4  # messages delivered concurrently, where there are several write lanes


@dataclass
class Transport:
    """The transport of one core process. Use it on the event loop only."""

    settings: TransportSettings
    db: Database
    contents: Contents
    figures: Figures = field(default_factory=Figures)
    signatures: Signatures = field(default_factory=Signatures)
    forwarding: Forwarding = field(init=False)
    greylist: Greylist = field(init=False)
    _work: asyncio.Event = field(default_factory=asyncio.Event)
    _put_off: bool = False
    _due: set[Callable[[], None]] = field(default_factory=set)
    _ended: set[Callable[[], None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.forwarding = Forwarding(self.settings.forwarding_domain)
        self.greylist = Greylist(self.settings.greylisting, self.db)
        self.db.listeners.on_event(DUE, lambda _: self.wake())
        self.db.listeners.on_event(ENDED, lambda _: _call(self._ended))

    @classmethod
    def of(cls, settings: Config, db: Database, contents: Contents, figures: Figures | None = None) -> Transport:
        """Make the transport with the limits of the configuration."""
        return cls(TransportSettings.of(settings), db, contents, figures or Figures())

    async def take(self, mail: TakeMail) -> TakeResult:
        """Accept responsibility for a message; returns once the acceptance is durable. Lets the store's errors pass.

        Releases the staged contents of a message that is refused or was accepted before.
        """
        began, sent = time.perf_counter(), mail.incoming.sent
        staged = (mail.incoming.staged, sent.staged if sent is not None else None)
        try:
            outcome = await self._write(mail)
        except BaseException as error:
            self.contents.forget(*staged, after=error)
            raise
        if outcome.new:
            self._count(mail.incoming, time.perf_counter() - began)
        else:
            self.contents.forget(*staged)
        return outcome

    async def _write(self, mail: TakeMail) -> TakeResult:
        """Write the message; retry up to RACES times while another core executes the same request."""
        races = 0
        while True:
            try:
                return await self.db.write(mail)
            except RequestRaced:
                races += 1
                if races > RACES:
                    raise
            except FolderNotFound:  # the Sent folder has just been deleted: send without the copy
                if mail.incoming.sent is None:
                    raise
                mail = replace(mail, incoming=replace(mail.incoming, sent=None))

    def _count(self, incoming: Incoming, seconds: float) -> None:
        self.figures.taken("acceptance" if incoming.account_id is None else "submission", seconds)
        for method, result in unpacked(incoming.listing.check_results):
            self.figures.checked(method.name.lower(), result.value)
        here = len(direct(incoming, self.settings.direct_deliveries))
        if here:
            self.figures.delivered(here, seconds)

    def wake(self) -> None:
        """Wake the deliveries and the relays' streams, because mail may be due."""
        self._work.set()
        _call(self._due)

    def on_due(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` whenever mail may be due; returns a function that removes the callback."""
        self._due.add(listener)
        return partial(self._due.discard, listener)

    def on_ended(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` whenever a lease has been reported; returns a function that removes the callback."""
        self._ended.add(listener)
        return partial(self._ended.discard, listener)

    async def deliver(self) -> None:
        """Deliver all local recipients that are due. Lets the store's errors pass (StoreBusy, StoreFull)."""
        while work := await self.db.read(waiting.due):
            for start in range(0, len(work), AT_ONCE):
                some = work[start : start + AT_ONCE]
                for outcome in await asyncio.gather(*map(self._deliver, some), return_exceptions=True):
                    if isinstance(outcome, BaseException):
                        raise outcome

    async def tick(self) -> None:
        """Make scheduled mail due and end lapsed leases."""
        await self._timely("begin", deadlines.begin)
        await self._timely("lapse", deadlines.lapse)

    async def expire(self) -> None:
        """Fail expired recipients, and warn the senders of delayed mail."""
        await self._timely("expire", partial(_with_settings, deadlines.expire, self.settings))
        await self._timely("warn", partial(_with_settings, deadlines.warn, self.settings))

    async def purge(self) -> None:
        """Remove settled messages, their trace, TLS sessions, failed addresses, policies, rows of greylisting and kept
        paths after their time. Replace the secret of rewritten reverse-paths when it is due."""

        def forget(tx: Connection) -> int:
            return deadlines.forget(tx, now_microseconds(tx) - self.settings.trace_microseconds)

        def forget_tls(tx: Connection) -> int:
            now = now_microseconds(tx)
            return policies.forget(tx, now) + sessions.forget(tx, (now - self.settings.trace_microseconds) // DAY)

        while await self.db.write(Write(forget, rows=4 * deadlines.AT_ONCE)):
            continue

        def forget_addresses(tx: Connection) -> int:
            return failed_addresses.forget(tx, now_microseconds(tx) - self.settings.failed_address_microseconds)

        while await self.db.write(Write(forget_tls, rows=2 * sessions.AT_ONCE)):
            continue
        while await self.db.write(Write(forget_addresses, rows=failed_addresses.AT_ONCE)):
            continue
        await self.db.write(Write(lambda tx: forwarding.tidy(tx, now_microseconds(tx)), rows=kept_paths.AT_ONCE))
        await self.greylist.purge()

    async def _timely(self, work: str, run: Callable[[Connection, list[int], int], None]) -> None:
        """Run one kind of deadline work on all messages for which it is due."""

        def look(tx: Connection) -> list[int]:
            return deadlines.due(tx, work, deadlines.moments(self.settings, now_microseconds(tx))[work])

        while ids := await self.db.read(look):
            await self.db.write(Write(lambda tx, ids=ids: run(tx, ids, now_microseconds(tx)), rows=3 * len(ids)))  # type: ignore[misc]

    async def _deliver(self, due: Due) -> None:
        """Deliver one waiting message. An unexpected error postpones the message, so that it does not block others."""
        try:
            listing = with_checks(listing_of(await self.contents.facts(due.stored)), due.checks)
            await self.db.write(DeliverWaiting(self.settings, due, listing))
            self.figures.delivered(len(due.mailbox_ids), max(0.0, time.time() - due.accepted_at / 1_000_000))
        except (StoreBusy, StoreFull, Draining, DeadlineExceeded):  # these affect all messages alike
            raise
        except Exception:
            log.exception("the delivery of transport id %d failed", due.transport_id)
            await self.db.write(Postpone(self.settings, due.transport_id, "an internal error of this server"))

    async def deliver_for_ever(self) -> None:
        """Deliver as soon as mail is due; every POLL_SECONDS look for mail that other cores left."""
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
                # Warn once only: while the database is down every attempt fails in the same way.
                log.log(logging.DEBUG if self._put_off else logging.WARNING, "deliveries are put off: %s", error.detail)
                self._put_off = True
                await asyncio.sleep(POLL_SECONDS)
            except Exception:
                log.exception("a run of deliveries failed; another follows")
                await asyncio.sleep(POLL_SECONDS)


def _call(listeners: set[Callable[[], None]]) -> None:
    for listener in tuple(listeners):
        listener()


def _with_settings(
    run: Callable[[Connection, TransportSettings, list[int], int], None],
    settings: TransportSettings,
    tx: Connection,
    ids: list[int],
    now: int,
) -> None:
    run(tx, settings, ids, now)
