"""One user's Inbox, leased exclusively to this session: acquisition, renewal and release of the lease."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from restante import errors
from restante.keeper import Link
from restante.methods import Method
from restante.methods import Request as RequestType
from restante.methods import Response as ResponseType
from restante.v1 import mailbox_pb2, message_pb2, methods, session_pb2, types_pb2
from restante_gateways.core.retry import is_temporary
from restante_gateways.core.sessions import AccountSession, AccountSessions
from restante_gateways.pop3.errors import ends_session
from restante_gateways.pop3.retrieval import Retriever
from restante_gateways.pop3.settings import MaildropSettings
from restante_gateways.pop3.snapshot import Snapshot

LEASE_OCTETS = 16


class Core(Link, Protocol):
    """The calls of POP3 to the core; `restante.link.CoreLink` implements them."""

    def stream_messages(
        self, request: message_pb2.StreamMessagesRequest, *, session: bytes = b"", client_address: str = ""
    ) -> AsyncIterator[message_pb2.StreamMessagesResponse]:
        """Read messages in batches. Raises RestanteError."""


class Maildrop:
    """The lease and its snapshot. Calls `on_end` once when the lease is lost."""

    def __init__(
        self,
        core: Core,
        session: AccountSession,
        lease: mailbox_pb2.AcquireMaildropResponse,
        on_end: Callable[[errors.RestanteError], None],
        settings: MaildropSettings,
    ) -> None:
        self._core, self._session = core, session
        self._lease, self._on_end, self._settings = lease.lease, on_end, settings
        self.snapshot = Snapshot(lease.uid_validity, lease.uids, lease.message_ids, lease.size_octets)
        self.retriever = Retriever(self._open_stream, lease.folder_id, self.snapshot, settings)
        self._loop = asyncio.get_running_loop()
        self._renewal: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(
            self._settings.lease_renewed_seconds, self._renew
        )
        self._open = True

    @classmethod
    async def open(
        cls,
        core: Core,
        sessions: AccountSessions,
        user: session_pb2.Session,
        client_address: str,
        on_end: Callable[[errors.RestanteError], None],
        settings: MaildropSettings,
    ) -> Maildrop:
        """Acquire the lease for a user who has just logged in. Raises MaildropInUse and any other RestanteError.

        Calls `on_end` also when the user's session ends.
        """
        session = sessions.keep(user, client_address, on_end)
        try:
            # The client chooses the id, so that it holds the lease even if the answer to the first call was lost.
            request = mailbox_pb2.AcquireMaildropRequest(lease=os.urandom(LEASE_OCTETS))
            page = lease = await core.execute(
                methods.ACQUIRE_MAILDROP, request, session=session.token, client_address=client_address
            )
            while page.next_page_token:
                request.page_token = page.next_page_token
                page = await core.execute(
                    methods.ACQUIRE_MAILDROP, request, session=session.token, client_address=client_address
                )
                lease.MergeFrom(page)
        except BaseException:
            session.close()
            raise
        return cls(core, session, lease, on_end, settings)

    @property
    def account(self) -> str:
        """The user's address."""
        return self._session.address

    async def quit(self) -> int | None:
        """Delete the marked messages that are still in the Inbox, all or none, and release the lease.

        Return the number of deleted messages; None if the call was repeated and the count of the first is unknown.
        Raises LeaseLost, having deleted nothing, and another RestanteError if the outcome is unknown.
        """
        until = self._loop.time() + self._settings.release_seconds
        request = self._release_request()
        request.deleted_uids.extend(_ranges(self.snapshot.deleted_uids()))
        request.seen_uids.extend(_ranges(self.snapshot.seen_uids()))
        await self._stop()
        try:
            return await self._release(request, until)
        finally:
            self._session.close()

    async def _release(self, request: mailbox_pb2.ReleaseMaildropRequest, until: float) -> int | None:
        repeated = False
        while True:
            try:
                done = await self._execute(methods.RELEASE_MAILDROP, request, self._settings.release_seconds)
            except errors.RestanteError as error:
                if not is_temporary(error) or self._loop.time() >= until:
                    raise
                await asyncio.sleep(self._settings.release_pause_seconds)
                repeated = True  # a repeated release is harmless
                continue
            certain = not repeated or done.deleted_count == self.snapshot.deleted_count
            return done.deleted_count if certain else None

    async def abandon(self) -> None:
        """Release the lease without deleting anything (RFC 1939 6). If that fails, the lease expires."""
        if not self._open:
            return
        await self._stop()
        try:
            await self._execute(methods.RELEASE_MAILDROP, self._release_request(), 5.0)
        except errors.RestanteError:
            return  # the lease expires by itself
        finally:
            self._session.close()

    def _release_request(self) -> mailbox_pb2.ReleaseMaildropRequest:
        return mailbox_pb2.ReleaseMaildropRequest(lease=self._lease)

    async def _execute(
        self, method: Method[RequestType, ResponseType], request: RequestType, timeout: float
    ) -> ResponseType:
        return await self._core.execute(
            method,
            request,
            session=self._session.token,
            client_address=self._session.client_address,
            timeout=timeout,
        )

    def _open_stream(
        self, request: message_pb2.StreamMessagesRequest
    ) -> AsyncIterator[message_pb2.StreamMessagesResponse]:
        return self._core.stream_messages(
            request, session=self._session.token, client_address=self._session.client_address
        )

    async def _stop(self) -> None:
        self._open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
        await self.retriever.close()

    def _renew(self) -> None:
        self._timer = None
        self._renewal = self._loop.create_task(self._renewed())

    async def _renewed(self) -> None:
        """Renew the lease. If the core is unreachable, retry before the lease expires."""
        again_in = self._settings.lease_renewed_seconds
        request = mailbox_pb2.RenewMaildropRequest(lease=self._lease)
        try:
            await self._execute(methods.RENEW_MAILDROP, request, self._settings.lease_renewed_seconds)
        except errors.RestanteError as error:
            if ends_session(error):
                self._end(error)
                return
            again_in = self._settings.lease_retried_seconds
        self._timer = self._loop.call_later(again_in, self._renew)

    def _end(self, error: errors.RestanteError) -> None:
        if self._open:
            self._on_end(error)


def _ranges(runs: list[tuple[int, int]]) -> list[types_pb2.IdRange]:
    return [types_pb2.IdRange(first=first, last=last) for first, last in runs]
