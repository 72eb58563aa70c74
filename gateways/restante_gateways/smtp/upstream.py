"""The core for SMTP sessions, implemented with the contract: operations, the Accept stream, and uploads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC

from restante import errors
from restante.v1 import methods, session_pb2, transport_pb2
from restante_gateways.core import login
from restante_gateways.core.retry import PATIENCE_SECONDS
from restante_gateways.core.sessions import AccountSession, AccountSessions
from restante_gateways.net.addresses import Peer
from restante_gateways.smtp import envelopes
from restante_gateways.smtp.acceptances import Link, MxAcceptance, UserSubmission
from restante_gateways.smtp.core import ContentRefused, Envelope, Evidence, FailedBefore, Identity, Verdict
from restante_gateways.smtp.grammar import MailArguments, RcptArguments

MAX_VERIFIED_TOGETHER = 100  # of one VerifyRecipients
MAX_KNOWN = 20_000  # cached verdicts


class UserIdentity:
    """A user's session with the core. After `watch` its token is renewed, so that it is still valid at the end of a
    slow message."""

    def __init__(self, sessions: AccountSessions, session: session_pb2.Session, client_address: str) -> None:
        self._sessions, self._session, self._client_address = sessions, session, client_address
        self._kept: AccountSession | None = None

    @property
    def account(self) -> str:
        """The account's address."""
        return self._session.address

    @property
    def token(self) -> bytes:
        """The session's current token."""
        return self._session.session_token if self._kept is None else self._kept.token

    def watch(self, ended: Callable[[], None]) -> None:
        """See Identity."""
        self._kept = self._sessions.keep(self._session, self._client_address, lambda _: ended())

    def close(self) -> None:
        """See Identity."""
        if self._kept is not None:
            self._kept.close()


class Upstream:
    """The core for all SMTP sessions of a process. Implements `core.Core`."""

    def __init__(self, link: Link, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """`patience_seconds` limits the repetitions after a lost answer to an acceptance."""
        self.link, self._patience_seconds = link, patience_seconds
        self.sessions = AccountSessions(link)
        self._known: dict[str, float] = {}  # forward-path to the loop time until which the core accepts it

    async def log_in(self, peer: Peer, mechanism: str, initial: bytes | None, ask: login.Ask) -> Identity:
        """See Core."""
        verify = login.verifier(self.link, peer, session_pb2.SCOPE_SMTP_SUBMIT)
        session = await login.by_exchange(verify, mechanism, initial, ask)
        return UserIdentity(self.sessions, session, peer.client.host)

    async def verify(
        self,
        peer: Peer,
        identity: Identity | None,
        mail: MailArguments,
        recipients: Sequence[RcptArguments],
        evidence: Evidence | None,
    ) -> list[Verdict]:
        """See Core."""
        if identity is None and self._all_known(recipients):
            return [None] * len(recipients)
        token = _token(identity)
        known = await evidence() if evidence is not None else None
        verdicts: list[Verdict] = []
        for start in range(0, len(recipients), MAX_VERIFIED_TOGETHER):
            answer = await self.link.execute(
                methods.VERIFY_RECIPIENTS,
                envelopes.verification(peer, mail, recipients[start : start + MAX_VERIFIED_TOGETHER], known),
                session=token,
                client_address=peer.client.host,
                independent=True,
            )
            verdicts += map(_verdict, answer.verdicts)
            if identity is None:
                self._learn(recipients[start : start + MAX_VERIFIED_TOGETHER], answer.verdicts)
        return verdicts

    def _all_known(self, recipients: Sequence[RcptArguments]) -> bool:
        now = asyncio.get_running_loop().time()
        return all(self._known.get(recipient.forward_path.address, 0.0) > now for recipient in recipients)

    def _learn(self, recipients: Sequence[RcptArguments], verdicts: Sequence[transport_pb2.RecipientVerdict]) -> None:
        """Cache positive verdicts for the time that the core permits: mail for one recipient comes in bursts."""
        now = asyncio.get_running_loop().time()
        for recipient, verdict in zip(recipients, verdicts, strict=True):
            if verdict.accepted and verdict.good_for_milliseconds > 0:
                if len(self._known) >= MAX_KNOWN:
                    self._known.clear()
                self._known[recipient.forward_path.address] = now + verdict.good_for_milliseconds / 1_000

    def open(self, envelope: Envelope) -> MxAcceptance | UserSubmission:
        """See Core."""
        if envelope.identity is None:
            return MxAcceptance(self.link, envelope, self._patience_seconds)
        return UserSubmission(self.link, envelope, lambda: _token(envelope.identity), self._patience_seconds)


def _verdict(answer: transport_pb2.RecipientVerdict) -> Verdict:
    if not answer.accepted:
        return errors.from_status(answer.status)
    if answer.HasField("content_status"):
        return ContentRefused(errors.from_status(answer.content_status))
    if not answer.HasField("failed_before"):
        return None
    return FailedBefore(answer.failed_before.failed_at.ToDatetime(UTC), answer.failed_before.diagnostic)


def _token(identity: Identity | None) -> bytes:
    """The token of a user's session; empty for mail from other MTAs, which uses the gateway's own identity."""
    return identity.token if isinstance(identity, UserIdentity) else b""
