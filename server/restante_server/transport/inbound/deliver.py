"""Into mailboxes: where the Inbox is, what is put before the content, and the key that makes it once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, and_, bindparam, insert, select

from restante_server.db import prepared
from restante_server.db.schema import account, delivered, folder, mailbox
from restante_server.store.folders import Role
from restante_server.store.listing import Listing
from restante_server.store.messages import NewMessage, Placement
from restante_server.store.runs import JsonRows, encode_rows, join_from
from restante_server.transport.states import State

MAX_HEAD_OCTETS = 8 << 10
GONE = (State.FAILED, "5.1.1", "no such recipient any more")
FULL = (State.FAILED, "5.2.2", "the mailbox is full")
DELIVERED_STATUS = "2.1.5"


class Inbox(NamedTuple):
    """Where a mailbox takes mail, and how full it is."""

    folder_id: int
    quota_octets: int | None
    used_octets: int

    def has_room(self, octets: int) -> bool:
        return self.quota_octets is None or self.used_octets + octets <= self.quota_octets


_wanted = JsonRows("mailboxes")
_inboxes = select(mailbox.c.mailbox_id, folder.c.folder_id, mailbox.c.quota_octets, mailbox.c.used_octets).select_from(
    join_from(
        join_from(
            join_from(_wanted.rows, mailbox, mailbox.c.mailbox_id == _wanted.item(0)),
            account,
            account.c.mailbox_id == mailbox.c.mailbox_id,
        ),
        folder,
        and_(folder.c.mailbox_id == mailbox.c.mailbox_id, folder.c.role == int(Role.INBOX)),
    )
)
_insert_delivered = insert(delivered)
_reached = select(delivered.c.mailbox_id, delivered.c.message_id).where(
    delivered.c.mailbox_id.in_(bindparam("mailboxes", expanding=True)), delivered.c.transport_id == bindparam("id")
)


def inboxes(tx: Connection, mailbox_ids: Iterable[int]) -> dict[int, Inbox]:
    """The Inbox of each mailbox that has an owner; the others are left out."""
    ids = sorted(set(mailbox_ids))
    if not ids:
        return {}
    rows = prepared.rows(tx, _inboxes, {"mailboxes": encode_rows((mailbox_id,) for mailbox_id in ids)})
    return {row[0]: Inbox(row[1], row[2], row[3]) for row in rows}


def head(reverse_path: str, address: str, trace_field: bytes) -> bytes:
    """What is put before the content at delivery (RFC 5321 4.4): Return-Path, Delivered-To, Received."""
    made = f"Return-Path: <{reverse_path}>\r\nDelivered-To: {address}\r\n".encode() + trace_field
    return made if len(made) <= MAX_HEAD_OCTETS else made[: len(made) - len(trace_field)]


def placement(
    mailbox_id: int, inbox: Inbox, content_id: int, content_size: int, listing: Listing, front: bytes, now: int
) -> Placement:
    """One message for an Inbox."""
    message = NewMessage(content_id, content_size, listing, head=front, received_at=now)
    return Placement(mailbox_id, inbox.folder_id, message)


def reached(tx: Connection, transport_id: int, mailbox_ids: Iterable[int]) -> dict[int, int]:
    """{mailbox: message} of the mailboxes that this acceptance has reached before."""
    ids = sorted(set(mailbox_ids))
    return {row[0]: row[1] for row in tx.execute(_reached, {"mailboxes": ids, "id": transport_id})} if ids else {}


def remember(tx: Connection, keys: Sequence[tuple[int, int, int, int]], now: int) -> None:
    """Write the key of each delivery: (mailbox, transport id, recipient id, message)."""
    rows: list[dict[str, Any]] = [
        {
            "mailbox_id": mailbox_id,
            "transport_id": transport_id,
            "recipient_id": recipient_id,
            "message_id": message_id,
            "created_at": now,
        }
        for mailbox_id, transport_id, recipient_id, message_id in keys
    ]
    prepared.run_many(tx, _insert_delivered, rows)
