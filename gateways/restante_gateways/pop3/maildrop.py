"""One user's Inbox, held by this session alone: authentication, the lease and its renewal, the end of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from restante import errors
from restante.methods import Method
from restante.methods import Request as RequestType
from restante.methods import Response as ResponseType
from restante.renewal import Renewal
from restante.v1 import mailbox_pb2, message_pb2, methods, session_pb2, sync_pb2, types_pb2
from restante_gateways.core.sasl import Response as SaslResponse
from restante_gateways.net.addresses import Peer
from restante_gateways.pop3.replies import ends_session, is_away
from restante_gateways.pop3.retrieval import Retriever
from restante_gateways.pop3.snapshot import Snapshot

RENEW_LEASE_SECONDS = 20.0  # of the 60 that it lasts
RELEASE_PATIENCE_SECONDS = 8.0  # at QUIT, for a core that is away
PAUSE_SECONDS = 0.5


class Core(Protocol):
    """What POP3 asks of the core; `restante.link.CoreLink` is one."""

    async def execute(
        self,
        method: Method[RequestType, ResponseType],
        request: RequestType,
        *,
        session: bytes = b"",
        client_address: str = "",
        timeout: float = 30.0,
        independent: bool = False,
    ) -> ResponseType:
        """One operation. Raises RestanteError."""

    def stream_messages(
        self, request: message_pb2.StreamMessagesRequest, *, session: bytes = b"", client_address: str = ""
    ) -> AsyncIterator[message_pb2.StreamMessagesResponse]:
        """Messages in batches. Raises RestanteError."""


async def authenticate(
    core: Core, peer: Peer, response: SaslResponse, exchange: bytes
) -> session_pb2.AuthenticateResponse:
    """One step of an exchange; the answer holds a session, or a challenge. Raises RestanteError."""
    request = session_pb2.AuthenticateRequest(
        mechanism=response.mechanism,
        response=response.octets.reveal(),
        exchange=exchange,
        scope=session_pb2.SCOPE_POP3,
        client=session_pb2.ClientContext(
            client_address=peer.client.host,
            listener=peer.listener,
            tls=peer.tls is not None,
            loopback=peer.loopback,
        ),
    )
    return await core.execute(methods.AUTHENTICATE, request, client_address=peer.client.host)


class Maildrop:
    """The lease and the snapshot that came with it. `on_end` is called once when either is no good any more."""

    def __init__(
        self,
        core: Core,
        user: session_pb2.Session,
        client_address: str,
        lease: mailbox_pb2.AcquireMaildropResponse,
        on_end: Callable[[errors.RestanteError], None],
        arrived_at: float,
    ) -> None:
        """`arrived_at`: when the core's answer with `user` came, by the loop's clock."""
        self._core, self._user, self._client_address = core, user, client_address
        self._lease, self._on_end = lease.lease, on_end
        self.snapshot = Snapshot(lease.uid_validity, lease.uids, lease.message_ids, lease.size_octets)
        self.retriever = Retriever(self._open_stream, lease.folder_id, self.snapshot)
        self._loop = asyncio.get_running_loop()
        self._token_renewal = Renewal.of(user, arrived_at, random.random())
        self._lease_due_at = self._loop.time() + RENEW_LEASE_SECONDS
        self._renewal: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = self._loop.call_at(self._next_due_at(), self._renew)
        self._open = True

    @classmethod
    async def open(
        cls,
        core: Core,
        user: session_pb2.Session,
        client_address: str,
        on_end: Callable[[errors.RestanteError], None],
    ) -> Maildrop:
        """Takes the lease, for a user whom the core has just let in. Raises MaildropInUse and any RestanteError."""
        arrived_at = asyncio.get_running_loop().time()
        request = mailbox_pb2.AcquireMaildropRequest()
        lease = await core.execute(
            methods.ACQUIRE_MAILDROP, request, session=user.session_token, client_address=client_address
        )
        return cls(core, user, client_address, lease, on_end, arrived_at)

    @property
    def account(self) -> str:
        """The user's address."""
        return self._user.address

    @property
    def account_id(self) -> int:
        """The user's account."""
        return self._user.account_id

    def session_ended(self, notice: sync_pb2.SessionsEnded) -> None:
        """The core has ended sessions of this account; `on_end` is called when this is one of them."""
        if notice.session_token:
            ended = notice.session_token == self._user.session_token
        else:
            ended = self._user.credential_version < notice.credential_version
        if ended:
            self._end(errors.SessionRevoked())

    async def quit(self) -> int | None:
        """Deletes what is marked and still in the Inbox, all or nothing, and gives the lease back.

        Returns how many messages were deleted; None when the core was asked again and its first answer is lost.
        Raises LeaseLost, having deleted nothing; another RestanteError when it is not known to have worked.
        """
        until = self._loop.time() + RELEASE_PATIENCE_SECONDS
        request = self._release_request()
        request.deleted_uids.extend(_ranges(self.snapshot.deleted_uids()))
        request.seen_uids.extend(_ranges(self.snapshot.seen_uids()))
        await self._stop()
        repeated = False
        while True:
            try:
                done = await self._execute(methods.RELEASE_MAILDROP, request, RELEASE_PATIENCE_SECONDS)
            except errors.RestanteError as error:
                if not is_away(error) or self._loop.time() >= until:
                    raise
                await asyncio.sleep(PAUSE_SECONDS)
                repeated = True  # which is harmless
                continue
            certain = not repeated or done.deleted_count == self.snapshot.deleted_count
            return done.deleted_count if certain else None

    async def abandon(self) -> None:
        """Gives the lease back without deleting anything (RFC 1939 6); where that fails, it lapses."""
        if not self._open:
            return
        await self._stop()
        try:
            await self._execute(methods.RELEASE_MAILDROP, self._release_request(), 5.0)
        except errors.RestanteError:
            return  # it lapses by itself

    def _release_request(self) -> mailbox_pb2.ReleaseMaildropRequest:
        return mailbox_pb2.ReleaseMaildropRequest(lease=self._lease)

    async def _execute(
        self, method: Method[RequestType, ResponseType], request: RequestType, timeout: float
    ) -> ResponseType:
        return await self._core.execute(
            method,
            request,
            session=self._user.session_token,
            client_address=self._client_address,
            timeout=timeout,
        )

    def _open_stream(
        self, request: message_pb2.StreamMessagesRequest
    ) -> AsyncIterator[message_pb2.StreamMessagesResponse]:
        return self._core.stream_messages(
            request, session=self._user.session_token, client_address=self._client_address
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
        self._renewal = self._loop.create_task(self._renew_once())

    def _next_due_at(self) -> float:
        return min(self._lease_due_at, self._token_renewal.due_at)

    async def _renew_once(self) -> None:
        """The token and the lease, each when it is due. A core that is away is asked again before either lapses."""
        try:
            if self._loop.time() >= self._token_renewal.due_at:
                renewed = await self._execute(methods.RENEW_SESSION, session_pb2.RenewSessionRequest(), 10.0)
                self._user = renewed.session
                self._token_renewal = Renewal.of(self._user, self._loop.time(), random.random())
            if self._loop.time() >= self._lease_due_at:
                await self._execute(
                    methods.RENEW_MAILDROP, mailbox_pb2.RenewMaildropRequest(lease=self._lease), RENEW_LEASE_SECONDS
                )
                self._lease_due_at = self._loop.time() + RENEW_LEASE_SECONDS
            next_at = self._next_due_at()
        except errors.RestanteError as error:
            if ends_session(error):
                self._end(error)
                return
            next_at = self._loop.time() + min(RENEW_LEASE_SECONDS / 8, self._token_renewal.pause_seconds)
        self._timer = self._loop.call_at(next_at, self._renew)

    def _end(self, error: errors.RestanteError) -> None:
        if self._open:
            self._on_end(error)


def _ranges(runs: list[tuple[int, int]]) -> list[types_pb2.IdRange]:
    return [types_pb2.IdRange(first=first, last=last) for first, last in runs]
