"""The core over the contract: what sessions ask becomes operations, the Accept stream, and uploads."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from restante import errors
from restante.errors import RestanteError
from restante.renewal import Renewal
from restante.v1 import methods, session_pb2, sync_pb2, transport_pb2
from restante_gateways.core import sasl
from restante_gateways.net.addresses import Peer
from restante_gateways.smtp import envelopes
from restante_gateways.smtp.acceptances import Link, MxAcceptance, UserSubmission
from restante_gateways.smtp.core import Challenge, Envelope, Identity
from restante_gateways.smtp.grammar import MailArguments, RcptArguments

MAX_VERIFIED_TOGETHER = 100  # of one VerifyRecipients
MAX_KNOWN = 20_000  # verdicts that are good for a while


class UserIdentity:
    """A user's session with the core. Its token is renewed by a timer as long as it is watched, so that it is good at
    the end of a message however long that took to come."""

    def __init__(self, upstream: Upstream, session: session_pb2.Session, client_address: str) -> None:
        self._upstream, self._client_address = upstream, client_address
        self._ended: Callable[[], None] | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._take(session)

    def _take(self, session: session_pb2.Session) -> None:
        self._session = session
        self._renewal = Renewal.of(session, self._loop.time(), random.random())

    @property
    def account(self) -> str:
        """The account's address."""
        return self._session.address

    @property
    def account_id(self) -> int:
        """The account."""
        return self._session.account_id

    @property
    def token(self) -> bytes:
        """The token of this moment."""
        return self._session.session_token

    def watch(self, ended: Callable[[], None]) -> None:
        """See Identity."""
        self._ended = ended
        self._upstream.identities.setdefault(self.account_id, set()).add(self)
        self._timer = self._loop.call_at(self._renewal.due_at, self._renew)

    def close(self) -> None:
        """See Identity. The token is told to nobody and lapses by itself."""
        self._ended = None
        if self._timer is not None:
            self._timer.cancel()
        if self._renewing is not None:
            self._renewing.cancel()
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
        if over:
            self._end()

    def _end(self) -> None:
        if self._ended is not None:
            tell, self._ended = self._ended, None
            tell()

    def _renew(self) -> None:
        self._renewing = self._loop.create_task(self._renewed(), name="session renewal")

    async def _renewed(self) -> None:
        try:
            answer = await self._upstream.link.execute(
                methods.RENEW_SESSION,
                session_pb2.RenewSessionRequest(),
                session=self.token,
                client_address=self._client_address,
                independent=True,
            )
        except (errors.InvalidSession, errors.SessionExpired, errors.SessionRevoked):
            self._end()
        except errors.RestanteError:  # the core is away: the token may last until it is back
            self._timer = self._loop.call_later(self._renewal.pause_seconds, self._renew)
        else:
            self._take(answer.session)
            self._timer = self._loop.call_at(self._renewal.due_at, self._renew)


class Upstream:
    """The core, for all SMTP sessions of a process. Keeps the promises of `core.Core`."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.identities: dict[int, set[UserIdentity]] = {}
        self._known: dict[str, float] = {}  # forward-path: until when, by the loop's clock, the core would accept it

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
        if identity is None and self._all_known(recipients):
            return [None] * len(recipients)
        token = _token(identity)
        verdicts: list[RestanteError | None] = []
        for start in range(0, len(recipients), MAX_VERIFIED_TOGETHER):
            answer = await self.link.execute(
                methods.VERIFY_RECIPIENTS,
                envelopes.verification(peer, mail, recipients[start : start + MAX_VERIFIED_TOGETHER]),
                session=token,
                client_address=peer.client.host,
                independent=True,
            )
            verdicts += [
                None if verdict.accepted else errors.from_status(verdict.status) for verdict in answer.verdicts
            ]
            if identity is None:
                self._learn(recipients[start : start + MAX_VERIFIED_TOGETHER], answer.verdicts)
        return verdicts

    def _all_known(self, recipients: Sequence[RcptArguments]) -> bool:
        now = asyncio.get_running_loop().time()
        return all(self._known.get(recipient.forward_path.address, 0.0) > now for recipient in recipients)

    def _learn(self, recipients: Sequence[RcptArguments], verdicts: Sequence[transport_pb2.RecipientVerdict]) -> None:
        """Keep what the core says may be said again: mail for the same people comes in bursts."""
        now = asyncio.get_running_loop().time()
        for recipient, verdict in zip(recipients, verdicts, strict=True):
            if verdict.accepted and verdict.good_for_milliseconds > 0:
                if len(self._known) >= MAX_KNOWN:
                    self._known.clear()
                self._known[recipient.forward_path.address] = now + verdict.good_for_milliseconds / 1_000

    def open(self, envelope: Envelope) -> MxAcceptance | UserSubmission:
        """See Core."""
        if envelope.identity is None:
            return MxAcceptance(self.link, envelope)
        return UserSubmission(self.link, envelope, lambda: _token(envelope.identity))


def _token(identity: Identity | None) -> bytes:
    """The token of a user's session; none for mail from other MTAs, where the gateway's own identity acts."""
    return identity.token if isinstance(identity, UserIdentity) else b""
