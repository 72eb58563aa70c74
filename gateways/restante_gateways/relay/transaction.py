"""One mail transaction on a connection: MAIL, RCPT, DATA and the message (RFC 5321 3.3).

Where the server offers PIPELINING, the commands up to DATA are sent together (RFC 2920 3.1); the replies are judged one
after another in either case, so that the outcomes are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from restante.v1.transport_pb2 import OutboundRecipient
from restante_gateways.relay import commands
from restante_gateways.relay.commands import Offer, Parcel
from restante_gateways.relay.outcomes import Outcome, deferred, too_many
from restante_gateways.relay.own_fault import Blame
from restante_gateways.relay.peer import Broken, Line
from restante_gateways.relay.replies import Answer
from restante_gateways.relay.routes import Hop

CLOSING = 421  # RFC 5321 3.8: the server closes the connection, in reply to any command
READY = 354


class Unreachable(Exception):
    """No recipient has an outcome from this server, so another server may be tried.

    `outcome` is the one to report if no server is left. `leave_alone`: the server is not tried again for a while.
    """

    def __init__(self, outcome: Outcome, *, leave_alone: bool = False) -> None:
        super().__init__(outcome.diagnostic)
        self.outcome, self.leave_alone = outcome, leave_alone


class Transaction:
    """A transaction for one message. `run` adds to `outcomes`, by recipient id."""

    def __init__(self, line: Line, hop: Hop, offer: Offer, parcel: Parcel, outcomes: dict[int, Outcome]) -> None:
        self._line, self._hop, self._offer, self._parcel = line, hop, offer, parcel
        self._outcomes = outcomes
        self._accepted: list[OutboundRecipient] = []
        self._again: list[OutboundRecipient] = []

    async def run(self, recipients: Sequence[OutboundRecipient]) -> list[OutboundRecipient]:
        """Run the transaction; return the recipients that need another one. Raises Broken, Unreachable."""
        mail = commands.mail(self._parcel, [item.recipient for item in recipients], self._offer)
        rcpts = [commands.rcpt(item.recipient, self._offer) for item in recipients]
        if self._offer.pipelining:
            self._line.send_commands([mail, *rcpts, commands.DATA])
        answer = await self._answer(mail)
        if not answer.good:
            await self._mail_refused(answer, recipients)
            return []
        for item, words in zip(recipients, rcpts, strict=True):
            answer = await self._answer(words)
            if answer.code == CLOSING:
                self._closing(answer, recipients)
                return []
            self._judge(item, answer)
        if not self._accepted:
            await self._all_refused(answer)
            return []
        outcome = await self._content()
        self._rest(self._accepted, outcome)
        if not outcome.relayed:
            self._rest(self._again, outcome)
            return []
        return self._again

    async def _answer(self, words: tuple[bytes, ...]) -> Answer:
        """The reply to a command, which is sent now unless it was sent already."""
        if not self._offer.pipelining:
            self._line.send_commands([words])
        return await self._line.reply()

    async def _data(self) -> Answer:
        if not self._offer.pipelining:
            self._line.send_commands([commands.DATA])
        return await self._line.data_reply()

    def _judge(self, item: OutboundRecipient, answer: Answer) -> None:
        outcome = self._outcome(answer)
        if answer.good:
            self._accepted.append(item)
        elif too_many(answer.code, outcome, len(self._accepted)):
            self._again.append(item)
        else:
            self._outcomes[item.recipient_id] = outcome

    def _closing(self, answer: Answer, recipients: Sequence[OutboundRecipient]) -> None:
        """The server closes the connection before the message. Raises Unreachable."""
        self._line.abandon()
        outcome = self._outcome(answer)
        if not self._outcomes:
            raise Unreachable(outcome)
        self._rest(recipients, outcome)

    async def _mail_refused(self, answer: Answer, recipients: Sequence[OutboundRecipient]) -> None:
        if answer.code == CLOSING:
            self._closing(answer, recipients)
            return
        self._rest(recipients, self._outcome(answer))
        try:
            if self._offer.pipelining:
                for _ in recipients:
                    await self._line.reply()
                answer = await self._line.data_reply()
                if answer.code == READY:  # a server that begins a message without MAIL
                    self._line.abandon()
        except Broken:
            return  # all recipients have their outcomes
        await self._reset(answer)

    async def _all_refused(self, answer: Answer) -> None:
        """End a transaction without recipients. After 354 the message is empty: a lone dot (RFC 2920 3.1)."""
        try:
            if self._offer.pipelining:
                answer = await self._line.data_reply()
                if answer.code == READY:
                    answer = await self._line.send(commands.stuffed(b""))
        except Broken:
            return  # all recipients have their outcomes
        await self._reset(answer)

    async def _content(self) -> Outcome:
        """Send DATA and the octets. A broken connection counts as deferred, never as relayed."""
        try:
            answer = await self._data()
            if answer.code == READY:
                answer = await self._line.send(commands.stuffed(self._parcel.content))
                if answer.good:
                    return self._outcome(answer)
            elif answer.code < 400:
                self._line.abandon()
                return deferred("4.5.0", f"{self._hop}: the server answered DATA with {answer.code} instead of 354")
        except Broken as broken:
            return deferred("4.4.2", f"{self._hop}: {broken}")
        await self._reset(answer)
        return self._outcome(answer)

    def _outcome(self, answer: Answer) -> Outcome:
        blame = Blame(self._hop.configured, self._line.tls_failed)
        return blame.of_command(answer, self._hop.host, dsn_passed_on=answer.good and self._offer.dsn)

    def _rest(self, recipients: Sequence[OutboundRecipient], outcome: Outcome) -> None:
        for item in recipients:
            self._outcomes.setdefault(item.recipient_id, outcome)

    async def _reset(self, answer: Answer) -> None:
        """End a transaction in which no message was accepted."""
        if answer.code == CLOSING or not self._line.open_still:
            self._line.abandon()
            return
        try:
            if not (await self._line.command(b"RSET")).good:
                await self._line.close()
        except Broken:
            return  # the transaction has ended anyway
