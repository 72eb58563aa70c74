"""TLS with other servers: MTA-STS policies, counted sessions, reports that are due."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, Table, Text, text

from restante_server.db.schema.base import metadata

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
