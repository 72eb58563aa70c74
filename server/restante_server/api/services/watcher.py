"""The subscriptions of one Watch stream, and their notices (docs/design.md "Change numbers").

A subscription to a folder receives the changes themselves, which the commit passes on or the watcher reads. A
subscription to a mailbox receives its change number. A watcher that does not keep up gets Reset, never silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from restante.errors import (
    InvalidArgument,
    LimitExceeded,
    MailboxNotFound,
    RestanteError,
    SessionRevoked,
    StoreBusy,
    to_status,
)
from restante.v1.sync_pb2 import (
    MailboxChanged,
    ResetReason,
    SessionsEnded,
    Subscription,
    WatchRequest,
    WatchResponse,
)
from restante_server.api.engine import access
from restante_server.api.engine.allowances import Resource
from restante_server.api.engine.call import Call
from restante_server.api.engine.caller import Caller
from restante_server.api.engine.faults import translate
from restante_server.api.engine.notify import NO_DELTAS, Deltas, Watched
from restante_server.api.services import convert
from restante_server.api.services.notices import MAX_QUEUED, MAX_QUEUED_OCTETS, Notices, Queued
from restante_server.db import turns
from restante_server.db.turns import Party
from restante_server.directory.rights import Claim
from restante_server.store import changes, mailboxes
from restante_server.store.changes import FolderDelta

QUIET_SECONDS = 0.05  # delay of a change that its writer's response carries, to send it together with later ones
MAX_SUBSCRIPTIONS = 1_000  # of one user's stream
GOES_ON = ("folder", "mailbox", "subscribed")  # notices that do not end a subscription
MAX_GATEWAY_SUBSCRIPTIONS = 100_000  # of a gateway's stream, which carries many users


def _nothing() -> None:
    pass


@dataclass(eq=False, slots=True)
class Watching:
    id: int
    caller: Caller  # of the subscription's session
    claim: Claim  # on the mailbox or on one of its folders
    since: int
    watched: Watched | None = None
    reading: bool = False  # a read is under way
    again: bool = False  # another read must follow, because of a change during this one
    waiting: asyncio.TimerHandle | None = None  # sends the held changes
    held: FolderDelta | None = None  # the changes to send; None: they must be read
    release: Callable[[], None] = _nothing  # removes the guard of its session


def _number(tx: Connection, *, claim: Claim) -> int:
    return mailboxes.change_number(tx, claim.place(tx))


def _changes(tx: Connection, *, claim: Claim, since: int) -> FolderDelta:
    place = claim.place(tx)
    return changes.folder_changes(tx, place, since)


class Watcher:
    """One Watch stream."""

    def __init__(self, call: Call, most_queued: int = MAX_QUEUED, most_queued_octets: int = MAX_QUEUED_OCTETS) -> None:
        self._call = call
        self._subscriptions: dict[int, Watching] = {}
        self._notices = Notices(call.core.allowances, most_queued, most_queued_octets)
        self._most = MAX_GATEWAY_SUBSCRIPTIONS if call.caller.identity else MAX_SUBSCRIPTIONS
        self._ended = False
        self._problem: RestanteError | None = None  # the stream ends with it after the last notices
        self._release = call.core.guards.hold(call.caller, self._session_over, with_token=True)
        self._stop_endings = (
            call.core.notifier.on_sessions_ended(self._sessions_ended) if call.caller.identity else None
        )

    async def take(self, requests: AsyncIterator[WatchRequest]) -> None:
        """Subscribe and unsubscribe as requested, until the client ends its requests."""
        async for request in requests:
            if request.HasField("subscribe"):
                await self.subscribe(request.subscribe)
            else:
                self._drop(request.unsubscribe)

    def taken(self, taking: asyncio.Task[None]) -> None:
        """End the stream after a fault in `take`, so that the client does not wait for answers in vain."""
        if not taking.cancelled() and isinstance(fault := taking.exception(), Exception) and not self._ended:
            self._end(translate(fault, "/restante.v1.SyncService/Watch"))

    async def subscribe(self, wanted: Subscription) -> None:
        """Begin a subscription, or send the reason of its refusal."""
        core = self._call.core
        try:
            caller = await core.authenticator.session(wanted.session_token, self._call.caller)
            turns.party.set(caller.party)
            access.MAIL_SESSION(caller)
            if wanted.subscription_id < 1:
                raise InvalidArgument(field="subscription_id", problem="must be at least 1")
            claim = Claim(caller.account_id, access.named(caller, wanted.mailbox_id), wanted.folder_id)
            if len(self._subscriptions) >= self._most and wanted.subscription_id not in self._subscriptions:
                raise LimitExceeded(limit="stream_subscriptions", value=self._most)
            if wanted.epoch not in (0, core.epoch):
                reason = ResetReason.RESET_REASON_EPOCH_CHANGED
                self._tell(WatchResponse(subscription_id=wanted.subscription_id, reset_reason=reason))
                return
            if claim.folder_id:
                await core.short_read(claim.place)  # to refuse it now; without a folder the first read does
            self._drop(wanted.subscription_id)
            if self._ended:
                return  # the stream ended during the checks above
            core.allowances.take(caller.party, Resource.SUBSCRIPTIONS)
        except RestanteError as error:
            self._tell(WatchResponse(subscription_id=wanted.subscription_id, rejected=to_status(error)))
            return
        subscription = Watching(wanted.subscription_id, caller, claim, wanted.since_change_number)
        hint, lost = partial(self._hint, subscription), partial(self._lose, subscription)
        subscription.watched = core.notifier.watch(claim, hint, lost)
        self._subscriptions[subscription.id] = subscription
        subscription.release = core.guards.hold(caller, partial(self._end_subscription, subscription), with_token=True)
        self._tell(WatchResponse(subscription_id=subscription.id, subscribed=subscription.since))
        self._read(subscription)  # the changes between the client's last read and this subscription

    async def notices(self) -> AsyncIterator[WatchResponse]:
        """The notices, until the stream ends. Raises the reason: SessionRevoked if the stream's own session ends."""
        try:
            while not self._ended:
                while self._notices:
                    yield self._notices.take()
                if self._problem is not None:
                    raise self._problem
                self._notices.wake.clear()
                await self._notices.wake.wait()
        finally:
            self.close()

    def drain(self) -> None:
        """Ask the client to open another stream."""
        self._tell(WatchResponse(draining=True))

    def close(self) -> None:
        """End all subscriptions and drop all notices."""
        self._ended = True
        self._release()
        if self._stop_endings is not None:
            self._stop_endings()
        for subscription_id in list(self._subscriptions):
            self._drop(subscription_id)
        self._notices.replace([])

    def _drop(self, subscription_id: int) -> None:
        subscription = self._subscriptions.pop(subscription_id, None)
        if subscription is None:
            return
        if subscription.watched is not None:
            self._call.core.notifier.forget(subscription.watched)
        subscription.release()
        self._call.core.allowances.give_back(subscription.caller.party, Resource.SUBSCRIPTIONS)

    def _hint(
        self,
        subscription: Watching,
        change_number: int,
        folder_ids: frozenset[int],
        answered: bool = False,
        deltas: Deltas = NO_DELTAS,
    ) -> None:
        if change_number <= subscription.since or self._subscriptions.get(subscription.id) is not subscription:
            return  # already sent; or dropped when the same commit's notice to another subscription overflowed
        if not subscription.claim.folder_id:
            subscription.since = change_number
            notice = MailboxChanged(change_number=change_number, folder_ids=sorted(folder_ids))
            self._tell(WatchResponse(subscription_id=subscription.id, mailbox=notice))
        elif not folder_ids or subscription.claim.folder_id in folder_ids:
            self._hear(subscription, deltas.get(subscription.claim.folder_id), QUIET_SECONDS if answered else 0.0)

    def _hear(self, subscription: Watching, delta: FolderDelta | None, delay: float) -> None:
        """Send a folder's changes after `delay` seconds, joined with those that are already waiting.

        `delta` holds all changes above `delta.since`; None: they must be read. No read is needed if the delta continues
        the changes that the client has received.
        """
        if subscription.reading:
            subscription.again = True  # the read may have begun before the change
        elif subscription.waiting is not None:
            held = subscription.held
            subscription.held = held.then(delta) if held is not None and delta is not None else None
            if not delay:
                subscription.waiting.cancel()
                self._tell_held(subscription)
        else:
            subscription.held = delta
            if delay:
                subscription.waiting = asyncio.get_running_loop().call_later(delay, self._tell_held, subscription)
            else:
                self._tell_held(subscription)

    def _tell_held(self, subscription: Watching) -> None:
        delta, subscription.held, subscription.waiting = subscription.held, None, None
        if self._subscriptions.get(subscription.id) is not subscription:
            return
        if delta is None or delta.since > subscription.since or len(delta.uids) > changes.MOST_NOTED:
            self._read(subscription)
        else:
            self._tell_delta(subscription, delta)

    def _tell_delta(self, subscription: Watching, delta: FolderDelta) -> None:
        if delta.change_number > subscription.since:
            subscription.since = delta.change_number
            self._tell(WatchResponse(subscription_id=subscription.id, folder=convert.folder_changes(delta)))

    def _read(self, subscription: Watching) -> None:
        subscription.reading = True
        tell = self._tell_changes if subscription.claim.folder_id else self._tell_number
        self._call.core.tasks.spawn(tell(subscription), "watch")

    async def _tell_number(self, subscription: Watching) -> None:
        """Send a mailbox's change number if it rose before the watch began: no hint reports that."""
        turns.party.set(subscription.caller.party)  # instead of the party of the hinting commit
        try:
            number = await self._call.core.short_read(partial(_number, claim=subscription.claim))
        except Exception as error:  # noqa: BLE001 - the client receives Reset; the fault is logged
            self._reset(subscription, translate(error, "Watch"))
            return
        finally:
            subscription.reading = False
        self._hint(subscription, number, frozenset())

    async def _tell_changes(self, subscription: Watching) -> None:
        turns.party.set(subscription.caller.party)  # instead of the party of the hinting commit
        read = partial(_changes, claim=subscription.claim, since=subscription.since)
        try:
            found = await self._call.core.short_read(read)
        except RestanteError as error:
            self._reset(subscription, error)
            return
        except Exception as error:  # noqa: BLE001 - the client receives Reset; the fault is logged
            self._reset(subscription, translate(error, "Watch"))
            return
        finally:
            subscription.reading = False
        if self._subscriptions.get(subscription.id) is not subscription:
            return
        self._tell_delta(subscription, found)
        if subscription.again:
            subscription.again = False
            self._read(subscription)

    def _reset(self, subscription: Watching, error: RestanteError) -> None:
        if self._subscriptions.get(subscription.id) is not subscription:
            return
        if isinstance(error, MailboxNotFound):
            self._lose(subscription, error)
            return
        self._drop(subscription.id)
        gone = error.reason == "FOLDER_NOT_FOUND"
        reason = ResetReason.RESET_REASON_FOLDER_GONE if gone else ResetReason.RESET_REASON_HISTORY_GONE
        self._tell(WatchResponse(subscription_id=subscription.id, reset_reason=reason))

    def _sessions_ended(self, ended: SessionsEnded) -> None:
        """Inform a gateway of ended sessions, because a gateway keeps more of a session than its subscriptions."""
        self._tell(WatchResponse(sessions_ended=ended))

    def _session_over(self, why: RestanteError) -> None:
        """End the stream, because its own session or token has ended. A second call does nothing."""
        if self._problem is not None:
            return
        caller = self._call.caller
        ended = SessionsEnded(account_id=caller.account_id, session_token=caller.token)
        self._end(why, *([WatchResponse(sessions_ended=ended)] if isinstance(why, SessionRevoked) else ()))

    def _lose(self, subscription: Watching, why: RestanteError) -> None:
        """End a subscription whose session may no longer see its place. Nothing else of the session ends."""
        self._drop(subscription.id)
        self._tell(WatchResponse(subscription_id=subscription.id, rejected=to_status(why)))

    def _end_subscription(self, subscription: Watching, why: RestanteError) -> None:
        """End a subscription, because its session or token has ended."""
        self._drop(subscription.id)
        self._tell(WatchResponse(subscription_id=subscription.id, rejected=to_status(why)))
        if subscription.caller.token == self._call.caller.token:
            self._session_over(why)

    def _end(self, problem: RestanteError, *last: WatchResponse) -> None:
        """End the stream with an error after the notices in `last`. The waiting notices are dropped."""
        self._problem = problem
        self._notices.replace([Queued(notice, notice.ByteSize(), None) for notice in last])

    def _tell(self, notice: WatchResponse) -> None:
        if self._problem is not None:
            return
        octets = notice.ByteSize()
        if not self._notices.has_room(octets):
            self._overflow(None)
        subscription = self._subscriptions.get(notice.subscription_id)
        party = subscription.caller.party if subscription is not None else None
        if party is not None and not self._call.core.allowances.may_take(party, Resource.QUEUED_OCTETS, octets):
            self._overflow(party)
        if notice.subscription_id not in self._subscriptions and notice.WhichOneof("notice") in GOES_ON:
            return  # its subscription has just been reset
        self._notices.put(Queued(notice, octets, party))

    def _overflow(self, party: Party | None) -> None:
        """Reset every subscription of a party, or of the whole stream if None, because the client is too slow.

        Notices of the stream, and the last notice of each ended subscription, are kept.
        """
        ended = [
            subscription_id
            for subscription_id, subscription in self._subscriptions.items()
            if party is None or subscription.caller.party == party
        ]
        kept = [queued for queued in self._notices if not self._is_lost(queued, party)]
        for subscription_id in ended:
            self._drop(subscription_id)
            reason = ResetReason.RESET_REASON_TOO_SLOW
            notice = WatchResponse(subscription_id=subscription_id, reset_reason=reason)
            kept.append(Queued(notice, notice.ByteSize(), None))
        if party is None:  # keep one last notice for each subscription
            last = {queued.notice.subscription_id: queued for queued in kept if queued.notice.subscription_id}
            kept = [*(queued for queued in kept if not queued.notice.subscription_id), *last.values()]
        self._notices.replace(kept)
        if len(self._notices) > self._most + self._notices.most:
            self._end(StoreBusy("The client reads notices too slowly; watch again."))

    def _is_lost(self, queued: Queued, party: Party | None) -> bool:
        if not queued.notice.subscription_id or queued.notice.WhichOneof("notice") not in GOES_ON:
            return False
        return party is None or queued.party == party
