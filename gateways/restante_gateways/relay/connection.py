"""One SMTP connection to another server: one transaction after another (RFC 5321)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from restante.v1.transport_pb2 import OutboundRecipient
from restante_gateways.relay import commands
from restante_gateways.relay.commands import Offer, Parcel
from restante_gateways.relay.login import log_in
from restante_gateways.relay.opening import opened
from restante_gateways.relay.outcomes import Outcome, deferred
from restante_gateways.relay.peer import Broken, Line, Patience
from restante_gateways.relay.routes import Hop
from restante_gateways.relay.tls.security import Security
from restante_gateways.relay.transaction import Transaction, Unreachable

MAX_TRANSACTIONS = 100  # of one connection


class Connection:
    """A connection after EHLO. `transact` sends one message."""

    def __init__(self, line: Line, hop: Hop, offer: Offer, patience: Patience) -> None:
        self._line, self.hop, self.offer, self._patience = line, hop, offer, patience
        self.transactions = 0
        self.idle_since = 0.0

    @classmethod
    async def open(cls, hop: Hop, own_name: str, security: Security, patience: Patience) -> Connection:
        """Connect, with TLS as the rule of the hop demands, and log in where it says so. Raises Unreachable."""
        line, offer = await opened(hop, hop.end.name or own_name, security, patience)
        if hop.login is not None:
            try:
                await log_in(line, offer, hop, hop.login)
            except BaseException:
                line.abandon()
                raise
        return cls(line, hop, offer, patience)

    @property
    def usable(self) -> bool:
        """Whether another transaction may begin."""
        return self.is_open and self.transactions < MAX_TRANSACTIONS

    @property
    def is_open(self) -> bool:
        """Whether neither side has closed it, to the knowledge of this process."""
        return self._line.open_still

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
                    self.transactions += 1
                    waiting = await Transaction(self._line, self.hop, self.offer, parcel, outcomes).run(waiting)
                    if waiting and not self.usable:
                        self._rest(waiting, outcomes, self._later())
                        break
        except TimeoutError:
            self.abandon()
            self._rest(waiting, outcomes, deferred("4.4.2", f"{self.hop}: the transaction took too long"))
        except Broken as broken:
            end = deferred("4.4.2", f"{self.hop}: {broken}")
            if not outcomes:
                raise Unreachable(end) from None
            self._rest(waiting, outcomes, end)
        return refused | outcomes

    def _later(self) -> Outcome:
        return deferred("4.5.3", f"{self.hop}: the server accepts no more recipients on this connection")

    @staticmethod
    def _rest(recipients: Sequence[OutboundRecipient], outcomes: dict[int, Outcome], outcome: Outcome) -> None:
        for item in recipients:
            outcomes.setdefault(item.recipient_id, outcome)
