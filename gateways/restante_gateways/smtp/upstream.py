"""The core over the contract: what sessions ask becomes operations, the Accept stream, and uploads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol, TypeVar

import grpc

from restante import accept, errors
from restante.errors import RestanteError
from restante.methods import Method, Request, Response
from restante.v1 import content_pb2, methods, session_pb2, sync_pb2, transport_pb2
from restante_gateways import sasl
from restante_gateways.net.addresses import Peer
from restante_gateways.smtp import envelopes
from restante_gateways.smtp.core import Challenge, Envelope, Identity, OutcomeUnknown
from restante_gateways.smtp.grammar import MailArguments, RcptArguments

T = TypeVar("T")

MAX_VERIFIED_TOGETHER = 100  # of one VerifyRecipients
KEPT_OCTETS = 131_072  # contents up to this size are held until the core has them, and sent again when it falls over
PATIENCE_SECONDS = 20.0  # for an answer that was lost: a core is back within 5
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0
LOST_CODES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)


class AcceptStream(Protocol):
    """`restante.accept.AcceptStream`, as far as it is used."""

    def start(self, begin: transport_pb2.AcceptBegin) -> accept.Acceptance:
        """Begin an acceptance."""


class Link(Protocol):
    """`restante.link.CoreLink`, as far as it is used."""

    @property
    def accept(self) -> AcceptStream:
        """The process's Accept stream."""

    async def execute(
        self,
        method: Method[Request, Response],
        request: Request,
        *,
        session: bytes = b"",
        client_address: str = "",
        timeout: float = 30.0,
        independent: bool = False,
    ) -> Response:
        """One operation. Raises RestanteError."""

    async def upload(
        self,
        kind: content_pb2.UploadKind.ValueType,
        chunks: AsyncIterable[bytes],
        *,
        session: bytes = b"",
        client_address: str = "",
    ) -> content_pb2.UploadContentResponse:
        """One upload. Raises RestanteError."""


class UserIdentity:
    """A user's session with the core; its token is renewed before it lapses."""

    def __init__(self, upstream: Upstream, session: session_pb2.Session, client_address: str) -> None:
        self._upstream, self._client_address = upstream, client_address
        self._ended: Callable[[], None] | None = None
        self._take(session)

    def _take(self, session: session_pb2.Session) -> None:
        self._session = session
        lifetime = (session.expires_at.ToDatetime(UTC) - datetime.now(UTC)).total_seconds()
        self._renew_at = asyncio.get_running_loop().time() + lifetime / 3

    @property
    def account(self) -> str:
        """The account's address."""
        return self._session.address

    @property
    def account_id(self) -> int:
        """The account."""
        return self._session.account_id

    async def token(self) -> bytes:
        """A token that is good now. Raises SessionExpired, SessionRevoked and what a core that is away raises."""
        if asyncio.get_running_loop().time() >= self._renew_at:
            answer = await self._upstream.link.execute(
                methods.RENEW_SESSION,
                session_pb2.RenewSessionRequest(),
                session=self._session.session_token,
                client_address=self._client_address,
            )
            self._take(answer.session)
        return self._session.session_token

    def watch(self, ended: Callable[[], None]) -> None:
        """See Identity."""
        self._ended = ended
        self._upstream.identities.setdefault(self.account_id, set()).add(self)

    def close(self) -> None:
        """See Identity. The token is told to nobody and lapses by itself."""
        self._ended = None
        held = self._upstream.identities.get(self.account_id, set())
        held.discard(self)
        if not held:
            self._upstream.identities.pop(self.account_id, None)

    def notice(self, ended: sync_pb2.SessionsEnded) -> None:
        """The core has ended sessions of this account: perhaps this one."""
        if ended.session_token:
            over = ended.session_token == self._session.session_token
        else:
            over = self._session.credential_version < ended.credential_version
        if over and self._ended is not None:
            tell, self._ended = self._ended, None
            tell()


class Upstream:
    """The core, for all SMTP sessions of a process. Keeps the promises of `core.Core`."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.identities: dict[int, set[UserIdentity]] = {}

    def sessions_ended(self, ended: sync_pb2.SessionsEnded) -> None:
        """For the Watch stream."""
        for identity in tuple(self.identities.get(ended.account_id, ())):
            identity.notice(ended)

    async def authenticate(self, peer: Peer, response: sasl.Response, exchange: bytes) -> Challenge | Identity:
        """See Core."""
        request = session_pb2.AuthenticateRequest(
            mechanism=response.mechanism,
            response=response.octets.reveal(),
            exchange=exchange,
            scope=session_pb2.SCOPE_SMTP_SUBMIT,
            client=session_pb2.ClientContext(
                client_address=peer.client.host,
                listener=peer.listener,
                tls=peer.tls is not None,
                loopback=peer.loopback,
            ),
        )
        answer = await self.link.execute(methods.AUTHENTICATE, request, client_address=peer.client.host)
        if answer.HasField("session"):
            return UserIdentity(self, answer.session, peer.client.host)
        return Challenge(answer.challenge, answer.exchange)

    async def verify(
        self, peer: Peer, identity: Identity | None, mail: MailArguments, recipients: Sequence[RcptArguments]
    ) -> list[RestanteError | None]:
        """See Core."""
        token = await _token(identity)
        verdicts: list[RestanteError | None] = []
        for start in range(0, len(recipients), MAX_VERIFIED_TOGETHER):
            answer = await self.link.execute(
                methods.VERIFY_RECIPIENTS,
                envelopes.verification(peer, mail, recipients[start : start + MAX_VERIFIED_TOGETHER]),
                session=token,
                client_address=peer.client.host,
                independent=True,
            )
            verdicts += [None if verdict.accepted else _error(verdict.reason) for verdict in answer.verdicts]
        return verdicts

    def open(self, envelope: Envelope) -> MxAcceptance | UserSubmission:
        """See Core."""
        if envelope.identity is None:
            return MxAcceptance(self, envelope)
        return UserSubmission(self, envelope)

    async def settle(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Repeats an attempt whose answer was lost; it has a request_id, so that all of them are one.

        Raises what the core answers, and OutcomeUnknown when it never does.
        """
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + PATIENCE_SECONDS, FIRST_PAUSE_SECONDS
        while True:
            try:
                return await attempt()
            except RestanteError as error:
                if not answer_was_lost(error):
                    raise
                if loop.time() + pause > until:
                    raise OutcomeUnknown from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


