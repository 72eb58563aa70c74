"""A recording core with all calls of the SMTP gateway and the demo's users."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from restante import errors
from restante.v1.greylist_pb2 import ClientEvidence
from restante.v1.session_pb2 import AuthenticateResponse, Session
from restante_gateways.core.login import Ask, by_exchange
from restante_gateways.core.sasl import Response
from restante_gateways.net.addresses import Peer
from restante_gateways.smtp.core import Accepted, ContentRefused, Envelope, Evidence, FailedBefore, Identity, Verdict
from restante_gateways.smtp.grammar import MailArguments, RcptArguments
from restante_mail.authentication.results import Checks

DOMAINS = {"example.test", ""}
# late: full when its content is complete; grey: greylisted
USERS = {"alice", "bob", "carol", "postmaster", "abuse", "full", "late", "grey"}


class RecordedIdentity:
    """A user who logged in."""

    def __init__(self, account: str) -> None:
        self.account = account
        self.ended: Callable[[], None] | None = None
        self.closed = False

    def watch(self, ended: Callable[[], None]) -> None:
        self.ended = ended

    def close(self) -> None:
        self.closed = True


class RecordedAcceptance:
    """One recorded acceptance."""

    def __init__(self, core: RecordingCore, envelope: Envelope) -> None:
        self.core, self.envelope, self.content = core, envelope, bytearray()
        self.largest_piece = 0
        self.state = "open"
        self.checks: Checks | None = None  # their results

    async def feed(self, content: bytes) -> None:
        self.core.raise_failure("feed")
        await self.core.gate.wait()
        self.largest_piece = max(self.largest_piece, len(content))
        if self.envelope.checks is not None:
            await self.envelope.checks.feed(content)
        if self.core.keep_contents:
            self.content += content

    async def commit(self) -> Accepted:
        assert self.state == "open"
        self.state = "committing"
        if self.envelope.checks is not None:
            self.checks = await self.envelope.checks.results()
        await self.core.gate.wait()
        self.core.raise_failure("commit")
        self.state = "committed"
        self.core.accepted.append(self)
        refusals = [
            errors.QuotaExceeded() if recipient.forward_path.local_part == "late" else None
            for recipient in self.envelope.recipients
        ]
        return Accepted(f"T{len(self.core.accepted)}", tuple(refusals) if self.envelope.lmtp else ())

    async def abandon(self) -> None:
        if self.state == "open":
            self.state = "abandoned"


class RecordingCore:
    """A core with the answers of the demo's; `failures` and `gate` cause failures and delays."""

    def __init__(self) -> None:
        self.accepted: list[RecordedAcceptance] = []
        self.opened: list[RecordedAcceptance] = []
        self.verified: list[list[str]] = []  # one list for each call
        self.evidence: list[ClientEvidence | None] = []  # one for each call
        self.mechanisms: list[str] = []
        self.identities: list[RecordedIdentity] = []
        self.peers: list[Peer] = []
        self.failures: dict[str, BaseException] = {}  # by step: verify, feed, commit, authenticate
        self.gate = asyncio.Event()  # closed, the core hangs
        self.gate.set()
        self.keep_contents = True

    def raise_failure(self, step: str) -> None:
        if step in self.failures:
            raise self.failures[step]

    async def log_in(self, peer: Peer, mechanism: str, initial: bytes | None, ask: Ask) -> Identity:
        async def verify(response: Response, exchange: bytes) -> AuthenticateResponse:
            return await self._verify(peer, response, exchange)

        session = await by_exchange(verify, mechanism, initial, ask)
        self.identities.append(RecordedIdentity(session.address))
        return self.identities[-1]

    async def _verify(self, peer: Peer, response: Response, exchange: bytes) -> AuthenticateResponse:
        await self.gate.wait()
        self.raise_failure("authenticate")
        self.peers.append(peer)
        self.mechanisms.append(response.mechanism)
        if response.mechanism == "X-TWO-STEPS":
            return self._second_step(response, exchange)
        parts = response.octets.reveal().split(b"\0")
        if len(parts) != 3:
            raise errors.AuthenticationFailed
        name = parts[1].decode()
        if not name.endswith("@example.test") or parts[2].decode() != f"{name.partition('@')[0]}-demo":
            raise errors.AuthenticationFailed
        return AuthenticateResponse(session=Session(address=name))

    def _second_step(self, response: Response, exchange: bytes) -> AuthenticateResponse:
        if not exchange:
            return AuthenticateResponse(challenge=b"how are you?", exchange=b"sealed:" + response.octets.reveal())
        if exchange != b"sealed:hello" or response.octets.reveal() != b"well":
            raise errors.AuthenticationFailed
        return AuthenticateResponse(session=Session(address="alice@example.test"))

    async def verify(
        self,
        peer: Peer,
        identity: Identity | None,
        mail: MailArguments,
        recipients: Sequence[RcptArguments],
        evidence: Evidence | None,
    ) -> list[Verdict]:
        await self.gate.wait()
        self.raise_failure("verify")
        self.verified.append([recipient.forward_path.address for recipient in recipients])
        self.evidence.append(await evidence() if evidence is not None else None)
        return [self._greylisted(mail, recipient) or self._verdict(recipient, identity) for recipient in recipients]

    def _greylisted(self, mail: MailArguments, recipient: RcptArguments) -> Verdict:
        if recipient.forward_path.local_part != "grey":
            return None
        problem = errors.Greylisted(seconds=300)
        return problem if mail.reverse_path is not None else ContentRefused(problem)

    def _verdict(self, recipient: RcptArguments, identity: Identity | None) -> Verdict:
        path = recipient.forward_path
        if path.domain.lower() == "gone.example" and identity is not None:
            return FailedBefore(datetime(2026, 11, 30, 23, 59, tzinfo=UTC), f"550 5.1.1 no {path.local_part}\r\n250 é")
        if path.domain.lower() not in DOMAINS:
            return None if identity is not None else errors.RelayDenied()
        local = path.local_part.partition("+")[0].lower()
        if local == "full":
            return errors.QuotaExceeded()
        return None if local in USERS else errors.RecipientNotFound()

    def open(self, envelope: Envelope) -> RecordedAcceptance:
        self.opened.append(RecordedAcceptance(self, envelope))
        return self.opened[-1]
