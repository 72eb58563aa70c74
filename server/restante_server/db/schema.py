"""All tables and indexes, with their reasons.

The primary key of mailbox data begins with `mailbox_id`, and every statement names it (ids are unique within a mailbox
only). Times are microseconds since 1970-01-01 UTC in BIGINT columns named `..._at`, which compare and sort alike on
every database. Sets of ids are packed runs (`restante_mail.idset`), never long lists.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# On SQLite only INTEGER PRIMARY KEY is the rowid, which SQLite assigns; elsewhere BIGINT.
RowId = BigInteger().with_variant(Integer(), "sqlite")

# Marks a column that names a content as holding it or not; the collector removes contents that no column holds.
HOLDS_CONTENT = {"holds": "content"}
NAMES_CONTENT = {"names": "content"}

# --- The installation -------------------------------------------------------------------------------------------

store = Table(
    "store",
    metadata,
    Column("store_id", Integer, primary_key=True, autoincrement=False),  # always 1
    Column("store_uuid", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),  # raised by restore and by promoting an incomplete standby
    Column("uid_validity_next", BigInteger, nullable=False),  # a counter, never the clock (docs/design.md "Epoch")
    Column("created_at", BigInteger, nullable=False),
    CheckConstraint("store_id = 1", name="single"),
    comment="One row: facts of the whole store.",
)

sealing_key = Table(
    "sealing_key",
    metadata,
    Column("key_id", Integer, primary_key=True, autoincrement=False),
    Column("secret", LargeBinary, nullable=False),  # 32 octets, AES-256-GCM
    Column("created_at", BigInteger, nullable=False),
    comment="Keys that seal session tokens, exchanges and cursors. Any core can open what another sealed.",
)

lasting_secret = Table(
    "lasting_secret",
    metadata,
    Column("name", Text, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),  # by a sealing key, and sealed anew when that is replaced
    Column("created_at", BigInteger, nullable=False),
    comment="Secrets that outlive the sealing keys: that of rewritten reverse-paths.",
)

revoked_session = Table(
    "revoked_session",
    metadata,
    Column("session_id", BigInteger, primary_key=True, autoincrement=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("ix_revoked_session_expiry", "expires_at"),
    comment="Sessions that were logged off, until no token of theirs can be good any more.",
)

used_exchange = Table(
    "used_exchange",
    metadata,
    Column("exchange_id", BigInteger, primary_key=True, autoincrement=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("ix_used_exchange_expiry", "expires_at"),
    comment="SASL exchanges that have come back once.",
)

# --- Directory --------------------------------------------------------------------------------------------------

domain = Table(
    "domain",
    metadata,
    Column("domain_id", RowId, primary_key=True),
    Column("ascii_name", Text, nullable=False, unique=True),  # A-labels, lower case
    Column("name", Text, nullable=False),  # as given
    Column("catch_all", Text),  # address key of an account or alias here
    Column("resending", Integer, nullable=False),  # ResendingPolicy: permitted recipients of resent mail
    Column("failed_dmarc", Integer, nullable=False, server_default="2"),  # FailedCheckPolicy, here and below
    Column(
        "forged_sender", Integer, nullable=False, server_default="2"
    ),  # mail from outside that claims a local domain
    Column("created_at", BigInteger, nullable=False),
)

domain_key = Table(
    "domain_key",
    metadata,
    Column("key_id", RowId, primary_key=True),
    Column("domain_id", BigInteger, nullable=False),
    Column("selector", Text, nullable=False),  # lower case
    Column("algorithm", Integer, nullable=False),  # SigningAlgorithm
    Column("state", Integer, nullable=False),  # DomainKeyState
    Column("public_key", LargeBinary, nullable=False),  # the octets of p= in the DNS record
    Column("private_key", LargeBinary),  # PKCS #8, sealed by a sealing key; NULL once revoked
    Column("prepared_at", BigInteger, nullable=False),
    Column("activated_at", BigInteger),
    Column("retired_at", BigInteger),
    Column("publish_until", BigInteger),  # of retired ones
    Column("revoked_at", BigInteger),
    ForeignKeyConstraint(["domain_id"], ["domain.domain_id"], ondelete="CASCADE"),
    UniqueConstraint("domain_id", "selector"),
    Index(
        "ix_domain_key_active",
        "domain_id",
        "algorithm",
        unique=True,
        sqlite_where=text("state = 2"),
        postgresql_where=text("state = 2"),
    ),
    sqlite_autoincrement=True,  # an id is never reused, because caches know a key by it
    comment="Keys that sign a domain's outbound mail (DKIM).",
)

account = Table(
    "account",
    metadata,
    Column("account_id", RowId, primary_key=True),
    Column("domain_id", BigInteger, nullable=False),
    Column("address", Text, nullable=False),  # as spelled
    Column("address_key", Text, nullable=False, unique=True),  # NFC, lower case, domain in A-labels
    Column("display_name", Text, nullable=False, server_default=""),
    Column("name_key", Text, nullable=False, server_default=""),  # display_name folded, for name resolution
    Column("enabled", Boolean, nullable=False),
    Column("administrator", Boolean, nullable=False),
    Column("sent_copy", Integer, nullable=False),  # SentCopyPolicy
    Column("credential_version", BigInteger, nullable=False),  # sessions with a lower version have ended
    Column("mailbox_id", BigInteger, nullable=False, unique=True),
    Column("created_at", BigInteger, nullable=False),
    ForeignKeyConstraint(["domain_id"], ["domain.domain_id"]),
    Index(None, "domain_id", "address_key"),
    Index(None, "name_key"),
    sqlite_autoincrement=True,  # an id is never reused, because sessions and request ids refer to it
)

account_change = Table(
    "account_change",
    metadata,
    Column("account_id", BigInteger, primary_key=True, autoincrement=False),
    Column("credential_version", BigInteger, nullable=False),  # sessions with a lower version have ended
    Column("changed_at", BigInteger, nullable=False),  # by the database's clock
    Index("ix_account_change_age", "changed_at"),
    comment="Accounts changed or deleted within the last hour, so that every core hears of it within seconds.",
)

credential = Table(
    "credential",
    metadata,
    Column("account_id", BigInteger, primary_key=True, autoincrement=False),
    Column("credential_id", Integer, primary_key=True, autoincrement=False),  # 1: the account's password
    Column("kind", Integer, nullable=False),  # directory.credentials.CredentialKind: password, app password, SCRAM
    Column("verifier", Text, nullable=False),  # PHC string
    Column("scopes", Integer, nullable=False),  # sum of 1 << Scope
    Column("label", Text, nullable=False, server_default=""),
    Column("version", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    ForeignKeyConstraint(["account_id"], ["account.account_id"], ondelete="CASCADE"),
)

alias = Table(
    "alias",
    metadata,
    Column("alias_id", RowId, primary_key=True),
    Column("domain_id", BigInteger, nullable=False),
    Column("address", Text, nullable=False),
    Column("address_key", Text, nullable=False, unique=True),
    Column("targets", Text, nullable=False),  # JSON list of addresses as given
    Column("created_at", BigInteger, nullable=False),
    ForeignKeyConstraint(["domain_id"], ["domain.domain_id"]),
    Index(None, "domain_id", "address_key"),
)

login_failure = Table(
    "login_failure",
    metadata,
    Column("failure_key", Text, primary_key=True),  # keyed digest of the address, or of address and account
    Column("failures", Integer, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Index(None, "last_at"),
    comment="Failed logins, so that every core slows the same guesser.",
)

# --- Mailboxes --------------------------------------------------------------------------------------------------

mailbox = Table(
    "mailbox",
    metadata,
    Column("mailbox_id", RowId, primary_key=True),
    Column("account_id", BigInteger),  # NULL once the account is deleted; upkeep then removes the mailbox
    Column("change_number", BigInteger, nullable=False),  # the mailbox's counter; every writer locks this row
    Column("next_message_id", BigInteger, nullable=False),
    Column("next_folder_id", BigInteger, nullable=False),
    Column("quota_octets", BigInteger),  # NULL: no limit
    Column("used_octets", BigInteger, nullable=False),
    Column("message_count", BigInteger, nullable=False),
    Column("recoverable_octets", BigInteger, nullable=False),
    Column("recoverable_count", BigInteger, nullable=False),
    Column("history_from", BigInteger, nullable=False),  # all tombstones above this change number are kept
    Column("created_at", BigInteger, nullable=False),
    sqlite_autoincrement=True,  # an id is never reused, because cursors and deliveries refer to it
)

folder = Table(
    "folder",
    metadata,
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),
    Column("folder_id", BigInteger, primary_key=True, autoincrement=False),
    Column("parent_folder_id", BigInteger, nullable=False),  # 0: at the top
    Column("display_name", Text, nullable=False),
    Column("role", Integer, nullable=False),  # FolderRole
    Column("change_number", BigInteger, nullable=False),
    Column("uid_validity", BigInteger, nullable=False),
    Column("uid_next", BigInteger, nullable=False),
    Column("recent_uid", BigInteger, nullable=False),
    Column("message_count", BigInteger, nullable=False),
    Column("unread_count", BigInteger, nullable=False),
    Column("deleted_count", BigInteger, nullable=False),  # messages with FLAG_DELETED
    Column("size_octets", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("mailbox_id", "parent_folder_id", "display_name"),
    sqlite_with_rowid=False,
)

subscription = Table(
    "subscription",
    metadata,
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),
    Column("path", Text, primary_key=True),  # names joined by "/"
    comment="Names, whether or not a folder is there (RFC 3501 6.3.6).",
)

message = Table(
    "message",
    metadata,
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),
    Column("message_id", BigInteger, primary_key=True, autoincrement=False),
    Column("folder_id", BigInteger),  # NULL: deleted, recoverable or removed (see the tables of these names)
    Column("uid", BigInteger),  # NULL with folder_id
    Column("flags", Integer, nullable=False),
    Column("keywords", Text, nullable=False, server_default=""),  # "" or " a b ": ascending, a space around each
    Column("change_number", BigInteger, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("received_offset_minutes", Integer, nullable=False),
    Column("size_octets", BigInteger, nullable=False),  # head and content
    Column("content_id", BigInteger, nullable=False, info=HOLDS_CONTENT),
    Column("listed_in", BigInteger, nullable=False),  # the mailbox_id under which the listing of the content lies
    Column("head", LargeBinary, nullable=False),  # fields added at delivery, 8 KiB at most; empty for APPEND
    Index(
        "uq_message_place",
        "mailbox_id",
        "folder_id",
        "uid",
        unique=True,
        sqlite_where=text("folder_id IS NOT NULL"),
        postgresql_where=text("folder_id IS NOT NULL"),
    ),
    Index(
        "ix_message_change",
        "mailbox_id",
        "folder_id",
        "change_number",
        sqlite_where=text("folder_id IS NOT NULL"),
        postgresql_where=text("folder_id IS NOT NULL"),
    ),
    Index("ix_message_content", "content_id"),  # for the collector's check whether any row holds a content
    sqlite_with_rowid=False,
)

keyword = Table(
    "keyword",
    metadata,
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),
    Column("keyword_key", Text, primary_key=True),  # lower case: letter case never matters (RFC 3501 2.3.2)
    Column("keyword", Text, nullable=False),  # in its first spelling, which every message uses
    comment="The keywords of a mailbox: their spelling, and how many there are, without reading its messages.",
)

listing = Table(
    "listing",
    metadata,
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),  # of the content's first message
    Column("content_id", BigInteger, primary_key=True, autoincrement=False, info=NAMES_CONTENT),
    Column("envelope", LargeBinary, nullable=False),  # IMAP ENVELOPE, finished octets
    Column("body_structure", LargeBinary, nullable=False),  # IMAP BODYSTRUCTURE, finished octets
    Column("body", LargeBinary, nullable=False),  # IMAP BODY, finished octets
    Column("summary", LargeBinary, nullable=False),  # serialised restante.v1.MessageSummary
    Column("preview", Text, nullable=False),
    Column("attachment_count", Integer, nullable=False),
    Column("sent_at", BigInteger),  # the time of the Date field; NULL: none
    Column("sent_offset_minutes", Integer, nullable=False),  # the zone of the Date field
    Column("subject_key", Text, nullable=False),  # folded, for search and sort
    Column("sort_subject_key", Text, nullable=False),  # folded base subject (RFC 5256 2.1)
    Column("sort_from_key", Text, nullable=False),  # folded first address of From
    Column("from_key", Text, nullable=False),  # folded names and addresses
    Column("to_key", Text, nullable=False),
    Column("cc_key", Text, nullable=False),
    Column("bcc_key", Text, nullable=False),
    # One acceptance makes one content, so the results of its checks are a fact of the content.
    Column("checks", LargeBinary, nullable=False),  # serialised restante.v1.MessageChecks; empty: not checked
    Column("check_results", Integer, nullable=False),  # the result of each method, see store.restriction.CheckMethod
    sqlite_with_rowid=False,
    comment="What lists show of a content, apart from its octets, for all messages that have it, in any mailbox.",
)

recoverable = Table(
    "recoverable",
    metadata,
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),
    Column("message_id", BigInteger, primary_key=True, autoincrement=False),
    Column("from_folder_id", BigInteger, nullable=False),
    Column("deleted_at", BigInteger, nullable=False),
    Index(None, "mailbox_id", "deleted_at"),
    sqlite_with_rowid=False,
)

removed = Table(
    "removed",
    metadata,
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),
    Column("message_id", BigInteger, primary_key=True, autoincrement=False),
    Column("expires_at", BigInteger, nullable=False),  # by the database's clock
    Index("ix_removed_expiry", "expires_at"),
    sqlite_with_rowid=False,
    comment="Messages removed for good, whose rows stay a little for readers that have not been told; in no quota.",
)

tombstone = Table(
    "tombstone",
    metadata,
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),
    Column("change_number", BigInteger, primary_key=True, autoincrement=False),
    Column("folder_id", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", Integer, nullable=False),  # store.changes.Removal: soft, hard, moved, folder deleted
    Column("target_folder_id", BigInteger, nullable=False),  # of moved messages; else 0
    Column("uids", LargeBinary, nullable=False),  # packed runs
    Column("message_ids", LargeBinary, nullable=False),  # packed runs
    Column("created_at", BigInteger, nullable=False),
    Index("ix_tombstone_age", "created_at"),
    sqlite_with_rowid=False,
    comment="Removals, kept 30 days for those who copy a mailbox.",
)

request = Table(
    "request",
    metadata,
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),  # 0: not bound to one mailbox
    Column("actor", Text, primary_key=True),  # "account:7" or "gateway:smtp"
    Column("request_id", LargeBinary, primary_key=True),  # 16 octets
    Column("method", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),  # digest of the request
    Column("response", LargeBinary, nullable=False),  # ids and numbers from which the answer is rebuilt
    Column("expires_at", BigInteger, nullable=False),
    Index("ix_request_expiry", "expires_at"),
    sqlite_with_rowid=False,
    comment="What has been done under a request_id, written in the transaction that did it.",
)

maildrop_lease = Table(
    "maildrop_lease",
    metadata,
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),
    Column("lease", LargeBinary, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

# --- Contents ---------------------------------------------------------------------------------------------------

content = Table(
    "content",
    metadata,
    Column("content_id", RowId, primary_key=True, info=NAMES_CONTENT),
    Column("digest", LargeBinary, nullable=False),  # SHA-256, for integrity checks only; never leaves the core
    Column("size_octets", BigInteger, nullable=False),
    Column("place", Integer, nullable=False),  # store.contents.Location: database, file
    Column("file_name", Text),  # relative to the contents directory, for files
    Column("state", Integer, nullable=False),  # store.contents.ContentState: live, dead
    Column("structure", LargeBinary, nullable=False),  # mime.parts.encode: the part tree with offsets
    Column("listed_in", BigInteger),  # the listing's mailbox_id; NULL: no message has had the content
    Column("created_at", BigInteger, nullable=False),
    Index("ix_content_dead", "state", sqlite_where=text("state = 2"), postgresql_where=text("state = 2")),
    sqlite_autoincrement=True,  # an id is never reused, because pins refer to it
)

content_octets = Table(
    "content_octets",
    metadata,
    Column("content_id", RowId, primary_key=True, autoincrement=False, info=NAMES_CONTENT),
    Column("octets", LargeBinary, nullable=False),
)

content_pin = Table(
    "content_pin",
    metadata,
    Column("content_id", BigInteger, primary_key=True, autoincrement=False, info=HOLDS_CONTENT),
    Column("pin_id", BigInteger, primary_key=True, autoincrement=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("ix_content_pin_expiry", "expires_at"),
    comment="Keeps a content that no message names yet: uploads, acceptances under way.",
)

content_garbage = Table(
    "content_garbage",
    metadata,
    Column("content_id", BigInteger, primary_key=True, autoincrement=False, info=NAMES_CONTENT),
    Column("noticed_at", BigInteger, nullable=False),
    comment="Contents that a row or pin has let go of: the collector looks again before it removes one.",
)

upload = Table(
    "upload",
    metadata,
    Column("upload_id", LargeBinary, primary_key=True),  # 16 random octets
    Column("account_id", BigInteger, nullable=False),
    Column("kind", Integer, nullable=False),  # UploadKind
    Column("received_octets", BigInteger, nullable=False),  # as sent
    Column("content_id", BigInteger, info=HOLDS_CONTENT),  # NULL: not finished
    Column("line_ends_changed", Boolean, nullable=False),
    Column("request_id", LargeBinary),
    Column("expires_at", BigInteger, nullable=False),
    Index("ix_upload_expiry", "expires_at"),
    Index("ix_upload_content", "content_id"),
    Index("ix_upload_account", "account_id"),  # for the limits on an account's uploads
)

upload_piece = Table(
    "upload_piece",
    metadata,
    Column("upload_id", LargeBinary, primary_key=True),
    Column("offset_octets", BigInteger, primary_key=True, autoincrement=False),
    Column("octets", LargeBinary, nullable=False),
)

# --- Transport --------------------------------------------------------------------------------------------------

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
    Column("warned", Boolean, nullable=False),  # the delay warning has been sent
    Column("lease_id", BigInteger),
    Column("lease_expires_at", BigInteger),
    Column("status", Text, nullable=False),
    Column("diagnostic", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),  # the queue then gives up
    # Settled recipients, which are nearly all, are in none of these five.
    Index(
        "ix_transport_recipient_due",
        "state",
        "next_attempt_at",
        sqlite_where=text("next_attempt_at IS NOT NULL"),
        postgresql_where=text("next_attempt_at IS NOT NULL"),
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

sts_policy = Table(
    "sts_policy",
    metadata,
    Column("domain", Text, primary_key=True),  # A-labels
    Column("record_id", Text, nullable=False),  # of the TXT record, when the policy was fetched
    Column("policy", LargeBinary, nullable=False),  # the file, at most 64 KiB
    Column("fetched_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("ix_sts_policy_expiry", "expires_at"),
    Index("ix_sts_policy_age", "fetched_at"),
    comment="MTA-STS policies that relays have fetched: they must outlive a relay (RFC 8461 10.2).",
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

tls_session = Table(
    "tls_session",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),  # days since 1970-01-01 UTC
    Column("digest", LargeBinary, primary_key=True),  # of all that is counted together, 16 octets
    Column("policy_domain", Text, nullable=False),
    Column("policy_kind", Integer, nullable=False),  # TlsPolicyKind
    Column("policy_lines", Text, nullable=False),  # JSON list of texts
    Column("mx_patterns", Text, nullable=False),  # JSON list of texts
    Column("result", Integer, nullable=False),  # TlsResultType; 0: the session met the policy
    Column("sending_address", Text, nullable=False),
    Column("receiving_host", Text, nullable=False),
    Column("receiving_address", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("session_count", BigInteger, nullable=False),
    Index(None, "policy_domain", "day"),
    comment="Counts of TLS sessions with other servers, for reports (RFC 8460).",
)

tls_report = Table(
    "tls_report",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),  # days since 1970-01-01 UTC
    Column("policy_domain", Text, primary_key=True),
    Column("record", Text, nullable=False),  # the domain's TXT record (RFC 8460 3)
    Column("settled", Boolean, nullable=False),  # the report was sent, or none is to be sent
    Column("reported_at", BigInteger),  # when it was sent
    Index(
        "ix_tls_report_due",
        "day",
        sqlite_where=text("NOT settled"),
        postgresql_where=text("NOT settled"),
    ),
    comment="Domains that want a report about their TLS sessions of a day.",
)

# --- DMARC reports ----------------------------------------------------------------------------------------------

dmarc_domain = Table(
    "dmarc_domain",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),  # days since 1970-01-01 UTC
    Column("policy_domain", Text, primary_key=True),  # A-labels
    Column("record", Text, nullable=False),  # the policy record, as last seen
    Column("report_to", Text, nullable=False),  # JSON list of the addresses that may get the report
    comment="Policy domains of which a report is due, one row a day.",
)

dmarc_row = Table(
    "dmarc_row",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("policy_domain", Text, primary_key=True),
    Column("digest", LargeBinary, primary_key=True),  # of `facts`
    Column("facts", Text, nullable=False),  # JSON of restante_mail.feedback.aggregate.Row
    Column("message_count", BigInteger, nullable=False),
    comment="What messages of one day and policy domain have in common, and their number.",
)

dmarc_report = Table(
    "dmarc_report",
    metadata,
    Column("report_id", RowId, primary_key=True),
    Column("direction", Integer, nullable=False),  # ReportDirection: sent or received
    Column("organization", Text, nullable=False),  # that wrote it
    Column("external_id", Text, nullable=False),  # its id in the report
    Column("policy_domain", Text, nullable=False),
    Column("begin_at", BigInteger, nullable=False),
    Column("end_at", BigInteger, nullable=False),
    Column("message_count", BigInteger, nullable=False),
    Column("failed_count", BigInteger, nullable=False),  # messages with neither DKIM nor SPF aligned
    Column("address", Text, nullable=False),  # recipients of a sent report, author of a received one
    Column("document", LargeBinary, nullable=False),  # the report as XML, compressed by GZIP
    Column("created_at", BigInteger, nullable=False),
    UniqueConstraint("direction", "organization", "policy_domain", "external_id", name="uq_dmarc_report"),
    Index("ix_dmarc_report_created", "created_at"),
    comment="Aggregate reports, sent to other domains and received about ours.",
)

report_cursor = Table(
    "report_cursor",
    metadata,
    Column("mailbox_id", BigInteger, primary_key=True, autoincrement=False),
    Column("message_id", BigInteger, nullable=False),  # messages up to it have been searched for reports
    comment="How far the mailboxes that receive reports have been read.",
)

# --- Jobs -------------------------------------------------------------------------------------------------------

job = Table(
    "job",
    metadata,
    Column("job_id", RowId, primary_key=True),
    Column("kind", Integer, nullable=False),  # JobKind
    Column("state", Integer, nullable=False),  # JobState
    Column("actor", Text, nullable=False),  # address of the account that began it, or "admin"
    Column("account_id", BigInteger),  # that account, whose right every step needs; NULL: the admin identity
    Column("subject", Text, nullable=False),  # an address, a directory or ""
    Column("place", Text, nullable=False),  # the only core that may run it, by machine and data directory; "": any
    Column("mailbox_id", BigInteger),  # the mailbox that a deletion removes
    Column("request", LargeBinary, nullable=False),  # the serialised request
    Column("cursor", LargeBinary, nullable=False),  # where the work goes on; its form is the kind's own
    Column("done", BigInteger, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("finding_count", BigInteger, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column(
        "attempts", Integer, nullable=False
    ),  # runs since the last committed step; a core that stops gives its own back
    Column("status", LargeBinary),  # serialised google.rpc.Status of a failure
    Column("lease_id", BigInteger),  # the run that may write; another core takes over when the lease has expired
    Column("lease_expires_at", BigInteger),  # by the database's clock
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("finished_at", BigInteger),  # set in final states
    Index("ix_job_state", "state", "kind", "job_id"),
    Index("ix_job_mailbox", "mailbox_id"),
    Index("ix_job_end", "finished_at"),
    sqlite_autoincrement=True,  # an id is never reused, because clients watch it
    comment="Work that takes long, kept 30 days after its end.",
)

job_finding = Table(
    "job_finding",
    metadata,
    Column("job_id", BigInteger, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),  # 1, 2, ... within the job
    Column("problem", Text, nullable=False),
    comment="Findings of a check: a bounded number for each job.",
)

CONTENT_HOLDERS: tuple[Column[int], ...] = tuple(
    column for table in metadata.sorted_tables for column in table.columns if column.info == HOLDS_CONTENT
)
"""All columns that hold a content: a content stays while a row of one of them names it."""
