"""Inserting a set of accepted messages: local recipients get them at once, the others wait.

Each table gets one statement, however many messages and recipients the set has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from restante_server.directory import rights
from restante_server.store import contents, garbage
from restante_server.store.messages import NewMessage, Placed, Placement
from restante_server.transport import rows
from restante_server.transport.inbound.deliver import Addressee, Delivery, Letter, deliver
from restante_server.transport.outbound import reports
from restante_server.transport.outbound.dsn import Action
from restante_server.transport.outbound.reports import Notice
from restante_server.transport.records import Incoming, Planned, SentCopy
from restante_server.transport.settings import TransportSettings
from restante_server.transport.states import State


class Taken(NamedTuple):
    """A message that the core has accepted."""

    transport_id: int
    sent: Placed | None = None  # the sender's copy
    refused: tuple[int, ...] = ()  # recipients refused by LMTP, as `lmtp` numbers them; without a sender's copy


def direct(item: Incoming, most: int) -> list[Addressee]:
    """The local recipients, at most `most`, that the accepting transaction delivers to; none of a scheduled message."""
    if item.send_at is not None:
        return []
    return [
        Addressee(number, planned.mailbox_id, planned.forward_path, planned.promised, planned.junk, planned.remark)
        for number, planned in enumerate(item.recipients, 1)
        if planned.mailbox_id and planned.state is State.PENDING
    ][:most]


def enqueue(tx: Connection, items: Sequence[Incoming], settings: TransportSettings) -> list[Taken]:
    """Insert messages and deliver to at most `direct_deliveries` mailboxes of each. The mailboxes must be locked.

    Raises StoreBusy when the pin of a staged content has lapsed, FolderNotFound when the folder of a sender's copy is
    gone.
    """
    if not items:
        return []
    now = items[0].accepted_at
    content_ids = _insert_contents(tx, items, now)
    addressees = [direct(item, settings.direct_deliveries) for item in items]
    waits = [
        sum(planned.state is State.PENDING for planned in item.recipients) > len(here)
        for item, here in zip(items, addressees, strict=True)
    ]
    held = [
        (item, content_id if waiting else None)
        for item, content_id, waiting in zip(items, content_ids, waits, strict=True)
    ]
    transport_ids = rows.insert_messages(tx, held)
    deliveries = deliver(
        tx,
        [_letter(tx, *facts) for facts in zip(items, transport_ids, content_ids, addressees, strict=True)],
    )
    ends = [_ends(item, delivery) for item, delivery in zip(items, deliveries, strict=True)]
    rows.insert_recipients(tx, zip(transport_ids, items, ends, strict=True), settings.schedule)
    for item, transport_id, content_id, ended in zip(items, transport_ids, content_ids, ends, strict=True):
        if notices := _notices(item, ended):
            reports.send(tx, settings, rows.origin(item, transport_id, content_id), content_id, notices, now)
    unheld = [
        content_id
        for content_id, waiting, delivery in zip(content_ids, waits, deliveries, strict=True)
        if not waiting and not delivery.messages
    ]
    garbage.notice(tx, unheld, now)
    return [
        Taken(transport_id, delivery.copy) for transport_id, delivery in zip(transport_ids, deliveries, strict=True)
    ]


def _insert_contents(tx: Connection, items: Sequence[Incoming], now: int) -> list[int]:
    """The id of each message's content; inserts new contents."""
    new = [item.staged.new for item in items if item.staged.new is not None]
    inserted = iter(contents.insert_many(tx, new, now))
    return [next(inserted) if item.staged.new is not None else item.staged.insert(tx, now) for item in items]


def _letter(
    tx: Connection, item: Incoming, transport_id: int, content_id: int, addressees: Sequence[Addressee]
) -> Letter:
    return Letter(
        transport_id,
        item.reverse_path,
        item.trace_field,
        content_id,
        item.staged.size_octets,
        item.listing,
        addressees,
        item.accepted_at,
        item.staged.new is not None,
        _copy(tx, item, item.sent, content_id) if item.sent is not None else None,
    )


def _copy(tx: Connection, item: Incoming, sent: SentCopy, content_id: int) -> Placement:
    """The placement of the sender's copy; a copy without `staged` shares the content of the sent message."""
    named = item.staged if sent.staged is None else sent.staged
    if sent.staged is not None:
        content_id = sent.staged.insert(tx, item.accepted_at)
    message = NewMessage(
        content_id,
        named.size_octets,
        sent.listing,
        flags=sent.flags,
        received_at=item.accepted_at,
        content_is_new=named.new is not None,
    )
    return Placement(rights.system(sent.mailbox_id, sent.folder_id), message)


def _ends(item: Incoming, delivery: Delivery) -> list[Planned]:
    """The recipients with their states at the end of this transaction."""
    ended = []
    for number, planned in enumerate(item.recipients, 1):
        end = delivery.dispositions.get(number)
        if end is not None:
            planned = planned._replace(
                state=end.state,
                status=end.status,
                diagnostic=end.reason,
                message_id=delivery.message_of(number, planned.mailbox_id),
            )
        elif item.send_at is not None and planned.state is State.PENDING:
            planned = planned._replace(state=State.SCHEDULED)
        ended.append(planned)
    return ended


def _notices(item: Incoming, ended: Sequence[Planned]) -> list[Notice]:
    """The settled recipients that the sender may want an immediate report of."""
    if not item.reverse_path:
        return []
    made = []
    for planned in ended:
        if planned.state is State.FAILED:
            action = Action.FAILED
        elif planned.state is State.DELIVERED and planned.notify:
            action = Action.DELIVERED
        elif planned.state is State.EXPANDED and planned.reported:
            action = Action.EXPANDED
        else:
            continue
        made.append(
            Notice(
                action,
                planned.forward_path,
                planned.original_recipient,
                planned.notify,
                planned.status,
                planned.diagnostic,
            )
        )
    return made
