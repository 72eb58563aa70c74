"""One SMTP connection to another server: opportunistic TLS, one transaction after another (RFC 5321, RFC 3207)."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

from restante.v1.transport_pb2 import OutboundRecipient
from restante_gateways.relay import commands
from restante_gateways.relay.commands import Offer, Parcel
from restante_gateways.relay.outcomes import Outcome, deferred, from_reply, too_many
from restante_gateways.relay.peer import Answer, Broken, Line, Patience
from restante_gateways.relay.routes import Hop

MAX_TRANSACTIONS = 100  # of one connection
CLOSING = 421  # RFC 5321 3.8: the server closes the connection, in reply to any command


class Unreachable(Exception):
    """No recipient has an outcome from this server, so another server may be tried.

    `outcome` is the one to report if no server is left.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.diagnostic)
        self.outcome = outcome


def tls_context() -> ssl.SSLContext:
    """The context of opportunistic TLS, which only prevents eavesdropping: it accepts any certificate (RFC 7435)."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Connection:
    """A connection after EHLO. `transact` sends one message."""

    def __init__(self, line: Line, hop: Hop, offer: Offer, patience: Patience) -> None:
        self._line, self.hop, self.offer, self._patience = line, hop, offer, patience
        self.transactions = 0
        self.idle_since = 0.0

    @classmethod
    async def open(cls, hop: Hop, own_name: str, context: ssl.SSLContext, patience: Patience) -> Connection:
        """Connect, with TLS if the server offers it and the handshake succeeds, else in clear (RFC 3207 4.1).

        Raises Unreachable.
        """
        line, offer = await cls._greeted(hop, own_name, patience)
        if not offer.starttls:
            return cls(line, hop, offer, patience)
        try:
            answer = await line.secure(context, None if hop.host.startswith("[") else hop.host)
            if answer.good:  # extensions offered in clear are discarded (RFC 3207 4.2)
                answer, offer = await line.hello(own_name)
            if answer.good:
                return cls(line, hop, offer, patience)
            await line.close()
        except Broken:
            pass  # try again without TLS
        except BaseException:
            line.abandon()
            raise
        line, offer = await cls._greeted(hop, own_name, patience)
        return cls(line, hop, offer, patience)

    @staticmethod
    async def _greeted(hop: Hop, own_name: str, patience: Patience) -> tuple[Line, Offer]:
        try:
            line, answer = await Line.open(hop.address, hop.port, patience)
        except Broken as broken:
            raise Unreachable(deferred("4.4.1", f"{hop}: {broken}")) from None
        try:
            offer = Offer()
            if answer.good:
                answer, offer = await line.hello(own_name)
        except Broken as broken:
            raise Unreachable(deferred("4.4.2", f"{hop}: {broken}")) from None
        except BaseException:
            line.abandon()
            raise
        if not answer.good:
            await line.close()
            raise Unreachable(from_reply(answer.code, answer.text, hop.host))
        return line, offer

    @property
    def usable(self) -> bool:
        """Whether another transaction may begin."""
        return self._line.open_still and self.transactions < MAX_TRANSACTIONS

    @property
    def secured(self) -> bool:
        """Whether it uses TLS."""
        return self._line.secured

    async def close(self) -> None:
        """Send QUIT if the connection is open, then close it."""
        await self._line.close()

    def abandon(self) -> None:
        """Abort the connection."""
        self._line.abandon()

    async def transact(self, parcel: Parcel, recipients: Sequence[OutboundRecipient]) -> dict[int, Outcome]:
        """Send one message; return the outcome of each recipient by id.

        A server that takes fewer recipients at once gets several transactions. Raises Unreachable if no recipient has
        an outcome because of the server.
        """
        refusal = commands.problem(parcel, self.offer, self.hop.host)
        if refusal is not None:
            return {item.recipient_id: refusal for item in recipients}
        refused: dict[int, Outcome] = {}
        outcomes: dict[int, Outcome] = {}
        waiting = []
        for item in recipients:
            refusal = commands.recipient_problem(item.recipient, self.offer, self.hop.host)
            if refusal is None:
                waiting.append(item)
            else:
                refused[item.recipient_id] = refusal
        try:
            async with asyncio.timeout(self._patience.transaction):
                while waiting:
                    waiting = await self._transaction(parcel, waiting, outcomes)
        except TimeoutError:
            self.abandon()
            self._rest(waiting, outcomes, deferred("4.4.2", f"{self.hop}: the transaction took too long"))
        except Broken as broken:
            end = deferred("4.4.2", f"{self.hop}: {broken}")
            if not outcomes:
                raise Unreachable(end) from None
            self._rest(waiting, outcomes, end)
        return refused | outcomes

    async def _transaction(
        self, parcel: Parcel, recipients: Sequence[OutboundRecipient], outcomes: dict[int, Outcome]
    ) -> list[OutboundRecipient]:
        """Run one transaction and add to `outcomes`; return the recipients that need another one. Raises Broken."""
        self.transactions += 1
        answer = await self._line.command(*commands.mail(parcel, [item.recipient for item in recipients], self.offer))
        if not answer.good:
            if answer.code == CLOSING and not outcomes:
                self.abandon()
                raise Unreachable(from_reply(answer.code, answer.text, self.hop.host))
            self._rest(recipients, outcomes, self._outcome(answer))
            await self._reset(answer)
            return []
        accepted, again = [], []
        for item in recipients:
            answer = await self._line.command(*commands.rcpt(item.recipient, self.offer))
            outcome = self._outcome(answer)
            if answer.good:
                accepted.append(item)
            elif answer.code == CLOSING:
                self.abandon()
                if not outcomes:
                    raise Unreachable(outcome)
                self._rest(recipients, outcomes, outcome)
                return []
            elif too_many(answer.code, outcome, len(accepted)):
                again.append(item)
            else:
                outcomes[item.recipient_id] = outcome
        if accepted:
            outcome = await self._content(parcel)
            self._rest(accepted, outcomes, outcome)
            if not outcome.relayed or not self.usable:
                self._rest(again, outcomes, outcome if not outcome.relayed else self._later())
                return []
        else:
            await self._reset(answer)
        return again

    async def _content(self, parcel: Parcel) -> Outcome:
        """Send DATA and the octets. A broken connection counts as deferred, never as relayed."""
        try:
            answer = await self._line.ask_to_send()
            if answer.code == 354:
                answer = await self._line.send(commands.stuffed(parcel.content))
                if answer.good:
                    return self._outcome(answer)
            elif answer.code < 400:
                self.abandon()
                return deferred("4.5.0", f"{self.hop}: the server answered DATA with {answer.code} instead of 354")
        except Broken as broken:
            return deferred("4.4.2", f"{self.hop}: {broken}")
        await self._reset(answer)
        return self._outcome(answer)

    def _outcome(self, answer: Answer) -> Outcome:
        return from_reply(answer.code, answer.text, self.hop.host, dsn_passed_on=answer.good and self.offer.dsn)

    def _later(self) -> Outcome:
        return deferred("4.5.3", f"{self.hop}: the server accepts no more recipients on this connection")

    @staticmethod
    def _rest(recipients: Sequence[OutboundRecipient], outcomes: dict[int, Outcome], outcome: Outcome) -> None:
        for item in recipients:
            outcomes.setdefault(item.recipient_id, outcome)

    async def _reset(self, answer: Answer) -> None:
        """End a transaction in which no message was accepted."""
        if answer.code == CLOSING or not self._line.open_still:
            self.abandon()
            return
        try:
            if not (await self._line.command(b"RSET")).good:
                await self._line.close()
        except Broken:
            return  # the transaction has ended anyway
