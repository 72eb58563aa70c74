"""Delivery to waiting local recipients: those beyond `direct_deliveries` of an acceptance, of scheduled mail, of
reports.

Several cores may work on the same message: the operation locks the transport message and reads the states again, and
writes the state and the message's id to the recipient's row in the transaction that places the message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select

from restante_server.db.clock import now_microseconds
from restante_server.db.schema import transport_message, transport_recipient
from restante_server.store import contents
from restante_server.store.contents import Stored
from restante_server.store.listing import Listing
from restante_server.transport import rows
from restante_server.transport.inbound.deliver import Addressee, Delivery, Letter, deliver, reached
from restante_server.transport.inbound.dispose import GONE
from restante_server.transport.outbound import recipients
from restante_server.transport.outbound.dsn import Action
from restante_server.transport.outbound.recipients import Postponement, Row, Settlement
from restante_server.transport.records import Origin
from restante_server.transport.settings import TransportSettings
from restante_server.transport.states import State

AT_ONCE = 256  # recipients in one transaction
_local = (transport_recipient.c.state == int(State.PENDING), transport_recipient.c.destination == "")
_due = (
    select(
        transport_recipient.c.transport_id,
        transport_recipient.c.mailbox_id,
        transport_message.c.content_id,
        transport_message.c.accepted_at,
        transport_message.c.checks,
    )
    .join(transport_message, transport_message.c.transport_id == transport_recipient.c.transport_id)
    .where(*_local, transport_recipient.c.next_attempt_at <= bindparam("moment"))
    .order_by(transport_recipient.c.next_attempt_at, transport_recipient.c.transport_id)
    .limit(AT_ONCE)
)


class Due(NamedTuple):
    """A message with local recipients that are due."""

    transport_id: int
    stored: Stored
    mailbox_ids: frozenset[int]
    accepted_at: int  # microseconds
    checks: bytes  # serialised


def due(tx: Connection) -> list[Due]:
    """Messages with local recipients that are due, at most AT_ONCE recipients."""
    mailboxes: dict[int, set[int]] = {}
    content_of: dict[int, int] = {}
    accepted: dict[int, tuple[int, bytes]] = {}
    for transport_id, mailbox_id, content_id, *facts in tx.execute(_due, {"moment": now_microseconds(tx)}):
        accepted[transport_id] = (facts[0], bytes(facts[1]))
        mailboxes.setdefault(transport_id, set()).add(mailbox_id)
        content_of[transport_id] = content_id
    stored = contents.load(tx, content_of.values())
    return [
        Due(transport_id, stored[content_of[transport_id]], frozenset(wanted), *accepted[transport_id])
        for transport_id, wanted in mailboxes.items()
    ]


@dataclass(frozen=True, slots=True)
class DeliverWaiting:
    """Deliver one message to its waiting mailboxes. See db.operation.Operation."""

    settings: TransportSettings
    work: Due
    listing: Listing

    @property
    def mailboxes(self) -> frozenset[int]:
        """The mailboxes of the recipients."""
        return self.work.mailbox_ids

    @property
    def contents(self) -> frozenset[int]:
        """The content of the message."""
        return frozenset({self.work.stored.content_id})

    @property
    def rows(self) -> int:
        """The approximate number of rows written."""
        return 6 * len(self.work.mailbox_ids)

    @property
    def octets(self) -> int:
        """Zero: the content is in the store already."""
        return 0

    def run(self, tx: Connection) -> None:
        """See Operation."""
        now = now_microseconds(tx)
        origins = rows.lock(tx, [self.work.transport_id])
        here = transport_recipient.c.mailbox_id.in_(sorted(self.work.mailbox_ids))
        ready = transport_recipient.c.next_attempt_at <= now
        waiting = recipients.of_messages(tx, origins, *_local, here, ready)
        if waiting:
            self._deliver(tx, origins[self.work.transport_id], waiting, now)

    def _deliver(self, tx: Connection, origin: Origin, waiting: list[Row], now: int) -> None:
        addressees = [
            Addressee(row.recipient_id, row.mailbox_id, row.forward_path, row.promised, row.junk, row.remark)
            for row in waiting
            if row.mailbox_id is not None
        ]
        letter = Letter(
            origin.transport_id,
            origin.reverse_path,
            origin.trace_field,
            self.work.stored.content_id,
            self.work.stored.size_octets,
            self.listing,
            addressees,
            now,
            reached=reached(tx, origin.transport_id),
        )
        (delivery,) = deliver(tx, [letter])
        ends = [_settlement(row, delivery) for row in waiting]
        recipients.settle(tx, self.settings, {origin.transport_id: origin}, ends, now)


def _settlement(row: Row, delivery: Delivery) -> Settlement:
    end = delivery.dispositions.get(row.recipient_id, GONE)
    action = Action.DELIVERED if end.state is State.DELIVERED else Action.FAILED
    message_id = delivery.message_of(row.recipient_id, row.mailbox_id)
    return Settlement(row, end.state, end.status, end.reason, action, message_id=message_id or None)


@dataclass(frozen=True, slots=True)
class Postpone:
    """Postpone the local recipients of a message whose delivery failed with an internal error."""

    settings: TransportSettings
    transport_id: int
    problem: str
    mailboxes: frozenset[int] = frozenset()
    rows: int = 2
    octets: int = 0

    def run(self, tx: Connection) -> None:
        """See Operation."""
        now = now_microseconds(tx)
        origins = rows.lock(tx, [self.transport_id])
        later = now + self.settings.schedule.first_retry
        waiting = recipients.of_messages(tx, origins, *_local, transport_recipient.c.next_attempt_at <= now)
        recipients.postpone(tx, [Postponement(row, later, "4.3.0", self.problem, 1) for row in waiting], now)
