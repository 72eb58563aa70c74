"""Mail in motion: messages, their recipients, holds, the trace, addresses that failed."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, Table, Text, text

from restante_server.db.schema.base import HOLDS_CONTENT, RowId, metadata

transport_message = Table(
    "transport_message",
    metadata,
    Column("transport_id", RowId, primary_key=True),
    Column("reverse_path", Text, nullable=False),  # "" is the null path
    Column("content_id", BigInteger, info=HOLDS_CONTENT),  # NULL once every recipient is settled
    Column("trace_field", LargeBinary, nullable=False),  # the Received field, for the head
    Column("size_octets", BigInteger, nullable=False),
    Column("dsn_return", Integer, nullable=False),
    Column("envelope_id", Text, nullable=False),  # ENVID as given, xtext
    Column("smtputf8", Boolean, nullable=False),
    Column("body_8bit", Boolean, nullable=False),
    Column("tls_optional", Boolean, nullable=False),  # TLS reports, which no policy about TLS holds up (RFC 8460 3)
    Column("source", Text, nullable=False),  # client address or account, shown to administrators
    Column("account_id", BigInteger),  # the submitter; NULL: received from another server, or a report
    Column("subject", Text, nullable=False),  # of submissions, shown to their owner
    Column("signing_domain", Text, nullable=False),  # of the author, whose keys sign what leaves; "": not signed
    Column("forwarder", Text, nullable=False),  # domain of the alias that sends mail from elsewhere on; "": none
    Column("internet_message_id", Text, nullable=False),
    Column("send_at", BigInteger),
    Column("accepted_at", BigInteger, nullable=False),
    Column("checks", LargeBinary, nullable=False),  # serialised restante.v1.MessageChecks; empty: not checked
    # Received messages have no account, and settled ones no content: neither index has them.
    Index(
        "ix_transport_message_account",
        "account_id",
        "transport_id",
        sqlite_where=text("account_id IS NOT NULL"),
        postgresql_where=text("account_id IS NOT NULL"),
    ),
    Index(None, "internet_message_id"),
    Index(None, "reverse_path"),
    Index(
        "ix_transport_message_scheduled",
        "account_id",
        "send_at",
        sqlite_where=text("send_at IS NOT NULL"),
        postgresql_where=text("send_at IS NOT NULL"),
    ),
    Index(
        "ix_transport_message_content",
        "content_id",
        sqlite_where=text("content_id IS NOT NULL"),
        postgresql_where=text("content_id IS NOT NULL"),
    ),
    Index("ix_transport_message_age", "accepted_at"),
    sqlite_autoincrement=True,
)

transport_recipient = Table(
    "transport_recipient",
    metadata,
    Column("transport_id", BigInteger, primary_key=True, autoincrement=False),
    Column("recipient_id", Integer, primary_key=True, autoincrement=False),  # 1, 2, ... within the message
    Column("forward_path", Text, nullable=False),
    Column("original_recipient", Text, nullable=False),  # ORCPT as given
    Column("notify", Integer, nullable=False),  # sum of 1 << NotifyCondition; 0: not given
    Column("state", Integer, nullable=False),  # RecipientState
    Column("mailbox_id", BigInteger),  # of local recipients
    Column("message_id", BigInteger),  # in that mailbox, once delivered; recipients of one mailbox share it
    Column("destination", Text, nullable=False),  # of foreign recipients; "" for local ones
    Column("sender", BigInteger, nullable=False),  # the submitter's account; 0: other mail, all of which takes one turn
    Column("promised", Boolean, nullable=False),  # accepted at RCPT: delivered even beyond the quota
    Column("junk", Boolean, nullable=False),  # goes to Junk because of the checks
    Column("remark", Text, nullable=False, server_default=""),  # the reason of the verdict about the checks
    Column("next_attempt_at", BigInteger),  # NULL in final states
    Column("attempt_count", Integer, nullable=False),
    Column(
        "warn_at", BigInteger
    ),  # of foreign ones: a delay is then reported; NULL: it was, or the recipient is settled
    Column("lease_id", BigInteger),
    Column("lease_expires_at", BigInteger),
    Column("status", Text, nullable=False),
    Column("diagnostic", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),  # the queue then gives up
    # Settled recipients, which are nearly all, are in none of these six.
    Index(
        "ix_transport_recipient_due",
        "state",
        "next_attempt_at",
        sqlite_where=text("next_attempt_at IS NOT NULL"),
        postgresql_where=text("next_attempt_at IS NOT NULL"),
    ),
    Index(
        "ix_transport_recipient_warning",
        "state",
        "warn_at",
        sqlite_where=text("warn_at IS NOT NULL"),
        postgresql_where=text("warn_at IS NOT NULL"),
    ),
    Index(
        "ix_transport_recipient_lease",
        "lease_id",
        sqlite_where=text("lease_id IS NOT NULL"),
        postgresql_where=text("lease_id IS NOT NULL"),
    ),
    # Leases are chosen from the next two, by destination and by sender in turn (`outbound.candidates`). Their
    # conditions mean the same, but SQLite takes each for different spellings, so that a statement names its index.
    Index(
        "ix_transport_recipient_lane",
        "destination",
        "sender",
        "next_attempt_at",
        "transport_id",
        "recipient_id",
        sqlite_where=text("state = 2 AND destination <> ''"),
        postgresql_where=text("state = 2 AND destination <> ''"),
    ),
    Index(
        "ix_transport_recipient_sender",
        "sender",
        "state",  # always the same: SQLite then prefers this index to the one on `due`
        "next_attempt_at",
        "transport_id",
        "recipient_id",
        sqlite_where=text("state = 2 AND destination > ''"),
        postgresql_where=text("state = 2 AND destination > ''"),
    ),
    # Lists of the queue, and operations on it, go by message (`transport.selection`).
    Index(
        "ix_transport_recipient_waiting",
        "transport_id",
        "recipient_id",
        sqlite_where=text("next_attempt_at IS NOT NULL"),
        postgresql_where=text("next_attempt_at IS NOT NULL"),
    ),
    Index("ix_transport_recipient_path", "forward_path"),
    sqlite_with_rowid=False,
)

# Mail that leaves and is held when it is due (`transport.outbound.holds`), until an administrator ends the hold.
transport_hold = Table(
    "transport_hold",
    metadata,
    Column("kind", Integer, primary_key=True, autoincrement=False),  # holds.Kind
    Column("value", Text, primary_key=True),  # reverse-path ("" is the null path), forward-path or destination
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    sqlite_with_rowid=False,
)

trace_event = Table(
    "trace_event",
    metadata,
    Column("event_id", RowId, primary_key=True),
    Column("transport_id", BigInteger, nullable=False),
    Column("recipient_id", Integer, nullable=False),  # 0: the message
    Column("happened_at", BigInteger, nullable=False),
    Column("state", Integer, nullable=False),  # RecipientState
    Column("detail", Text, nullable=False),
    Index(None, "transport_id", "event_id"),
    Index("ix_trace_event_age", "happened_at"),
)

kept_path = Table(
    "kept_path",
    metadata,
    Column("path_key", Text, primary_key=True),  # srs.KeptPath
    Column("path", Text, nullable=False),  # as the mail had it
    Column("used_at", BigInteger, nullable=False, index=True),  # the last day on which a message was sent on, about
    comment="Long reverse-paths of mail that an alias has sent on, so that reports find the way back.",
)

failed_address = Table(
    "failed_address",
    metadata,
    Column("address_key", Text, primary_key=True),  # Path.key
    Column("domain", Text, nullable=False, index=True),  # A-labels
    Column("address", Text, nullable=False),  # in its own spelling
    Column("status", Text, nullable=False),
    Column("diagnostic", Text, nullable=False),
    Column("failed_at", BigInteger, nullable=False, index=True),
    comment="Addresses of other domains to which mail has failed because they do not exist: senders get a warning.",
)
