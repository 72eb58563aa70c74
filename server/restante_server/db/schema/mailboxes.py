"""Mailboxes: folders, messages, their listings, removals and requests."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, Table, Text, UniqueConstraint, text

from restante_server.db.schema.base import HOLDS_CONTENT, NAMES_CONTENT, RowId, metadata

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
