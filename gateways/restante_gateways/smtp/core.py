"""The core as SMTP sessions know it. `upstream.py` is one over the contract; tests have one that records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from restante.errors import RestanteError
from restante_gateways.core.login import Ask
from restante_gateways.net.addresses import Peer
from restante_gateways.smtp.grammar import MailArguments, RcptArguments


class Identity(Protocol):
    """A proven user of a submission session."""

    @property
    def account(self) -> str:
        """The account's address, for logs."""

    def watch(self, ended: Callable[[], None]) -> None:
        """Have `ended` called once when the core ends this user's sessions (password changed, account disabled)."""

    def close(self) -> None:
        """The SMTP session is over: `ended` is never called again."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A mail transaction that is about to become a message."""

    mail: MailArguments
    recipients: tuple[RcptArguments, ...]
    peer: Peer
    identity: Identity | None  # None: from another MTA
    trace_field: bytes  # our Received field, with its CRLF
    trace_id: str


class Acceptance(Protocol):
    """One content on its way to the core. Exactly one of `commit` and `abandon` ends it. Errors are RestanteError."""

    async def feed(self, content: bytes) -> None:
        """The next octets. Returns when more may be fed, so that a slow core slows the client."""

    async def commit(self) -> str:
        """That was all. Returns the message's name in queue and trace once the core has it durably.

        Raises OutcomeUnknown beside RestanteError. The client must hear nothing then, neither 250 nor a refusal
        (RFC 5321 6.1): it will send again.
        """

    async def abandon(self) -> None:
        """Forget it; never fails."""


class Core(Protocol):
    """The core, as far as SMTP needs it. Every method raises RestanteError where the core refuses or is away."""

    async def log_in(self, peer: Peer, mechanism: str, initial: bytes | None, ask: Ask) -> Identity:
        """The user at the end of a SASL exchange. See `core.login.by_exchange`."""

    async def verify(
        self, peer: Peer, identity: Identity | None, mail: MailArguments, recipients: Sequence[RcptArguments]
    ) -> list[RestanteError | None]:
        """Whether each recipient would be accepted now, and if not, why."""

    def open(self, envelope: Envelope) -> Acceptance:
        """Begin a message: accepted from another MTA, or submitted when the envelope has an identity."""
