"""The commands of a mail transaction: MAIL, RCPT, DATA, BDAT and RSET (RFC 5321 3.3, RFC 3030)."""

from __future__ import annotations

from functools import partial

from restante_gateways.smtp import recipients, replies
from restante_gateways.smtp.checks.evidence import client_evidence
from restante_gateways.smtp.chunks import parse_chunk
from restante_gateways.smtp.core import Evidence
from restante_gateways.smtp.grammar import parse_mail
from restante_gateways.smtp.receive import Reception, discard
from restante_gateways.smtp.replies import Reply
from restante_gateways.smtp.settings import Role
from restante_gateways.smtp.state import SessionState, no_argument
from restante_gateways.smtp.waiting import WaitingTime


class MailCommands(SessionState):
    """The commands by aiosmtpd's names; their arguments are octets, stripped of spaces."""

    need_hello = replies.NEED_HELLO

    async def smtp_MAIL(self, argument: bytes) -> Reply:
        """MAIL: open a transaction. RFC 5321 4.1.1.2."""
        if not self.session.host_name:
            return self.need_hello
        if self._settings.role is Role.SUBMISSION and self._identity is None:
            return replies.NEED_AUTHENTICATION if self._authentication_allowed else replies.NEED_TLS
        if self.envelope.mail is not None:
            return replies.NESTED_MAIL
        mail = parse_mail(argument, extended=self.session.extended_smtp, authentication=self._authentication_offered)
        if mail.size_octets is not None and mail.size_octets > self._settings.max_message_octets:
            return replies.MESSAGE_TOO_BIG  # RFC 1870 6.1
        self.envelope.begin(mail)
        if self._checks is not None:
            self.envelope.checks = self._checks.message(self.session.host_name, mail.reverse_path)
        return Reply(250, "2.1.0", "Sender OK")

    async def smtp_RCPT(self, argument: bytes) -> list[Reply]:
        """RCPT: add recipients; one call to the core verifies all pipelined ones. RFC 5321 4.1.1.3."""
        arguments = [argument, *self._channel.take_waiting(b"RCPT")]
        if self.envelope.mail is None:
            return [self._not_open] * len(arguments)
        if self.envelope.reception is not None:
            return [replies.CONTENT_BEGUN] * len(arguments)
        answers = await recipients.verify(
            arguments,
            self.envelope,
            lambda mail, wanted: self._core.verify(self._peer, self._identity, mail, wanted, self._evidence),
            extended=self.session.extended_smtp,
            max_recipients=self._settings.max_recipients,
        )
        self._channel.waiting.earn(float(sum(not reply.is_error for reply in answers)))
        return answers

    async def smtp_DATA(self, argument: bytes) -> Reply | list[Reply]:
        """DATA: receive the content, and end the transaction in every case. RFC 5321 4.1.1.4."""
        no_argument(argument, "DATA")
        if self.envelope.reception is not None:
            return replies.CONTENT_BEGUN
        if (refusal := self._content_refusal) is not None:
            return refusal
        self._channel.say(replies.START_MAIL_INPUT)
        try:
            answers = await self._begin_reception().data()
        finally:
            await self._reset()
        return self._content_ended(answers)

    async def smtp_BDAT(self, argument: bytes) -> Reply | list[Reply]:
        """BDAT: receive a chunk of the content; the last one ends the transaction in every case. RFC 3030 2."""
        chunk = parse_chunk(argument)
        reception = self.envelope.reception
        if reception is None and (refusal := self._content_refusal) is not None:
            await discard(self._channel, chunk, self._settings, refusal)
            return refusal
        answers = await (reception or self._begin_reception()).chunk(chunk)
        if chunk.last:
            await self._reset()
            return self._content_ended(answers)
        if not chunk.size_octets:
            self._commands.count_idle()
        return answers

    async def smtp_RSET(self, argument: bytes) -> Reply:
        """RSET: discard the transaction. RFC 5321 4.1.1.5."""
        no_argument(argument, "RSET")
        await self._reset()
        return replies.OK

    # -- the state of the transaction

    @property
    def _not_open(self) -> Reply:
        """The refusal of RCPT and DATA without a transaction."""
        return replies.NEED_MAIL if self.session.host_name else self.need_hello

    @property
    def _content_refusal(self) -> Reply | None:
        """The refusal of a content before it begins."""
        if self.envelope.mail is None:
            return self._not_open
        if not self.envelope.recipients:
            return replies.NO_VALID_RECIPIENT if self.envelope.refused_count else replies.NEED_RECIPIENT
        return self.envelope.content_refusal

    @property
    def _evidence(self) -> Evidence | None:
        """The knowledge about the client, for mail from another MTA; None for other mail."""
        if self._settings.role is not Role.MX:
            return None
        return partial(client_evidence, self.envelope.checks, self._settings.evidence)

    def _begin_reception(self) -> Reception:
        envelope = self.envelope.closed(
            self.session, self._peer, self._identity, host_name=self._settings.host_name, now=self._now()
        )
        acceptance, answers = self._core.open(envelope), self.envelope.answers
        self.envelope.reception = Reception(self._channel, acceptance, self._settings, answers)
        return self.envelope.reception

    def _content_ended(self, answers: list[Reply]) -> list[Reply]:
        if not all(reply.is_error for reply in answers):
            self._commands.mail_accepted()
            self._channel.waiting = WaitingTime(self._settings.idle_seconds)
        return answers
