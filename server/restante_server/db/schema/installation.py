"""The installation: the store itself, its secrets, and sessions that have ended."""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, LargeBinary, Table, Text

from restante_server.db.schema.base import metadata

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
    Column("number", Integer, primary_key=True, autoincrement=False),  # 1, 2, ...; the highest is in use
    Column("sealed", LargeBinary, nullable=False),  # by a sealing key, and sealed anew when that is replaced
    Column("created_at", BigInteger, nullable=False),
    comment="Secrets that outlive the sealing keys, in versions: that of rewritten reverse-paths.",
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
