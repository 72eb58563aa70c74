"""The decision at delivery: one `Disposition` for a message and the state of the recipient's mailbox. *Pure.*

This module decides once about every local recipient, whether the message was received, submitted, scheduled or is a
report. No other module decides about an Inbox or a quota.
"""

from __future__ import annotations

from typing import NamedTuple

from restante_server.transport.states import State


class Inbox(NamedTuple):
    """The recipient's mailbox at the time of the delivery."""

    folder_id: int
    room_octets: int | None  # left after the earlier letters of the set, negative above the quota; None: no quota
    junk_folder_id: int = 0  # 0: the mailbox has no Junk folder, or none is needed

    def has_room(self, octets: int) -> bool:
        """Whether a message of this size fits."""
        return self.room_octets is None or octets <= self.room_octets

    def after(self, octets: int) -> Inbox:
        """The same mailbox with one more message of this size."""
        return (
            self if self.room_octets is None else Inbox(self.folder_id, self.room_octets - octets, self.junk_folder_id)
        )


class Disposition(NamedTuple):
    """The outcome of the delivery to one recipient."""

    state: State  # DELIVERED or FAILED
    status: str  # enhanced status code (RFC 3463)
    reason: str = ""  # one line for the trace, and for the report of a failure; "": the status suffices
    folder_id: int = 0  # target folder of a delivery


GONE = Disposition(State.FAILED, "5.1.1", "the mailbox was removed after the message was accepted")
FULL = Disposition(State.FAILED, "5.2.2", "the mailbox is full")
PRESENT = Disposition(State.DELIVERED, "2.1.5", "delivered with another recipient's copy into the same mailbox")
TO_JUNK = "delivered to Junk"
NO_JUNK = "delivered to the Inbox for want of a Junk folder"
OVERDRAWN = "delivered above the quota, because the recipient was accepted before the mailbox was full"


def dispose(
    size_octets: int, inbox: Inbox | None, *, promised: bool, junk: bool = False, remark: str = ""
) -> Disposition:
    """Decide about a message of this size, its head included. `inbox` is None where the mailbox is gone.

    The gateway accepted `promised` recipients at RCPT, when there was room: they get the message even above the quota.
    `junk` is the verdict about the message's checks, and `remark` its reason. A mailbox without a Junk folder gets the
    message in its Inbox.
    """
    if inbox is None:
        return GONE
    folder_id, reason = inbox.folder_id, remark
    if junk:
        folder_id = inbox.junk_folder_id or inbox.folder_id
        reason = f"{TO_JUNK if inbox.junk_folder_id else NO_JUNK}: {remark}"
    if inbox.has_room(size_octets):
        return Disposition(State.DELIVERED, "2.1.5", reason, folder_id)
    if promised:
        return Disposition(State.DELIVERED, "2.1.5", f"{OVERDRAWN}; {reason}" if reason else OVERDRAWN, folder_id)
    return FULL
