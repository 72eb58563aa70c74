"""Contents: the octets of messages, pins that keep them, and uploads."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, Table, Text, text

from restante_server.db.schema.base import HOLDS_CONTENT, NAMES_CONTENT, RowId, metadata

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
