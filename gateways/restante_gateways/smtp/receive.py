"""DATA: content from the client to the core, as it comes, in bounded memory. RFC 5321 4.1.1.4."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from restante import errors
from restante_gateways.core.retry import OutcomeUnknown
from restante_gateways.smtp import replies
from restante_gateways.smtp.core import Acceptance, Envelope
from restante_gateways.smtp.data import DataFault, DataScanner
from restante_gateways.smtp.errors import REPLIES
from restante_gateways.smtp.replies import ConnectionClosed, Reply, refuse
from restante_gateways.smtp.waiting import WaitingTime
from restante_mail.header.trace import Hop, HopCounter, received_field

if TYPE_CHECKING:
    from restante_gateways.smtp.session import SmtpSession, Transaction

FAULTS = {
    DataFault.BARE_LINE_END: Reply(550, "5.5.2", "CR or LF alone in the message"),  # RFC 5321 2.3.8
    DataFault.NUL: Reply(550, "5.6.0", "NUL in the message"),
    DataFault.LINE_TOO_LONG: Reply(550, "5.6.0", "Line too long in the message"),
    DataFault.TOO_BIG: replies.MESSAGE_TOO_BIG,  # RFC 1870 6.3
}


async def receive_data(session: SmtpSession, argument: bytes) -> Reply:
    """The DATA command. Whatever comes of it, the transaction is over then."""
    if argument:
        raise refuse(501, "5.5.4", "Syntax: DATA")
    transaction = session.transaction
    if transaction is None:
        return replies.NEED_MAIL if session.hello_name else replies.NEED_HELLO
    if not transaction.recipients:
        return replies.NO_VALID_RECIPIENT if transaction.refused_count else replies.NEED_RECIPIENT
    session.say(replies.START_MAIL_INPUT)
    try:
        return await _Reception(session, session.core.open(_envelope(session, transaction))).run()
    finally:
        session.reset()


def _envelope(session: SmtpSession, transaction: Transaction) -> Envelope:
    hop = Hop(
        hello_name=session.hello_name,
        client_address=session.peer.client.host,
        host_name=session.settings.host_name,
        extended=session.extended,
        tls=session.tls,
        authenticated=session.identity is not None,
        smtputf8=transaction.mail.smtputf8,
        trace_id=transaction.trace_id,
    )
    return Envelope(
        mail=transaction.mail,
        recipients=tuple(transaction.recipients),
        peer=session.peer,
        identity=session.identity,
        trace_field=received_field(hop, session.now()),
        trace_id=transaction.trace_id,
    )


class _Reception:
    """One content. Once it cannot be taken any more it is still read to its end: only then may the client be told,
    and only then is what follows a command again."""

    def __init__(self, session: SmtpSession, acceptance: Acceptance) -> None:
        self._session, self._acceptance = session, acceptance
        settings = session.settings
        self._scanner = DataScanner(settings.max_message_octets, settings.max_content_line_octets)
        self._hops = HopCounter()
        self._failure: Reply | None = None

    async def run(self) -> Reply:
        """Reads to the end of the content; the reply to it."""
        settled = False
        try:
            await self._read_to_the_end()
            if self._failure is None:
                settled = True
                return await self._commit()
            return self._failure
        finally:
            if not settled:
                await self._acceptance.abandon()

    async def _read_to_the_end(self) -> None:
        session, scanner, settings = self._session, self._scanner, self._session.settings
        last = session.loop.time() + settings.max_data_seconds
        waiting = WaitingTime(settings.data_seconds if settings.data_octets_per_second else math.inf)
        chunk = session.lines.take_rest()  # an impatient client has pipelined its content
        while True:
            if chunk:
                content = scanner.feed(chunk)
                if scanner.fault is not None and self._failure is None:
                    self._failure = FAULTS[scanner.fault]
                if content and self._failure is None:
                    await self._pass_on(content)
                if scanner.finished:
                    session.lines.feed(scanner.rest)
                    return
                if scanner.discarded_octets > settings.max_message_octets:
                    session.end(self._failure)
                    raise ConnectionClosed  # it may never end
            now = session.loop.time()
            until = min(now + settings.data_timeout_seconds, now + waiting.left_seconds, last)
            chunk = await session.read(until, replies.TOO_SLOW)
            waited = session.loop.time() - now
            waiting.spend(waited)
            session.waiting.spend(waited)  # given back with a message that is accepted
            waiting.earn(len(chunk) / (settings.data_octets_per_second or 1))

    async def _pass_on(self, content: bytes) -> None:
        self._hops.feed(content)
        if self._hops.hops > self._session.settings.max_hops:
            self._failure = REPLIES[errors.MailLoop]
            return
        try:
            await self._acceptance.feed(content)
        except Exception as error:  # noqa: BLE001 - answered below, when the content has been read: see the class
            self._failure = self._session.reply_to(error)

    async def _commit(self) -> Reply:
        try:
            name = await self._acceptance.commit()
        except OutcomeUnknown:
            self._session.end(None)
            raise ConnectionClosed from None
        except Exception as error:  # noqa: BLE001 - answered, and never as a bounce
            return self._session.reply_to(error)
        self._session.message_accepted()
        return Reply(250, "2.6.0", f"Message accepted as {name}")
