"""The directory: domains and their keys, accounts, their credentials, aliases."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from restante_server.db.schema.base import RowId, metadata

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
    Column("greylisting", Boolean, nullable=False, server_default="0"),
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
