"""Transfer of messages to the core: by AcceptMessage and the Accept stream, by AcceptSubmission, and by uploads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from restante import accept
from restante.calls import request_id
from restante.errors import RestanteError, from_status
from restante.v1 import methods, transport_pb2
from restante.v1.checks_pb2 import MessageChecks
from restante_gateways.core.link import Operations, Uploads
from restante_gateways.core.retry import OutcomeUnknown, answer_was_lost, settle
from restante_gateways.core.upload import Upload
from restante_gateways.smtp import envelopes
from restante_gateways.smtp.checks.contract import message_checks
from restante_gateways.smtp.core import Accepted, Envelope

Token = Callable[[], bytes]

ANSWER_SECONDS = 300.0  # for the core to accept a message; its client waits 600 (RFC 5321 4.5.3.2.6)
KEPT_OCTETS = 131_072  # contents up to this size are held until the core has them, for a repetition at failover


class AcceptStream(Protocol):
    """The used part of `restante.accept.AcceptStream`."""

    def start(self, begin: transport_pb2.AcceptBegin) -> accept.Acceptance:
        """Begin an acceptance."""


class Link(Operations, Uploads, Protocol):
    """The used part of `restante.link.CoreLink`."""

    @property
    def accept(self) -> AcceptStream:
        """The process's Accept stream."""


class MxAcceptance:
    """Mail from another MTA, by AcceptMessage, and by the Accept stream if it has more than KEPT_OCTETS.

    A small content is held until the outcome is known."""

    def __init__(self, link: Link, envelope: Envelope, patience_seconds: float) -> None:
        """`patience_seconds` limits the repetitions after a lost answer."""
        self._link, self._patience_seconds = link, patience_seconds
        self._begin = envelopes.begin(envelope, request_id())
        self._checks = envelope.checks
        self._held: list[bytes] = []
        self._held_octets = 0
        self._streaming: accept.Acceptance | None = None  # of a content that is too large to be held

    async def feed(self, content: bytes) -> None:
        """See Acceptance."""
        if self._checks is not None:
            await self._checks.feed(content)
        if self._streaming is not None:
            await self._streaming.feed(content)
            return
        self._held.append(content)
        self._held_octets += len(content)
        if self._held_octets > KEPT_OCTETS:
            self._streaming = self._link.accept.start(self._begin)
            held, self._held = b"".join(self._held), []
            await self._streaming.feed(held)

    async def commit(self) -> Accepted:
        """See Acceptance."""
        checks = message_checks(await self._checks.results()) if self._checks is not None else None
        if self._streaming is None:
            return _accepted(await settle(lambda: self._send_held(checks), self._patience_seconds))
        try:
            return _accepted(await self._streaming.commit(checks))
        except RestanteError as error:
            if answer_was_lost(error):
                raise OutcomeUnknown from error
            raise

    async def _send_held(self, checks: MessageChecks | None) -> transport_pb2.AcceptMessageResponse:
        request = transport_pb2.AcceptMessageRequest(start=self._begin, content=b"".join(self._held), checks=checks)
        return await self._link.execute(methods.ACCEPT_MESSAGE, request, timeout=ANSWER_SECONDS, independent=True)

    async def abandon(self) -> None:
        """See Acceptance."""
        if self._streaming is not None:
            self._streaming.abort()


def _accepted(answer: transport_pb2.AcceptMessageResponse | transport_pb2.AcceptResponse) -> Accepted:
    refusals = (None if verdict.accepted else from_status(verdict.status) for verdict in answer.verdicts)
    return Accepted(str(answer.transport_id), tuple(refusals))


class UserSubmission:
    """Mail from a user, by AcceptSubmission. A content above KEPT_OCTETS is uploaded first."""

    def __init__(self, link: Link, envelope: Envelope, token: Token, patience_seconds: float) -> None:
        """`patience_seconds` limits the repetitions after a lost answer."""
        self._link, self._token, self._patience_seconds = link, token, patience_seconds
        self._client_address = envelope.peer.client.host
        self._request = envelopes.submission(envelope, request_id())
        self._held: list[bytes] = []
        self._held_octets = 0
        self._upload: Upload | None = None

    async def feed(self, content: bytes) -> None:
        """See Acceptance."""
        if self._upload is None:
            self._held.append(content)
            self._held_octets += len(content)
            if self._held_octets <= KEPT_OCTETS:
                return
            content, self._held = b"".join(self._held), []
            self._upload = Upload(self._link, self._token, self._client_address)
        await self._upload.feed(content)

    async def commit(self) -> Accepted:
        """See Acceptance."""
        if self._upload is None:
            self._request.submission.content = b"".join(self._held)
        else:
            # No mail is sent before the upload ends, so a failure is certain.
            self._request.submission.upload_id = await self._upload.finish()
        return Accepted(await settle(self._submit, self._patience_seconds))

    async def _submit(self) -> str:
        answer = await self._link.execute(
            methods.ACCEPT_SUBMISSION,
            self._request,
            session=self._token(),
            client_address=self._client_address,
            independent=True,
        )
        return str(answer.transport_id)

    async def abandon(self) -> None:
        """See Acceptance."""
        if self._upload is not None:
            await self._upload.abandon()
