"""Turning the envelope and octets of a message from another server into the message to accept (RFC 5321 6.1)."""

from __future__ import annotations

from collections.abc import Sequence

from restante.errors import MailLoop, RecipientNotFound
from restante_server.directory.lookup import AddressKind, Resolution
from restante_server.store.listing import listing_of
from restante_server.transport import route
from restante_server.transport.inbound.intake import Arrived
from restante_server.transport.records import Envelope, Incoming, Planned, message_id


def plan_recipients(envelope: Envelope, resolutions: Sequence[Resolution], arrived: Arrived) -> tuple[Planned, ...]:
    """The recipient rows; the gateway accepted each recipient at RCPT.

    Raises RecipientNotFound when no recipient is local, MailLoop when every delivery would be a loop.
    """
    if not any(found.kind in (AddressKind.LOCAL, AddressKind.ALIAS) for found in resolutions):
        raise RecipientNotFound(address=envelope.recipients[0].forward_path)
    planned = route.plan(resolutions, envelope.recipients, may_relay=False, promised=True, had=arrived.had)
    if route.loops_everywhere(planned):
        raise MailLoop(problem="the message has been delivered to every recipient before")
    return planned


def accepted(
    envelope: Envelope, planned: tuple[Planned, ...], arrived: Arrived, *, trace_field: str, source: str, now: int
) -> Incoming:
    """The message to accept. `source` is the client's address, `now` in microseconds."""
    facts = arrived.staged.facts
    assert facts is not None  # it is a message
    return Incoming(
        reverse_path=envelope.reverse_path,
        staged=arrived.staged,
        listing=listing_of(facts),
        recipients=planned,
        accepted_at=now,
        trace_field=trace_field.encode("ascii"),
        source=source,
        dsn_return=envelope.dsn_return,
        envelope_id=envelope.envelope_id,
        smtputf8=envelope.smtputf8,
        body_8bit=envelope.body_8bit,
        internet_message_id=message_id(facts),
    )
