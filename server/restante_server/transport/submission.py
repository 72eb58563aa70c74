"""Turning a submission of an account into the message to accept (RFC 6409; docs/design.md "Outbound mail")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Connection

from restante.errors import RecipientNotFound, TooManyRecipients
from restante.v1.admin_pb2 import SentCopyPolicy
from restante_server.directory import accounts, addresses, rights
from restante_server.directory.lookup import AddressKind, Resolution, resolve_many
from restante_server.store import folders
from restante_server.store.folders import Role
from restante_server.store.listing import Listing, listing_of
from restante_server.store.selection import FLAG_SEEN
from restante_server.store.staging import Contents, Staged
from restante_server.transport import route
from restante_server.transport.outbound import outgoing, senders
from restante_server.transport.outbound.authors import Authorship
from restante_server.transport.outbound.outgoing import Source
from restante_server.transport.records import Envelope, Incoming, SentCopy, StoredMessage, message_id
from restante_server.transport.settings import TransportSettings

MAX_SUBJECT = 500  # characters kept of a submission's subject
POSTMASTER = "postmaster"  # RFC 5321 4.1.1.3: without a domain


class Submitter(NamedTuple):
    """The submitting account."""

    account_id: int
    mailbox_id: int
    address: str


@dataclass(frozen=True, slots=True)
class Submission:
    """A message as an account submits it, with the authorship read from its header."""

    submitter: Submitter
    source: Source
    authorship: Authorship
    envelope: Envelope
    now: int  # microseconds
    trace_field: str | None = None  # the SMTP gateway's; None: submitted through the API
    send_at: int | None = None  # microseconds
    uploads: Sequence[bytes] = ()  # used up by this submission
    message_id: int | None = None  # the message in the submitter's mailbox that it is made from

    @property
    def by_smtp(self) -> bool:
        """Whether the message came by SMTP, with the gateway's trace field and recipients checked at RCPT."""
        return self.trace_field is not None


class Judged(NamedTuple):
    """The directory's answer to a submission."""

    resolutions: list[Resolution]
    sent_folder_id: int | None  # target of the sender's copy; None: no copy


def with_recipients(
    source: Source, authorship: Authorship, envelope: Envelope, settings: TransportSettings
) -> Envelope:
    """The envelope; one without recipients gets those of the header (`outgoing.recipients_of`).

    Raises TooManyRecipients; when it reads the header also NoRecipients, InvalidAddress.
    """
    given = envelope.recipients or outgoing.recipients_of(source, authorship)
    if len(given) > settings.max_recipients:
        raise TooManyRecipients(limit=settings.max_recipients)
    return envelope._replace(recipients=given)


def judge(tx: Connection, submission: Submission) -> Judged:
    """Check that the account may send as this author, and resolve the recipients.

    Raises SenderNotPermitted, InvalidAddress, RecipientNotFound.
    """
    account_id, mailbox_id, _ = submission.submitter
    path, written = submission.envelope.reverse_path, submission.authorship
    paths = [recipient.forward_path for recipient in submission.envelope.recipients]
    senders.require(tx, account_id, [*written.claims, *([("reverse-path", path)] if path else [])])
    if written.is_resent:
        senders.require_resending(tx, account_id, written.originals, paths)
    for forward_path in paths:
        if forward_path.casefold() != POSTMASTER:
            addresses.parse(forward_path)
    resolutions = resolve_many(tx, paths)
    for found in resolutions:
        if found.kind is AddressKind.UNKNOWN:
            raise RecipientNotFound(address=found.address)
    policy = accounts.get_by_id(tx, account_id).sent_copy
    keeps_copy = policy == SentCopyPolicy.SENT_COPY_POLICY_ALWAYS or (
        policy != SentCopyPolicy.SENT_COPY_POLICY_NEVER and not submission.by_smtp
    )
    sent = folders.with_role(tx, rights.system(mailbox_id), Role.SENT) if keeps_copy else None
    return Judged(resolutions, sent.folder_id if sent is not None else None)


async def prepare(contents: Contents, settings: TransportSettings, submission: Submission, judged: Judged) -> Incoming:
    """The message to accept, with its octets staged. Raises MessageTooLarge, InvalidContent, StoreFull."""
    submitter, source, envelope = submission.submitter, submission.source, submission.envelope
    moment = datetime.fromtimestamp(submission.now // 1_000_000, UTC)
    header = outgoing.headers(source, settings, moment, submitter.address)
    staged = await outgoing.stage(contents, source, header.sent)
    facts = staged.facts
    assert facts is not None  # it is a message
    listing = listing_of(facts)
    sent: SentCopy | None = None
    if judged.sent_folder_id is not None:
        kept = await outgoing.stage(contents, source, header.kept) if header.kept != header.sent else None
        sent = _sent_copy(submitter.mailbox_id, judged.sent_folder_id, kept, listing)
    stored = submission.message_id
    return Incoming(
        reverse_path=envelope.reverse_path,
        staged=staged,
        listing=listing,
        # An SMTP gateway has checked each recipient at RCPT; an API client has checked none.
        recipients=route.plan(judged.resolutions, envelope.recipients, may_relay=True, promised=submission.by_smtp),
        accepted_at=submission.now,
        trace_field=_trace_field(submission, settings),
        source=submitter.address,
        dsn_return=envelope.dsn_return,
        envelope_id=envelope.envelope_id,
        smtputf8=envelope.smtputf8 or _needs_smtputf8(envelope),
        body_8bit=envelope.body_8bit,
        account_id=submitter.account_id,
        signing_domain=_signing_domain(submission),
        subject=facts.summary.subject.replace("\0", "").encode("utf-8", "replace").decode()[:MAX_SUBJECT],
        internet_message_id=message_id(facts),
        send_at=submission.send_at,
        sent=sent,
        uploads=tuple(submission.uploads),
        stored=StoredMessage(submitter.mailbox_id, stored) if stored is not None else None,
    )


def _signing_domain(submission: Submission) -> str:
    """The domain of the first author. A resent message is not signed: its author has not sent it."""
    written = submission.authorship
    if written.is_resent:
        return ""
    author = next((address for field, address in written.claims if field == "From"), submission.submitter.address)
    return addresses.parse(author).ascii_domain


def _trace_field(submission: Submission, settings: TransportSettings) -> bytes:
    if submission.trace_field is None:
        return outgoing.received(settings, submission.now)
    return submission.trace_field.encode("ascii")


def _sent_copy(mailbox_id: int, folder_id: int, kept: Staged | None, listing: Listing) -> SentCopy:
    shown = listing if kept is None or kept.facts is None else listing_of(kept.facts)
    return SentCopy(mailbox_id, folder_id, FLAG_SEEN, shown, kept)


def _needs_smtputf8(envelope: Envelope) -> bool:
    """Whether an address of the envelope needs SMTPUTF8 (RFC 6531 3.1).

    A non-ASCII header alone does not need it: clients without SMTPUTF8 support send such headers, and servers of all
    ages accept them. Requiring SMTPUTF8 of the next server would turn accepted mail into a bounce.
    """
    return not (envelope.reverse_path.isascii() and all(one.forward_path.isascii() for one in envelope.recipients))
