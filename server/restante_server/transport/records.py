"""Messages and recipients as values, before they are inserted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from restante_mail.mime.facts import Facts
from restante_server.store.listing import Listing
from restante_server.store.staging import Staged
from restante_server.transport.states import State


class Recipient(NamedTuple):
    """One recipient of an envelope."""

    forward_path: str
    notify: int = 0  # sum of 1 << Notify; 0: not given
    original_recipient: str = ""  # ORCPT as given
    junk: bool = False  # the verdict about the checks: into Junk
    remark: str = ""  # its reason


class Envelope(NamedTuple):
    """The envelope of a message as received, with its syntax checked."""

    reverse_path: str  # "": the null path
    recipients: list[Recipient]
    dsn_return: int = 0
    envelope_id: str = ""  # ENVID as given, xtext
    smtputf8: bool = False
    body_8bit: bool = False


class Planned(NamedTuple):
    """A recipient row to insert: PENDING with a mailbox or a destination, or already settled (EXPANDED, FAILED)."""

    forward_path: str
    state: State = State.PENDING
    notify: int = 0
    original_recipient: str = ""
    mailbox_id: int = 0  # local ones
    message_id: int = 0  # in that mailbox, once delivered
    destination: str = ""  # foreign ones: domain in A-labels, or an address literal
    status: str = ""
    diagnostic: str = ""
    promised: bool = False  # accepted at RCPT: a full mailbox does not fail it
    junk: bool = False  # into Junk because of the checks
    remark: str = ""  # the reason of the verdict about the checks
    reported: bool = False  # an expansion to several targets, of which the sender wants a report


@dataclass(frozen=True, slots=True)
class SentCopy:
    """The copy for the sender's Sent folder. Without `staged` it shares the content of the sent message."""

    mailbox_id: int
    folder_id: int
    flags: int
    listing: Listing
    staged: Staged | None = None


class StoredMessage(NamedTuple):
    """A message in a mailbox."""

    mailbox_id: int
    message_id: int


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message that the core is about to accept."""

    reverse_path: str  # "": the null path
    staged: Staged
    listing: Listing
    recipients: tuple[Planned, ...]
    accepted_at: int  # microseconds
    trace_field: bytes = b""
    source: str = ""  # client address or account, shown to administrators
    dsn_return: int = 0
    envelope_id: str = ""
    smtputf8: bool = False
    body_8bit: bool = False
    tls_optional: bool = False  # policies about TLS do not hold it up
    account_id: int | None = None  # the submitter; None: received from another server
    subject: str = ""  # of submissions
    signing_domain: str = ""  # of the author, in A-labels; "": not signed
    forwarder: str = ""  # domain of the alias that sends mail from elsewhere on to other servers, in A-labels; "": none
    internet_message_id: str = ""
    send_at: int | None = None
    sent: SentCopy | None = None
    uploads: tuple[bytes, ...] = ()  # used up by this message
    checks: bytes = b""  # serialised results of the checks; empty: not checked
    stored: StoredMessage | None = None  # the stored message it was made from; a draft then leaves its folder

    @property
    def size_octets(self) -> int:
        """The size in the form in which it is sent to other servers."""
        return len(self.trace_field) + self.staged.size_octets


class Origin(NamedTuple):
    """The columns of a message that reports, deliveries and leases need."""

    transport_id: int
    reverse_path: str
    content_id: int | None
    trace_field: bytes
    size_octets: int
    dsn_return: int
    envelope_id: str
    accepted_at: int
    send_at: int | None
    account_id: int | None


def message_id(facts: Facts) -> str:
    """The Message-ID with its angle brackets; "" when there is none."""
    return f"<{facts.summary.message_id}>" if facts.summary.message_id else ""
