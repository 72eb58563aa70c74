"""The protocols of the core for SMTP sessions. `upstream.py` implements them over the contract."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from restante.errors import RestanteError
from restante.v1.greylist_pb2 import ClientEvidence
from restante_gateways.core.login import Ask
from restante_gateways.net.addresses import Peer
from restante_gateways.smtp.checks.message import MessageChecks
from restante_gateways.smtp.grammar import MailArguments, RcptArguments


class Identity(Protocol):
    """The authenticated user of a submission session."""

    @property
    def account(self) -> str:
        """The account's address, for logs."""

    def watch(self, ended: Callable[[], None]) -> None:
        """Call `ended` once when the core ends this user's sessions (password changed, account disabled)."""

    def close(self) -> None:
        """Release the user at the end of the SMTP session; `ended` is not called afterwards."""


Evidence = Callable[[], Awaitable[ClientEvidence]]
"""Returns what is known about the client before the content. It may wait for the DNS, so it is called if needed."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """The envelope of a complete mail transaction."""

    mail: MailArguments
    recipients: tuple[RcptArguments, ...]
    peer: Peer
    identity: Identity | None  # None: from another MTA
    trace_field: bytes  # the Received field of this server, with its CRLF
    trace_id: str
    lmtp: bool = False  # from a trusted server, which wants an answer for each recipient
    checks: MessageChecks | None = None  # of mail from another MTA; None: none is made


@dataclass(frozen=True, slots=True)
class Accepted:
    """The core's answer to a complete message."""

    name: str  # the message's id in queue and trace
    refusals: tuple[RestanteError | None, ...] = ()  # by LMTP: for each recipient, None if it is accepted


@dataclass(frozen=True, slots=True)
class FailedBefore:
    """A warning for a user: earlier mail to an accepted recipient has failed."""

    at: datetime  # aware
    diagnostic: str  # the reply of the other server, or the reason


@dataclass(frozen=True, slots=True)
class ContentRefused:
    """The recipient is accepted, and a content is refused before it begins."""

    error: RestanteError


Verdict = RestanteError | FailedBefore | ContentRefused | None
"""The core's answer about a recipient: the error if it would not accept it, perhaps more than yes if it would."""


class Acceptance(Protocol):
    """The transfer of one content to the core. Exactly one of `commit` and `abandon` ends it. Raises RestanteError."""

    async def feed(self, content: bytes) -> None:
        """Send the next octets. Returns when more may be fed, so that a slow core slows the client."""

    async def commit(self) -> Accepted:
        """End the content; return the core's answer after its commit.

        Raises OutcomeUnknown and RestanteError. After OutcomeUnknown the client must get neither 250 nor a refusal
        (RFC 5321 6.1): it will send the message again.
        """

    async def abandon(self) -> None:
        """Cancel the transfer; never fails."""


class Core(Protocol):
    """The core's functions for SMTP. Every method raises RestanteError if the core refuses or is unreachable."""

    async def log_in(self, peer: Peer, mechanism: str, initial: bytes | None, ask: Ask) -> Identity:
        """Run a SASL exchange and return the user. See `core.login.by_exchange`."""

    async def verify(
        self,
        peer: Peer,
        identity: Identity | None,
        mail: MailArguments,
        recipients: Sequence[RcptArguments],
        evidence: Evidence | None,
    ) -> list[Verdict]:
        """The core's current verdict on each recipient. `evidence` is of mail from another MTA, else None."""

    def open(self, envelope: Envelope) -> Acceptance:
        """Begin a message: a submission if the envelope has an identity, else an acceptance from another MTA."""
