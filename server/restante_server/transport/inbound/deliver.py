"""Delivery of a set of messages into mailboxes; all mail of the transport enters a mailbox here.

`deliver` lets `dispose` decide about each recipient and places the messages. The caller writes the end of each delivery
and its message to the recipient's row, in the same transaction and under the lock of the accepted message. The message
therefore reaches a mailbox once, however many recipients resolve to the mailbox and however often a delivery is tried.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from sqlalchemy import Connection, and_, bindparam, select

from restante_server.db import prepared
from restante_server.db.schema import account, folder, mailbox, transport_recipient
from restante_server.directory import rights
from restante_server.store import messages
from restante_server.store.folders import Role
from restante_server.store.listing import Listing
from restante_server.store.messages import NewMessage, Placed, Placement
from restante_server.store.runs import JsonRows, encode_rows, join_from
from restante_server.transport.inbound.dispose import PRESENT, Disposition, Inbox, dispose
from restante_server.transport.states import State

MAX_HEAD_OCTETS = 8 << 10
NOWHERE: Mapping[int, int] = MappingProxyType({})


class Addressee(NamedTuple):
    """One local recipient of a letter."""

    recipient_id: int
    mailbox_id: int
    forward_path: str
    promised: bool  # accepted at RCPT
    junk: bool = False  # the verdict about the checks: into Junk
    remark: str = ""  # its reason


class Letter(NamedTuple):
    """One message to deliver. The transaction has locked the mailboxes; the content is in the store."""

    transport_id: int
    reverse_path: str  # "": the null path
    trace_field: bytes
    content_id: int
    content_octets: int
    listing: Listing
    addressees: Sequence[Addressee]
    now: int  # time of the delivery, microseconds
    content_is_new: bool = False  # see NewMessage
    copy: Placement | None = None  # the sender's copy, which no quota stops
    reached: Mapping[int, int] = NOWHERE  # {mailbox: message} of earlier transactions


class Delivery(NamedTuple):
    """The result for one letter."""

    dispositions: dict[int, Disposition]  # by recipient
    copy: Placed | None
    messages: dict[int, int]  # {mailbox: message} of all mailboxes that have the letter

    def message_of(self, recipient_id: int, mailbox_id: int | None) -> int:
        """The message of a recipient to whom the letter was delivered; 0 for the others."""
        end = self.dispositions.get(recipient_id)
        return self.messages[mailbox_id or 0] if end is not None and end.state is State.DELIVERED else 0


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
_junk = select(folder.c.mailbox_id, folder.c.folder_id).select_from(
    join_from(
        _wanted.rows,
        folder,
        and_(folder.c.mailbox_id == _wanted.item(0), folder.c.role == int(Role.JUNK)),
    )
)
_reached = select(transport_recipient.c.mailbox_id, transport_recipient.c.message_id).where(
    transport_recipient.c.transport_id == bindparam("id"), transport_recipient.c.message_id.is_not(None)
)


def inboxes(tx: Connection, mailbox_ids: Iterable[int]) -> dict[int, Inbox]:
    """The Inbox of each mailbox that has an owner; the others are left out."""
    ids = sorted(set(mailbox_ids))
    if not ids:
        return {}
    rows = prepared.rows(tx, _inboxes, {"mailboxes": encode_rows((mailbox_id,) for mailbox_id in ids)})
    return {row[0]: Inbox(row[1], None if row[2] is None else row[2] - row[3]) for row in rows}


def junk_folders(tx: Connection, mailbox_ids: Collection[int]) -> dict[int, int]:
    """The Junk folder of each of the mailboxes that has one."""
    if not mailbox_ids:
        return {}
    return dict(prepared.rows(tx, _junk, {"mailboxes": encode_rows((one,) for one in sorted(mailbox_ids))}))


def reached(tx: Connection, transport_id: int) -> dict[int, int]:
    """{mailbox: message} for the mailboxes to which earlier transactions have delivered this message."""
    return dict(prepared.rows(tx, _reached, {"id": transport_id}))


def deliver(tx: Connection, letters: Sequence[Letter]) -> list[Delivery]:
    """Deliver letters with one statement for each table; returns their results in order.

    Each letter sees the room that the earlier ones of the set have left. Raises the errors of `messages.add_all` except
    QuotaExceeded (for instance FolderNotFound for a copy's folder), having written nothing.
    """
    found = inboxes(tx, (one.mailbox_id for letter in letters for one in letter.addressees))
    to_junk = {one.mailbox_id for letter in letters for one in letter.addressees if one.junk}
    for mailbox_id, folder_id in junk_folders(tx, to_junk & found.keys()).items():
        found[mailbox_id] = found[mailbox_id]._replace(junk_folder_id=folder_id)
    sorted_out = [_Sorting(letter, found) for letter in letters]
    placements = [placement for sorting in sorted_out for placement in sorting.placements]
    placed = iter(messages.add_all(tx, placements, within_quota=False))
    results: list[Delivery] = []
    for letter, sorting in zip(letters, sorted_out, strict=True):
        at = dict(letter.reached)
        for mailbox_id in sorting.new:
            at[mailbox_id] = next(placed).message_id
        results.append(Delivery(sorting.dispositions, next(placed) if letter.copy is not None else None, at))
    return results


class _Sorting:
    """The decisions about one letter. Subtracts the room that the letter uses from the inboxes in `found`."""

    __slots__ = ("dispositions", "new", "placements")

    def __init__(self, letter: Letter, found: dict[int, Inbox]) -> None:
        self.dispositions: dict[int, Disposition] = {}  # by recipient
        self.new: list[int] = []  # mailboxes, in order of the placements
        self.placements: list[Placement] = []
        there = set(letter.reached)
        for recipient_id, mailbox_id, forward_path, promised, junk, remark in letter.addressees:
            if mailbox_id in there:
                self.dispositions[recipient_id] = PRESENT
                continue
            front = head(letter.reverse_path, forward_path, letter.trace_field)
            octets = len(front) + letter.content_octets
            inbox = found.get(mailbox_id)
            end = self.dispositions[recipient_id] = dispose(octets, inbox, promised=promised, junk=junk, remark=remark)
            if end.state is not State.DELIVERED or inbox is None:
                continue
            there.add(mailbox_id)
            found[mailbox_id] = inbox.after(octets)
            self.new.append(mailbox_id)
            message = NewMessage(
                letter.content_id,
                letter.content_octets,
                letter.listing,
                head=front,
                received_at=letter.now,
                content_is_new=letter.content_is_new,
            )
            self.placements.append(Placement(rights.system(mailbox_id, end.folder_id), message))
        if letter.copy is not None:
            self.placements.append(letter.copy)


def head(reverse_path: str, address: str, trace_field: bytes) -> bytes:
    """The header fields that delivery puts before the content: Return-Path, Delivered-To, Received (RFC 5321 4.4)."""
    made = f"Return-Path: <{reverse_path}>\r\nDelivered-To: {address}\r\n".encode() + trace_field
    return made if len(made) <= MAX_HEAD_OCTETS else made[: len(made) - len(trace_field)]
