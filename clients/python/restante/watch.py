"""The Watch stream of a process. After a break it resumes each subscription after its last notice."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

import grpc
import grpc.aio

from restante import errors, streams
from restante.v1.sync_pb2 import SessionsEnded, Subscription, WatchRequest, WatchResponse

log = logging.getLogger(__name__)

OnNotice = Callable[[WatchResponse], None]
OpenStream = Callable[[], grpc.aio.StreamStreamCall[WatchRequest, WatchResponse]]
TokenSource = Callable[[], bytes]

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 2.0
RESUMED_SECONDS = 1.0  # a stream open for this time counts as connected to the server


@dataclass(eq=False, slots=True)
class Watching:
    """One subscription. The callback gets the notices on the event loop, in order; it must not block.

    A rejection or a reset is the last notice: read the folder or mailbox again, then subscribe again.
    """

    subscription_id: int
    mailbox_id: int
    folder_id: int
    since: int  # the change number of the last notice
    epoch: int
    token: TokenSource
    on_notice: OnNotice
    _stream: WatchStream

    def close(self) -> None:
        """End the subscription. A second call does nothing."""
        self._stream._unsubscribe(self.subscription_id)


class WatchStream:
    """Opens its stream with the first subscription or listener, and again whenever it breaks."""

    def __init__(self, open_stream: OpenStream, of_session: Callable[[], bool] = lambda: False) -> None:
        """`open_stream` begins a Watch call, on a fresh connection after the last one drained.

        `of_session` returns whether the call is authenticated by a session. When that session has ended, every
        subscription gets a rejection. A process with a process identity tries again instead.
        """
        self._open_stream, self._of_session = open_stream, of_session
        self._ids = itertools.count(1)
        self._watching: dict[int, Watching] = {}
        self._requests: asyncio.Queue[WatchRequest] = asyncio.Queue()
        self._listeners: set[Callable[[SessionsEnded], None]] = set()
        self._resumed: set[Callable[[], None]] = set()
        self._call: grpc.aio.StreamStreamCall[WatchRequest, WatchResponse] | None = None
        self._streams = 0  # opened so far
        self._task: asyncio.Task[None] | None = None
        self._pause = FIRST_PAUSE_SECONDS
        self.connected = False
        self.drained = False  # whether the last stream ended because the server asked for another connection

    def subscribe(
        self, mailbox_id: int, folder_id: int, since: int, epoch: int, token: bytes | TokenSource, on_notice: OnNotice
    ) -> Watching:
        """Watch a folder, or with folder 0 a mailbox, above a change number.

        `token` may be a function, so that a resumed stream uses the session's present token.
        """
        source = token if callable(token) else (lambda: token)
        watching = Watching(next(self._ids), mailbox_id, folder_id, since, epoch, source, on_notice, self)
        self._watching[watching.subscription_id] = watching
        if self.connected:
            self._requests.put_nowait(_subscribe(watching))
        self.start()
        return watching

    def on_sessions_ended(self, listener: Callable[[SessionsEnded], None]) -> None:
        """Call `listener` with each announcement of ended sessions. For processes with a process identity."""
        self._listeners.add(listener)
        self.start()

    def on_resumed(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each gap between two streams. Subscriptions resume without a loss, but an announcement
        of ended sessions may have been missed."""
        self._resumed.add(listener)

    def reopen(self) -> None:
        """Continue on another stream now, each subscription after its last notice."""
        self._pause = FIRST_PAUSE_SECONDS
        if self._call is not None:
            self._call.cancel()

    def start(self) -> None:
        """Open the stream now."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="watch")

    async def close(self) -> None:
        """End the stream and all subscriptions."""
        task, self._task = self._task, None
        self._watching.clear()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _unsubscribe(self, subscription_id: int) -> None:
        if self._watching.pop(subscription_id, None) is not None and self.connected:
            self._requests.put_nowait(WatchRequest(unsubscribe=subscription_id))

    async def _run(self) -> None:
        while True:
            try:
                if await self._once():
                    self._pause = FIRST_PAUSE_SECONDS
            except errors.RestanteError as error:
                log.debug("the watch stream broke: %s", error)
                if error.code is grpc.StatusCode.UNAUTHENTICATED and self._of_session():
                    self._task = None  # before the refusals: their readers may subscribe again
                    self._refuse(error)
                    return
            self.connected = False
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)

    def _refuse(self, error: errors.RestanteError) -> None:
        status = errors.to_status(error)
        for watching in tuple(self._watching.values()):
            self._receive(WatchResponse(subscription_id=watching.subscription_id, rejected=status))

    async def _once(self) -> bool:
        """Run one stream from beginning to end. Returns whether any response arrived."""
        call = self._call = self._open_stream()
        self._streams += 1
        resuming = None
        if self._streams > 1:
            resuming = asyncio.get_running_loop().call_later(RESUMED_SECONDS, self._notify_resumed)
        self.drained = False
        self._requests = asyncio.Queue()
        for watching in self._watching.values():
            self._requests.put_nowait(_subscribe(watching))
        self.connected, worked = True, False
        writing = asyncio.create_task(self._write(call, self._requests))
        try:
            while True:
                with streams.translated():
                    response = await call.read()
                if not isinstance(response, WatchResponse):
                    return worked
                worked = True
                if response.draining:
                    self.drained = True
                    return worked
                try:
                    self._receive(response)
                except Exception:  # a fault of one watcher must not end the others
                    log.exception("a watcher failed")
        finally:
            self.connected, self._call = False, None
            if resuming is not None:
                resuming.cancel()
            writing.cancel()
            call.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write(
        self, call: grpc.aio.StreamStreamCall[WatchRequest, WatchResponse], requests: asyncio.Queue[WatchRequest]
    ) -> None:
        while True:
            await call.write(await requests.get())

    def _notify_resumed(self) -> None:
        for listener in tuple(self._resumed):
            listener()

    def _receive(self, response: WatchResponse) -> None:
        kind = response.WhichOneof("notice")
        if kind == "sessions_ended":
            for listener in tuple(self._listeners):
                listener(response.sessions_ended)
            return
        watching = self._watching.get(response.subscription_id)
        if watching is None:
            return
        if kind == "folder":
            watching.since = max(watching.since, response.folder.change_number)
        elif kind == "mailbox":
            watching.since = max(watching.since, response.mailbox.change_number)
        elif kind in ("reset_reason", "rejected"):
            del self._watching[response.subscription_id]
        watching.on_notice(response)


def _subscribe(watching: Watching) -> WatchRequest:
    return WatchRequest(
        subscribe=Subscription(
            subscription_id=watching.subscription_id,
            session_token=watching.token(),
            mailbox_id=watching.mailbox_id,
            folder_id=watching.folder_id,
            since_change_number=watching.since,
            epoch=watching.epoch,
        )
    )
