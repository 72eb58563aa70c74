"""An open mail transaction: aiosmtpd's envelope with parsed arguments, and without the content."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime

import aiosmtpd.smtp

from restante_gateways.net.addresses import Peer
from restante_gateways.smtp.checks.message import MessageChecks
from restante_gateways.smtp.core import Envelope, Identity
from restante_gateways.smtp.grammar import MailArguments, RcptArguments
from restante_gateways.smtp.receive import Reception
from restante_gateways.smtp.replies import Reply
from restante_mail.header.trace import Hop, received_field


class Transaction(aiosmtpd.smtp.Envelope):
    """The arguments of MAIL and RCPT so far (RFC 5321 3.3). No transaction is open while `mail` is None."""

    def __init__(self, *, lmtp: bool = False) -> None:
        """`lmtp`: every accepted RCPT gets a final reply of its own (RFC 2033 4.2)."""
        super().__init__()
        self.mail: MailArguments | None = None
        self.recipients: dict[RcptArguments, None] = {}  # in order, without duplicates
        self.lmtp = lmtp
        self.answered: list[RcptArguments] = []  # by LMTP: of every accepted RCPT, with duplicates
        self.refused_count = 0
        self.content_refusal: Reply | None = None  # of every content, whatever the recipients
        self.trace_id = ""
        self.reception: Reception | None = None  # begun by DATA or the first BDAT
        self.checks: MessageChecks | None = None  # begun by MAIL

    async def abandon(self) -> None:
        """Give up a content that has not come to its end, and checks that still run."""
        if self.checks is not None:
            self.checks.close()
        if self.reception is not None:
            await self.reception.abandon()

    def begin(self, mail: MailArguments) -> None:
        """Open the transaction with an accepted MAIL."""
        self.mail, self.trace_id = mail, secrets.token_hex(8)

    @property
    def answers(self) -> Sequence[int]:
        """For each final reply to the content, the place of its recipient."""
        if not self.lmtp:
            return (0,)
        places = {recipient: place for place, recipient in enumerate(self.recipients)}
        return [places[recipient] for recipient in self.answered]

    def closed(
        self, session: aiosmtpd.smtp.Session, peer: Peer, identity: Identity | None, *, host_name: str, now: datetime
    ) -> Envelope:
        """The envelope for the core, with this server's Received field (RFC 5321 4.4)."""
        assert self.mail is not None
        hop = Hop(
            hello_name=session.host_name or "",
            client_address=peer.client.host,
            host_name=host_name,
            extended=session.extended_smtp,
            tls=peer.tls is not None,
            authenticated=identity is not None,
            smtputf8=self.mail.smtputf8,
            trace_id=self.trace_id,
            lmtp=self.lmtp,
        )
        return Envelope(
            mail=self.mail,
            recipients=tuple(self.recipients),
            peer=peer,
            identity=identity,
            trace_field=received_field(hop, now),
            trace_id=self.trace_id,
            lmtp=self.lmtp,
            checks=self.checks,
        )