class MxAcceptance:
    """Mail from another MTA, by the Accept stream. A small content is held until it is settled."""

    def __init__(self, upstream: Upstream, envelope: Envelope) -> None:
        self._upstream = upstream
        self._begin = envelopes.begin(envelope, os.urandom(16))
        self._held: list[bytes] = []
        self._held_octets = 0
        self._streaming: accept.Acceptance | None = None  # of a content too large to be held

    async def feed(self, content: bytes) -> None:
        """See Acceptance."""
        if self._streaming is not None:
            await self._streaming.feed(content)
            return
        self._held.append(content)
        self._held_octets += len(content)
        if self._held_octets > KEPT_OCTETS:
            self._streaming = self._upstream.link.accept.start(self._begin)
            held, self._held = b"".join(self._held), []
            await self._streaming.feed(held)

    async def commit(self) -> str:
        """See Acceptance."""
        if self._streaming is None:
            return str(await self._upstream.settle(self._send_held))
        try:
            return str(await self._streaming.commit())
        except RestanteError as error:
            if answer_was_lost(error):
                raise OutcomeUnknown from error
            raise

    async def _send_held(self) -> int:
        acceptance = self._upstream.link.accept.start(self._begin)
        try:
            if self._held:
                await acceptance.feed(b"".join(self._held))
        except BaseException:
            acceptance.abort()
            raise
        return await acceptance.commit()  # from here on it is the core's to decide, even if the client goes away

    async def abandon(self) -> None:
        """See Acceptance."""
        if self._streaming is not None:
            self._streaming.abort()


class UserSubmission:
    """Mail from a user, by SubmitMessage; a content too large for an operation is uploaded first."""

    def __init__(self, upstream: Upstream, envelope: Envelope) -> None:
        self._upstream, self._envelope = upstream, envelope
        self._request = envelopes.submission(envelope, os.urandom(16))
        self._held: list[bytes] = []
        self._held_octets = 0
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(maxsize=2)  # empty octets end the upload
        self._upload: asyncio.Task[content_pb2.UploadContentResponse] | None = None

    async def feed(self, content: bytes) -> None:
        """See Acceptance."""
        if self._upload is None:
            self._held.append(content)
            self._held_octets += len(content)
            if self._held_octets <= KEPT_OCTETS:
                return
            content, self._held = b"".join(self._held), []
            token = await _token(self._envelope.identity)
            self._upload = asyncio.create_task(self._run_upload(token))
        await self._put(self._upload, content)

    async def _run_upload(self, token: bytes) -> content_pb2.UploadContentResponse:
        return await self._upstream.link.upload(
            content_pb2.UPLOAD_KIND_MESSAGE,
            self._pieces_to_come(),
            session=token,
            client_address=self._envelope.peer.client.host,
        )

    async def _pieces_to_come(self) -> AsyncIterable[bytes]:
        while piece := await self._pieces.get():
            yield piece

    async def _put(self, upload: asyncio.Task[content_pb2.UploadContentResponse], piece: bytes) -> None:
        """Hands a piece to the upload, waiting for room, unless the upload has failed: then raises why."""
        putting = asyncio.create_task(self._pieces.put(piece))
        try:
            await asyncio.wait([putting, upload], return_when=asyncio.FIRST_COMPLETED)
        finally:
            putting.cancel()
        if upload.done():
            upload.result()

    async def commit(self) -> str:
        """See Acceptance."""
        if self._upload is None:
            self._request.content = b"".join(self._held)
        else:
            await self._put(self._upload, b"")
            self._request.upload_id = (await self._upload).upload_id  # nothing is sent before: a failure is just that
        return await self._upstream.settle(self._submit)

    async def _submit(self) -> str:
        answer = await self._upstream.link.execute(
            methods.SUBMIT_MESSAGE,
            self._request,
            session=await _token(self._envelope.identity),
            client_address=self._envelope.peer.client.host,
            independent=True,
        )
        return str(answer.submission.submission_id)

    async def abandon(self) -> None:
        """See Acceptance."""
        if self._upload is not None:
            self._upload.cancel()
            await asyncio.gather(self._upload, return_exceptions=True)


def answer_was_lost(error: RestanteError) -> bool:
    """Whether the core may have done what was asked although it did not say so."""
    if isinstance(error, errors.UnknownReason):
        return error.status_code in LOST_CODES
    return isinstance(error, errors.Draining | errors.DeadlineExceeded)


def _error(reason: str) -> RestanteError:
    return errors.BY_REASON.get(reason, errors.Internal)()


async def _token(identity: Identity | None) -> bytes:
    """The token of a user's session; none for mail from other MTAs, where the gateway's own identity acts."""
    return await identity.token() if isinstance(identity, UserIdentity) else b""
